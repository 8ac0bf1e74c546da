"""COLMAP's sparse models, binary or text, as COLMAP, pycolmap and hloc write them; a damaged file is one line.

By hand, since pycolmap takes a truncated ``cameras.bin`` for whole and reads on beyond the end of a truncated
``points3D.bin`` without an end. Formats: https://colmap.github.io/format.html; since 3.12 there are ``rigs`` and
``frames`` beside the three files that count here, in which each image still has its own pose.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError, one_line
from s2ld.files import read_text
from s2ld.sfm.mapping.camera_models import CAMERA_MODELS, ColmapCamera, later_name, parameter_count

PARTS = ("cameras", "images", "points3D")
FARTHEST = 1e12
"""Of a coordinate, in a model's unit: what is farther away is damaged."""
NO_POINT = 2**64 - 1  # a feature without a point; -1 in text


@dataclass(frozen=True)
class ColmapImage:
    """A registered image."""

    name: str
    camera: int
    """Key of `ColmapModel.cameras`."""
    pose: NDArray[np.float64]
    """(4, 4) world to camera."""
    points: NDArray[np.int64]
    """(k) rows of `ColmapModel.points` that it sees, ascending, no one twice."""


@dataclass(frozen=True)
class ColmapModel:
    """A sparse model."""

    cameras: Mapping[int, ColmapCamera]
    images: Sequence[ColmapImage]
    """By name."""
    points: NDArray[np.float64]
    """(P, 3) in the world."""
    colours: NDArray[np.uint8]
    """(P, 3) RGB, all equal where the tool took none from the images."""


def find_models(path: Path) -> list[Path]:
    """Return the folders of the models at `path`: itself, its ``sparse`` folder, or the numbered folders in either.

    Raises:
        S2LDError: there is none.
    """
    for base in (path, path / "sparse"):
        if _suffix(base):
            return [base]
        numbered = sorted((f for f in base.glob("*") if f.name.isdigit() and _suffix(f)), key=lambda f: int(f.name))
        if numbered:
            return numbered
    files = ", ".join(f"{part}.bin" for part in PARTS)
    raise S2LDError(f"{path}: no COLMAP model here ({files}, or .txt) nor in sparse or numbered folders; check --model")


def read_model(folder: Path) -> ColmapModel:
    """Read one model.

    Raises:
        S2LDError: a file is missing, damaged or truncated, the three do not belong together, a camera is of an unknown
            model, or there is no image or no point.
    """
    suffix = _suffix(folder)
    if not suffix:
        raise S2LDError(f"{folder}: no COLMAP model in this folder; it must hold {', '.join(PARTS)} as .bin or .txt")
    readers = _BINARY if suffix == ".bin" else _TEXT
    cameras, images, points = (
        _read(folder / f"{part}{suffix}", reader) for part, reader in zip(PARTS, readers, strict=True)
    )
    return _join(folder, cameras, images, points)


def check_written(folder: Path) -> None:
    """Read the files of a binary model that has just been written.

    Raises:
        OSError: one cannot be read.
        ValueError: one is not whole.
    """
    readers = {**dict(zip(PARTS, _BINARY, strict=True)), "rigs": _check_rigs, "frames": _check_frames}
    for part, reader in readers.items():
        path = folder / f"{part}.bin"
        if part not in PARTS and not path.is_file():  # COLMAP before 3.12 has none
            continue
        try:
            reader(path)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except S2LDError:
        raise
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this file ({error.strerror}); is the model complete?") from error
    except (ValueError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise S2LDError(f"{path}: damaged ({one_line(error)}); export the model anew") from error


def _join(folder: Path, cameras: dict[int, ColmapCamera], images: list[_Image], points: _Points) -> ColmapModel:
    def refuse(reason: str) -> NoReturn:
        raise S2LDError(f"{folder}: {reason}; export the model anew")

    if not images or not len(points.ids):
        refuse(f"a model of {len(images)} images and {len(points.ids)} points is of no use")
    if not (np.abs(points.xyz) < FARTHEST).all():
        refuse("a point is not finite, or too far away")
    if len(np.unique(points.ids)) != len(points.ids):
        refuse("a point is there twice")
    order = np.argsort(points.ids)
    found = []
    for image in sorted(images, key=lambda image: image.name):
        if image.camera not in cameras:
            refuse(f"{image.name} is of camera {image.camera}, which is not there")
        if not _is_below(image.name):
            refuse(f"{image.name!r} is no name of a file below a folder of images")
        seen = np.unique(image.points[image.points != NO_POINT])
        rows = np.minimum(np.searchsorted(points.ids, seen, sorter=order), len(order) - 1)
        if (points.ids[order[rows]] != seen).any():
            refuse(f"{image.name} sees a point that is not there")
        found.append(ColmapImage(image.name, image.camera, image.pose, np.sort(order[rows])))
    if len({image.name for image in found}) != len(found):
        refuse("two images have one name")
    return ColmapModel(cameras, found, points.xyz, points.rgb)


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    pose: NDArray[np.float64]
    points: NDArray[np.uint64]  # ids, NO_POINT


@dataclass(frozen=True)
class _Points:
    ids: NDArray[np.uint64]
    xyz: NDArray[np.float64]
    rgb: NDArray[np.uint8]


class _Bytes:
    """Takes little-endian values off a file; ValueError at its end."""

    def __init__(self, path: Path) -> None:
        self._data, self._at = path.read_bytes(), 0

    def take(self, form: str) -> tuple[Any, ...]:
        if struct.calcsize(f"<{form}") > len(self._data) - self._at:
            raise ValueError("it ends too early")
        values = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def text(self) -> str:
        end = self._data.index(b"\0", self._at)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text

    def table(self, rows: int, columns: str) -> NDArray[Any]:
        """Return `rows` times the types `columns` as a structured array."""
        kinds = {"d": "<f8", "Q": "<u8", "I": "<u4"}
        dtype = np.dtype([(f"f{i}", kinds[c]) for i, c in enumerate(columns)])
        if rows * dtype.itemsize > len(self._data) - self._at:
            raise ValueError("it ends too early")
        values = np.frombuffer(self._data, dtype, rows, self._at)
        self._at += rows * dtype.itemsize
        return values

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes too many")


def _binary_cameras(path: Path) -> dict[int, ColmapCamera]:
    data, cameras, names = _Bytes(path), {}, dict(enumerate(CAMERA_MODELS))
    for _ in range(data.take("Q")[0]):
        number, model, width, height = data.take("IiQQ")
        name = names.get(model) or later_name(path, model)
        cameras[number] = _camera(name, width, height, data.take(f"{parameter_count(path, name)}d"))
    data.end()
    return cameras


def _binary_images(path: Path) -> list[_Image]:
    data, images = _Bytes(path), []
    for _ in range(data.take("Q")[0]):
        numbers = data.take("I7dI")
        name = data.text()
        points = data.table(data.take("Q")[0], "ddQ")["f2"]
        images.append(_Image(name, numbers[8], _pose(numbers[1:5], numbers[5:8]), points))
    data.end()
    return images


def _binary_points(path: Path) -> _Points:
    data = _Bytes(path)
    ids, xyz, rgb = [], [], []
    for _ in range(data.take("Q")[0]):
        number, *values, _, track = data.take("Q3d3BdQ")
        data.table(track, "II")
        ids.append(number)
        xyz.append(values[:3])
        rgb.append(values[3:])
    data.end()
    return _points(np.array(ids, np.uint64), xyz, rgb)


def _check_rigs(path: Path) -> None:
    data = _Bytes(path)
    for _ in range(data.take("Q")[0]):
        _, sensors = data.take("II")
        data.take("iI" * min(sensors, 1))  # the one that the others refer to
        for _ in range(sensors - 1):
            has_pose = data.take("iI?")[2]
            data.take("7d" if has_pose else "")
    data.end()


def _check_frames(path: Path) -> None:
    data = _Bytes(path)
    for _ in range(data.take("Q")[0]):
        data.table(data.take("II7dI")[-1], "IIQ")
    data.end()


def _text_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for line in _lines(path):
        number, model, width, height, *params = line.split()
        if (count := parameter_count(path, model)) != len(params):
            raise ValueError(f"a {model} camera has {count} parameters, not {len(params)}")
        cameras[int(number)] = _camera(model, int(width), int(height), tuple(map(float, params)))
    return cameras


def _text_images(path: Path) -> list[_Image]:
    images = []
    lines = iter(_text(path).splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        _, *numbers, camera, name = line.split(maxsplit=9)
        values = tuple(map(float, numbers))
        features = _ids(next(lines, "").split()[2::3])
        images.append(_Image(name.strip(), int(camera), _pose(values[:4], values[4:7]), features))
    return images


def _text_points(path: Path) -> _Points:
    rows = [line.split(maxsplit=7)[:7] for line in _lines(path)]
    return _points(_ids([row[0] for row in rows]), [row[1:4] for row in rows], [row[4:] for row in rows])


def _points(ids: NDArray[np.uint64], xyz: Sequence[Any], rgb: Sequence[Any]) -> _Points:
    places, colours = (np.array(values, np.float64).reshape(-1, 3) for values in (xyz, rgb))
    return _Points(ids, places, np.nan_to_num(colours).clip(0, 255).astype(np.uint8))


def _ids(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return ids of points, -1 as `NO_POINT`; OverflowError where one is none."""
    return np.array([NO_POINT if text == "-1" else int(text) for text in texts], np.uint64)


_BINARY = (_binary_cameras, _binary_images, _binary_points)
_TEXT = (_text_cameras, _text_images, _text_points)


def _lines(path: Path) -> list[str]:
    return [line for line in _text(path).splitlines() if line.strip() and not line.startswith("#")]


def _text(path: Path) -> str:
    return read_text(path, "part of a model", "is the model complete?")


def _camera(model: str, width: int, height: int, params: Sequence[float]) -> ColmapCamera:
    if not (0 < width < 1 << 20 and 0 < height < 1 << 20 and np.isfinite(params).all() and params[0] > 0):
        raise ValueError(f"a {model} camera of {width} x {height} px with parameters {list(params)} cannot be")
    return ColmapCamera(model, (width, height), tuple(params))


def _pose(quaternion: Sequence[float], translation: Sequence[float]) -> NDArray[np.float64]:
    """Return (4, 4) world to camera of a rotation quaternion (w, x, y, z) and a translation."""
    q = np.array(quaternion, np.float64)
    if not (np.abs([*quaternion, *translation]) < FARTHEST).all() or not 0.9 < q @ q < 1.1:
        raise ValueError("a pose is no rotation and translation")
    w, x, y, z = q / np.linalg.norm(q)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = translation
    return pose


def _is_below(name: str) -> bool:
    """Return whether a name, which a stranger's model tells, stays in the folder that it is looked for in."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _suffix(folder: Path) -> str:
    """Return the ending of the files of a model, "" where there is none."""
    return next((s for s in (".bin", ".txt") if (folder / f"cameras{s}").is_file()), "")
