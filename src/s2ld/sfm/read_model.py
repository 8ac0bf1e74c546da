"""COLMAP's sparse models, binary or text, as COLMAP, pycolmap and hloc write them; a damaged file is one line.

The files are read here and not by pycolmap, which reads on beyond the end of a truncated ``points3D.bin`` without an
end. Formats: https://colmap.github.io/format.html; since 3.12 there are ``rigs`` and ``frames`` beside the three files
that count here, in which each image still has its own pose.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.files import read_text

CAMERA_MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
}
"""Parameters of each camera model; its place is its number in binary files."""
PARTS = ("cameras", "images", "points3D")
NO_POINT = -1  # uint64's largest, as int64: a feature without a point


@dataclass(frozen=True)
class ColmapCamera:
    """A camera, pixel centres at halves as COLMAP counts."""

    model: str
    """One of `CAMERA_MODELS`."""
    size: tuple[int, int]
    """Width and height, px."""
    params: tuple[float, ...]


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
    parts: list[Any] = []
    for part, reader in zip(PARTS, readers, strict=True):
        path = folder / f"{part}{suffix}"
        try:
            parts.append(reader(path))
        except S2LDError:
            raise
        except OSError as error:
            raise S2LDError(f"{path}: cannot read this file ({error.strerror}); is the model complete?") from error
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise S2LDError(f"{path}: damaged ({' '.join(str(error).split())}); export the model anew") from error
    return _join(folder, parts[0], parts[1], parts[2])


def _join(folder: Path, cameras: dict[int, ColmapCamera], images: list[_Image], points: _Points) -> ColmapModel:
    def refuse(reason: str) -> NoReturn:
        raise S2LDError(f"{folder}: {reason}; export the model anew")

    if not images or not len(points.ids):
        refuse(f"a model of {len(images)} images and {len(points.ids)} points is of no use")
    if not np.isfinite(points.xyz).all():
        refuse("a point is not finite")
    if len(np.unique(points.ids)) != len(points.ids):
        refuse("a point is there twice")
    order = np.argsort(points.ids)
    found = []
    for image in sorted(images, key=lambda image: image.name):
        if image.camera not in cameras:
            refuse(f"{image.name} is of camera {image.camera}, which is not there")
        seen = np.unique(image.points[image.points != NO_POINT])
        rows = np.minimum(np.searchsorted(points.ids, seen, sorter=order), len(order) - 1)
        if (points.ids[order[rows]] != seen).any():
            refuse(f"{image.name} sees a point that is not there")
        found.append(ColmapImage(image.name, image.camera, image.pose, np.sort(order[rows])))
    if len({image.name for image in found}) != len(found):
        refuse("two images have one name")
    return ColmapModel(cameras, found, points.xyz)


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    pose: NDArray[np.float64]
    points: NDArray[np.int64]  # ids, NO_POINT


@dataclass(frozen=True)
class _Points:
    ids: NDArray[np.int64]
    xyz: NDArray[np.float64]


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
        kinds = {"d": "<f8", "Q": "<i8", "I": "<u4"}
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
    data, cameras, names = _Bytes(path), {}, list(CAMERA_MODELS)
    for _ in range(data.take("Q")[0]):
        number, model, width, height = data.take("IiQQ")
        if not 0 <= model < len(names):
            raise ValueError(f"unknown camera model {model}")
        cameras[number] = _camera(names[model], width, height, data.take(f"{CAMERA_MODELS[names[model]]}d"))
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
    ids, xyz = [], []
    for _ in range(data.take("Q")[0]):
        number, x, y, z, *_, track = data.take("Q3d3BdQ")
        data.table(track, "II")
        ids.append(number)
        xyz.append((x, y, z))
    data.end()
    return _Points(np.array(ids, np.int64), np.array(xyz, np.float64).reshape(-1, 3))


def _text_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for line in _lines(path):
        number, model, width, height, *params = line.split()
        if CAMERA_MODELS.get(model) != len(params):
            raise ValueError(f"{model} with {len(params)} parameters is no known camera model")
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
        features = np.array(next(lines, "").split()[2::3], np.int64)
        images.append(_Image(name.strip(), int(camera), _pose(values[:4], values[4:7]), features))
    return images


def _text_points(path: Path) -> _Points:
    rows = [line.split(maxsplit=4)[:4] for line in _lines(path)]
    xyz = np.array([row[1:] for row in rows], np.float64).reshape(-1, 3)
    return _Points(np.array([int(row[0]) for row in rows], np.int64), xyz)


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
    if not np.isfinite([*quaternion, *translation]).all() or not 0.9 < q @ q < 1.1:
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


def _suffix(folder: Path) -> str:
    """Return the ending of the files of a model, "" where there is none."""
    return next((s for s in (".bin", ".txt") if (folder / f"cameras{s}").is_file()), "")
