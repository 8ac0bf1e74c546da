"""Index files of MegaDepth-like scenes: which images there are, their cameras, and which of them make pairs.

Two forms are read, told apart by their bytes:

- plain: a zip (``np.savez``) of ``image_paths``, ``depth_paths`` (unicode), ``intrinsics`` (n, 3, 3),
  ``poses`` (n, 4, 4), ``pairs`` (m, 2), ``overlap`` (m) and optionally ``angle_deg`` (m): nothing is unpickled;
- historical: a *pickled* dict called .npz, or a zip of arrays of objects, with ``pair_infos``, a list of
  ``((i, j), overlap, centres)``. Unpickling executes what a file asks for, so these go through an unpickler
  (`s2ld.data.safe_pickle`) that makes arrays, scalars and plain containers and refuses everything else.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.data.safe_pickle import safe_load
from s2ld.errors import S2LDError
from s2ld.files import whole_file

IMAGE_KEYS = ("image_paths", "depth_paths", "intrinsics", "poses")
PLAIN_KEYS = (*IMAGE_KEYS, "pairs", "overlap")


@dataclass(frozen=True)
class SceneIndex:
    """The images of a scene and the pairs of them; only images that some pair uses."""

    name: str
    """Stem of the index file."""
    image_paths: NDArray[np.str_]
    """(n,) relative to the data's root."""
    depth_paths: NDArray[np.str_]
    """(n,) relative to the data's root; "" where an image has none."""
    intrinsics: NDArray[np.float64]
    """(n, 3, 3) image px, pixel centres at integers."""
    poses: NDArray[np.float64]
    """(n, 4, 4) world to camera."""
    pairs: NDArray[np.int64]
    """(m, 2) rows of the arrays above."""
    overlap: NDArray[np.float32]
    """(m,) share of an image that the other one sees, in [0, 1]."""
    angle_deg: NDArray[np.float32] | None
    """(m,) triangulation angle, degrees; None where the index does not tell it."""

    def __len__(self) -> int:
        return len(self.pairs)

    def select(self, overlap: tuple[float, float] = (0.0, 1.0), max_angle: float = 180.0) -> NDArray[np.int64]:
        """Return the rows of `pairs` with overlap in [least, largest] and angle (if known) of at most `max_angle`."""
        keep = (self.overlap >= overlap[0]) & (self.overlap <= overlap[1])
        if self.angle_deg is not None:
            keep &= self.angle_deg <= max_angle
        return np.flatnonzero(keep)


def read_index(path: str | Path) -> SceneIndex:
    """Read one index file of either form.

    Raises:
        S2LDError: the file is missing, damaged, of neither form, without a pair, inconsistent, or asks to import
            anything but numpy arrays.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this index ({error.strerror}); check the path") from error
    content = _read_zip(data, path) if data.startswith(b"PK") else safe_load(data, str(path))
    if not isinstance(content, Mapping):
        raise S2LDError(f"{path}: an index is a dict of arrays, not a {type(content).__name__}; is this an index file?")
    try:
        index = _build(path.stem, content)
    except KeyError as error:
        raise S2LDError(f"{path}: this index has no {error}; it needs {', '.join(PLAIN_KEYS)} or pair_infos") from error
    except (TypeError, ValueError, IndexError) as error:
        raise S2LDError(f"{path}: not a valid index: {' '.join(str(error).split())}; write it anew") from error
    return index


def read_indices(folder: str | Path, scenes: str | Path = "") -> list[SceneIndex]:
    """Read the index files of `folder`: all of them by name, or those that the text file `scenes` lists, one a line.

    Raises:
        S2LDError: no such folder or list, no file in it, or what `read_index` says of a file.
    """
    folder = Path(folder)
    if scenes:
        try:
            lines = Path(scenes).read_text().split()
        except OSError as error:
            raise S2LDError(f"{scenes}: cannot read this list of scenes ({error.strerror}); check the path") from error
        except UnicodeDecodeError as error:
            raise S2LDError(f"{scenes}: not a text file; a list of scenes has one name a line") from error
        paths = [folder / (line if line.endswith(".npz") else f"{line}.npz") for line in lines]
    else:
        paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise S2LDError(f"{scenes or folder}: no index file (*.npz) here; set DATA.MEGADEPTH.*INDEX to their folder")
    return [read_index(path) for path in paths]


def write_index(index: SceneIndex, path: str | Path) -> None:
    """Write the plain form, which any ``np.load`` reads without unpickling."""
    arrays: dict[str, Any] = {key: getattr(index, key) for key in PLAIN_KEYS}
    if index.angle_deg is not None:
        arrays["angle_deg"] = index.angle_deg
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def _read_zip(data: bytes, path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name.removesuffix(".npy"): _read_array(archive.read(name), path) for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, MemoryError) as error:
        if isinstance(error, S2LDError):
            raise
        raise S2LDError(f"{path}: a damaged .npz file ({' '.join(str(error).split())}); fetch it again") from error


def _read_array(data: bytes, path: Path) -> NDArray[Any]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        return np.asarray(safe_load(data[file.tell() :], str(path)), dtype=object).reshape(shape)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _build(name: str, content: Mapping[str, Any]) -> SceneIndex:
    angle = None
    if "pair_infos" in content:
        infos = list(content["pair_infos"])
        pairs = np.array([info[0] for info in infos], np.int64).reshape(-1, 2)
        overlap = np.array([info[1] for info in infos], np.float32)
    else:
        pairs = np.asarray(content["pairs"], np.int64).reshape(-1, 2)
        overlap = np.asarray(content["overlap"], np.float32)
        if "angle_deg" in content:
            angle = np.asarray(content["angle_deg"], np.float32)
    if not len(pairs):
        raise ValueError("it holds no pair")
    if overlap.shape != (len(pairs),) or (angle is not None and angle.shape != (len(pairs),)):
        raise ValueError(f"overlap or angle_deg do not belong to its {len(pairs)} pairs")
    images: list[Sequence[Any]] = [content[key] for key in IMAGE_KEYS]
    if len({len(values) for values in images}) != 1:
        raise ValueError(f"{', '.join(IMAGE_KEYS)} are of unlike lengths")
    used, pairs = _renumber(pairs, len(images[0]))
    # the historical form keeps a slot for every image of the scene, None where a filter has dropped it
    paths, depths, intrinsics, poses = ([values[i] for i in used] for values in images)
    if any(value is None for values in (paths, intrinsics, poses) for value in values):
        raise ValueError("a pair names an image without path, intrinsics or pose")
    cameras = _matrices(intrinsics, 3)
    if (cameras[:, [0, 1], [0, 1]] <= 0).any():
        raise ValueError("a focal length is not positive")
    return SceneIndex(
        name,
        np.array([str(path) for path in paths]),
        np.array(["" if path is None else str(path) for path in depths]),
        cameras,
        _matrices(poses, 4),
        pairs,
        overlap,
        angle,
    )


def _renumber(pairs: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the images that the pairs use, and the pairs in terms of those."""
    if pairs.min() < 0 or pairs.max() >= count:
        raise ValueError(f"a pair names an image outside of 0 to {count - 1}")
    used, flat = np.unique(pairs, return_inverse=True)
    return used, flat.reshape(-1, 2).astype(np.int64)


def _matrices(values: Sequence[Any], side: int) -> NDArray[np.float64]:
    matrices = [np.asarray(value, np.float64) for value in values]
    if any(matrix.shape != (side, side) or not np.isfinite(matrix).all() for matrix in matrices):
        raise ValueError(f"intrinsics and poses must be finite {side} x {side} matrices")
    return np.stack(matrices)
