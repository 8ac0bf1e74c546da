"""Index files of MegaDepth-like scenes: which images there are, their cameras, and which of them make pairs.

Two forms are read, told apart by their bytes:

- plain: a zip (``np.savez``) of ``image_paths``, ``depth_paths`` (unicode), ``intrinsics`` (n, 3, 3),
  ``poses`` (n, 4, 4), ``pairs`` (m, 2), ``overlap`` (m) and optionally ``angle_deg`` (m), ``scale_ratio`` (m) and
  ``image_sizes`` (n, 2):
  nothing is unpickled. The file is mapped, not copied: all processes of a machine share one copy of it;
- historical: a *pickled* dict called .npz, or a zip of arrays of objects, with ``pair_infos``, a list of
  ``((i, j), overlap, centres)``. Unpickling executes what a file asks for, so these go through an unpickler
  (`s2ld.data.index.safe_pickle`) that makes arrays, scalars and plain containers and refuses everything else. Each
  process that reads one has a copy of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.config.shipped import find_shipped
from s2ld.data.index.layouts import is_megadepth
from s2ld.data.index.npz import read_npz
from s2ld.data.index.safe_pickle import safe_load
from s2ld.errors import S2LDError, one_line
from s2ld.files import read_text, whole_file
from s2ld.log import Progress

IMAGE_KEYS = ("image_paths", "depth_paths", "intrinsics", "poses")
PLAIN_KEYS = (*IMAGE_KEYS, "pairs", "overlap")
OPTIONAL_KEYS = ("angle_deg", "image_sizes", "scale_ratio")
PAIR_INFOS = "pair_infos"
LONGEST_PATH = 4096
"""Characters: an array of texts gives each of them the room of the longest."""


@dataclass(frozen=True)
class SceneIndex:
    """The images of a scene and the pairs of them. The arrays may be mapped from the file and cannot be written to."""

    name: str
    """Stem of the index file."""
    image_paths: NDArray[np.str_]
    """(n,) relative to the data's root."""
    depth_paths: NDArray[np.str_]
    """(n,) relative to the data's root; "" where an image has none."""
    intrinsics: NDArray[np.float64]
    """(n, 3, 3) px of an image of `image_sizes`."""
    poses: NDArray[np.float64]
    """(n, 4, 4) world to camera."""
    pairs: NDArray[np.integer[Any]]
    """(m, 2) rows of the arrays above, in as few bytes as their number allows."""
    overlap: NDArray[np.floating[Any]]
    """(m,) share of an image that the other one sees, in [0, 1]."""
    angle_deg: NDArray[np.floating[Any]] | None = None
    """(m,) triangulation angle, degrees; None where the index does not tell it."""
    image_sizes: NDArray[np.integer[Any]] | None = None
    """(n, 2) width and height, px, of the image that the intrinsics belong to; None where it is not known."""
    scale_ratio: NDArray[np.floating[Any]] | None = None
    """(m,) size of what both see in the second image over that in the first, px; None where it is not told."""
    mapped_from: str = field(default="", init=False, compare=False)
    """Plain file whose bytes the arrays are; "" for arrays in memory, and for what `dataclasses.replace` makes."""

    def __len__(self) -> int:
        return len(self.pairs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle a mapped index as its path, so that a spawned process maps the file too and is sent no arrays."""
        return (read_index, (self.mapped_from,)) if self.mapped_from else super().__reduce_ex__(protocol)

    def select(
        self, overlap: tuple[float, float] = (0.0, 1.0), max_angle: float = 180.0, max_scale: float = np.inf
    ) -> NDArray[np.uint32]:
        """Return the rows of `pairs` that pass.

        Args:
            overlap: least and largest overlap.
            max_angle: degrees, where the angle is known.
            max_scale: of the scale ratio or its inverse, whichever is larger, where it is known.
        """
        keep = (self.overlap >= overlap[0]) & (self.overlap <= overlap[1])
        if self.angle_deg is not None:
            keep &= self.angle_deg <= max_angle
        if self.scale_ratio is not None:
            keep &= (self.scale_ratio <= max_scale) & (self.scale_ratio >= 1 / max_scale)
        return np.flatnonzero(keep).astype(np.uint32)


class Selection:
    """The rows that `SceneIndex.select` returns, found anew whenever one is asked for: no process holds them.

    Finding them takes a thousandth of reading a photograph; holding them would take 4 bytes a pair in every process.
    """

    def __init__(
        self, index: SceneIndex, overlap: tuple[float, float], max_angle: float, max_scale: float = np.inf
    ) -> None:
        self._index, self._filters = index, (overlap, max_angle, max_scale)
        self._count = len(self.rows())

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> int:
        return int(self.rows()[place])

    def rows(self) -> NDArray[np.uint32]:
        """Return all of them, (len,)."""
        return self._index.select(*self._filters)


def read_index(path: str | Path) -> SceneIndex:
    """Read one index file of either form.

    Raises:
        S2LDError: the file is missing, damaged, of neither form, without a pair, inconsistent, asks to import anything
            but numpy arrays, or would take far more memory than its size tells.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        names = (*PLAIN_KEYS, *OPTIONAL_KEYS, PAIR_INFOS)
        content = read_npz(path, names, objects=True) if is_zip else safe_load(path.read_bytes(), str(path))
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this index ({error.strerror}); check the path") from error
    if not isinstance(content, Mapping):
        raise S2LDError(f"{path}: an index is a dict of arrays, not a {type(content).__name__}; is this an index file?")
    is_historical = PAIR_INFOS in content
    try:
        index = (_historical if is_historical else _plain)(path.stem, content)
    except KeyError as error:
        raise S2LDError(f"{path}: this index has no {error}; it needs {', '.join(PLAIN_KEYS)} or pair_infos") from error
    except (TypeError, ValueError, IndexError, ArithmeticError, AttributeError, MemoryError) as error:
        raise S2LDError(f"{path}: not a valid index: {one_line(error)}; write it anew") from error
    if is_zip and not is_historical:  # set past the constructor, so that no altered copy claims to be the file
        object.__setattr__(index, "mapped_from", str(path.resolve()))
    return index


def index_files(folder: str | Path, scenes: str | Path = "") -> list[Path]:
    """Return the index files of `folder`: all of them by name, or those that the text file `scenes` lists, one a line.

    A list that ships, ``configs/data/...``, is found without a checkout too.

    Raises:
        S2LDError: no such folder or list, or no file in it; that a listed file exists is not checked.
    """
    folder = Path(folder)
    if scenes:
        lines = read_text(find_shipped(scenes), "list of scenes", "give a text file with one name a line").split()
        paths = [folder / (line if line.endswith(".npz") else f"{line}.npz") for line in lines]
    else:
        paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise S2LDError(f"{scenes or folder}: no index file (*.npz) here; set DATA.MEGADEPTH.*INDEX to their folder")
    return paths


def read_indices(folder: str | Path, scenes: str | Path = "") -> list[SceneIndex]:
    """Read the index files of `folder`, or those of them that `scenes` lists (`index_files`).

    Raises:
        S2LDError: what `index_files` says, and what `read_index` says of a file.
    """
    return [read_index(path) for path in Progress(index_files(folder, scenes), "indices", leave=False, disable=None)]


def write_index(index: SceneIndex, path: str | Path) -> None:
    """Write the plain form, which any ``np.load`` reads without unpickling, each array in as few bytes as will do."""
    arrays: dict[str, Any] = {key: getattr(index, key) for key in (*PLAIN_KEYS, *OPTIONAL_KEYS)}
    arrays["pairs"] = narrow(index.pairs, len(index.image_paths))
    present = {key: value for key, value in arrays.items() if value is not None}
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(file, **present)


def narrow(values: NDArray[np.integer[Any]], limit: int) -> NDArray[np.integer[Any]]:
    """Return whole numbers from 0 below `limit` in the smallest unsigned type that holds them."""
    return values.astype(np.min_scalar_type(max(limit - 1, 0)), copy=False)


def _historical(name: str, content: Mapping[str, Any]) -> SceneIndex:
    infos = list(content[PAIR_INFOS])
    pairs = np.array([(int(i), int(j)) for (i, j), *_ in infos], np.int64).reshape(-1, 2)
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        overlap = np.array([float(info[1]) for info in infos], np.float32)
    _check_finite(overlap=overlap)
    images: list[Sequence[Any]] = [content[key] for key in IMAGE_KEYS]
    _check_counts(images, pairs, overlap)
    # the historical form keeps a slot for every image of the scene, None where a filter has dropped it
    used, flat = np.unique(pairs, return_inverse=True)
    paths, depths, intrinsics, poses = ([values[i] for i in used] for values in images)
    if any(value is None for values in (paths, intrinsics, poses) for value in values):
        raise ValueError("a pair names an image without path, intrinsics or pose")
    names = np.array([_text(path) for path in paths])
    cameras = _cameras(intrinsics)
    return SceneIndex(
        name,
        names,
        np.array(["" if path is None else _text(path) for path in depths]),
        cameras,
        _matrices(poses, 4),
        narrow(flat.reshape(-1, 2), len(used)),
        overlap,
        None,
        _sizes_of(names, cameras),
    )


def _plain(name: str, content: Mapping[str, Any]) -> SceneIndex:
    paths, depths = (_texts(np.asarray(content[key])) for key in IMAGE_KEYS[:2])
    pairs, overlap = np.asarray(content["pairs"]), np.asarray(content["overlap"])
    if pairs.dtype.kind not in "iu" or pairs.shape[1:] != (2,):
        raise ValueError("pairs must be whole numbers of shape (m, 2)")
    _check_counts([paths, depths, content["intrinsics"], content["poses"]], pairs, overlap)
    angle, scale = (np.asarray(content[key]) if key in content else None for key in ("angle_deg", "scale_ratio"))
    for key, values in (("angle_deg", angle), ("scale_ratio", scale)):
        if values is not None and values.shape != overlap.shape:
            raise ValueError(f"{key} does not belong to its {len(pairs)} pairs")
    if any(values is not None and values.dtype.kind != "f" for values in (overlap, angle, scale)):
        raise ValueError("overlap, angle_deg and scale_ratio must be floating point numbers")
    _check_finite(overlap=overlap, angle_deg=angle, scale_ratio=scale)
    cameras = _cameras(content["intrinsics"])
    sizes = np.asarray(content["image_sizes"]) if "image_sizes" in content else _sizes_of(paths, cameras)
    if sizes is not None and (sizes.shape != (len(paths), 2) or sizes.dtype.kind not in "iu" or (sizes < 1).any()):
        raise ValueError("image_sizes must be a width and a height of each image, whole px from 1")
    poses = _matrices(content["poses"], 4)
    return SceneIndex(name, paths, depths, cameras, poses, pairs, overlap, angle, sizes, scale)


def _check_counts(images: Sequence[Any], pairs: NDArray[Any], overlap: NDArray[Any]) -> None:
    if not len(pairs):
        raise ValueError("it holds no pair")
    if overlap.shape != (len(pairs),):
        raise ValueError(f"overlap does not belong to its {len(pairs)} pairs")
    if len({len(values) for values in images}) != 1:
        raise ValueError(f"{', '.join(IMAGE_KEYS)} are of unlike lengths")
    count = len(images[0])
    if pairs.min() < 0 or pairs.max() >= count:
        raise ValueError(f"a pair names an image outside of 0 to {count - 1}")


def _check_finite(**arrays: NDArray[Any] | None) -> None:
    for name, values in arrays.items():
        if values is not None and not np.isfinite(values).all():
            pair = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{name} of pair {pair} is {values[pair]}")


def _text(path: Any) -> str:
    """Return a path as text; programs of other times have left bytes."""
    text = os.fsdecode(path) if isinstance(path, bytes) else path
    if not isinstance(text, str) or len(text) > LONGEST_PATH or "\0" in text:
        raise ValueError(f"image_paths and depth_paths must be texts of at most {LONGEST_PATH} characters")
    return str(text)


def _texts(paths: NDArray[Any]) -> NDArray[np.str_]:
    """Return an array of paths, of texts or bytes, as texts; those of texts stay where they are."""
    if paths.dtype.kind == "S" and paths.ndim == 1:
        return np.array([_text(path) for path in paths])
    if paths.dtype.kind != "U" or paths.ndim != 1:
        raise ValueError("image_paths and depth_paths must be texts")
    return paths


def _cameras(values: Any) -> NDArray[np.float64]:
    cameras = _matrices(values, 3)
    if (cameras[:, [0, 1], [0, 1]] <= 0).any():
        raise ValueError("a focal length is not positive")
    return cameras


def _matrices(values: Any, side: int) -> NDArray[np.float64]:
    if not isinstance(values, np.ndarray) or values.dtype == object:
        values = np.array([_matrix(value, side) for value in values])
    if values.dtype.kind not in "iuf":
        raise ValueError("intrinsics and poses must be numbers")
    matrices = np.asarray(values, np.float64)
    if matrices.shape[1:] != (side, side) or not np.isfinite(matrices).all():
        raise ValueError(f"intrinsics and poses must be finite {side} x {side} matrices")
    return matrices


def _matrix(value: Any, side: int) -> NDArray[np.float64]:
    matrix = np.asarray(value)
    if matrix.shape != (side, side) or matrix.dtype.kind not in "iuf":
        raise ValueError(f"intrinsics and poses must be finite {side} x {side} matrices")
    return matrix.astype(np.float64)


def _sizes_of(paths: NDArray[np.str_], cameras: NDArray[np.float64]) -> NDArray[np.uint32] | None:
    """Return (width, height) as MegaDepth's intrinsics tell them, whose principal points are half of it (COLMAP's way).

    A scene of another origin tells nothing so: there (W - 1) / 2 and half a whole number by chance are as likely.
    """
    doubled = 2 * cameras[:, :2, 2]
    whole = np.rint(doubled)
    if (doubled != whole).any() or (whole < 1).any() or not all(is_megadepth(str(path)) for path in paths):
        return None
    return whole.astype(np.uint32)
