"""Descriptors of another network on clean photographs, kept in a file, and where a view shows them.

The file (HDF5) has a group a photograph, named by its path below the folder: ``points`` (P, 2) float32 photograph px,
``descriptors`` (P, D) float16 of length 1, and the photograph's ``size`` (width, height). `TeacherWriter` fills it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.data.images.reading import MULTIPLE
from s2ld.errors import S2LDError
from s2ld.hdf5 import MARGIN, find, has, hdf5_errors, new_hdf5, read_array, read_hdf5, reserve
from s2ld.types import TeacherPoints

STREAM = 7
"""Of the random choice of points: apart from the draws of the pair, which are the same without a teacher."""
_ROW_BITS = 16
MOST_POINTS = 2**_ROW_BITS
"""Of a photograph."""
_HASH_BYTES = 5  # a label is 56 bits in all
_LEAST_DEPTH = 1e-9
REMEDY = "make it with s2ld teacher-descriptors (anew where it is damaged), and let one process write it"

Array = NDArray[np.float64]
Lesson = Callable[[Array, Array], TeacherPoints]
"""From a view's homography and its depth to the points that it is taught, as `PhotoDescriptors.seen`."""


@dataclass(frozen=True)
class TeacherInfo:
    """What a file of descriptors was made with."""

    teacher: str
    """Name of the network."""
    source: str
    """Its paper and its home."""
    licence: str
    """Of its weights."""
    digest: str
    """SHA-256 of its weights."""
    dim: int
    """Numbers a descriptor."""
    points: int
    """Most points a photograph."""


@dataclass(frozen=True)
class PhotoDescriptors:
    """What the teacher says of one clean photograph."""

    points: NDArray[np.float32]
    """(P, 2) photograph px, pixel centres at integers."""
    descriptors: NDArray[np.float32]
    """(P, D), of length 1."""
    labels: NDArray[np.int64]
    """(P,) a number for each point of each photograph, a function of the photograph's name and the row."""

    def seen(self, H: Array, depth: Array, count: int, rng: np.random.Generator) -> TeacherPoints:
        """Choose points that a view shows: at most `count`, and one at most in each cell of the coarse grid.

        Points nearer than that could not be told apart by the coarse features, and where the depth is unknown the light
        has left no texture to know them by.

        Args:
            H: (3, 3) from photograph px to view px, positive third coordinate before the camera.
            depth: (height, width) of the view, 0 where it is unknown.
            count: most points.
            rng: of the choice.
        """
        mapped = self.points.astype(np.float64) @ H[:, :2].T + H[:, 2]
        before = mapped[:, 2] > _LEAST_DEPTH
        places = mapped[:, :2] / np.where(before, mapped[:, 2], 1.0)[:, None]
        height, width = depth.shape
        inside = np.flatnonzero(before & (places >= 0).all(1) & (places <= (width - 1, height - 1)).all(1))
        column, line = np.rint(places[inside]).astype(np.int64).T
        rows = rng.permutation(inside[depth[line, column] > 0])
        column, line = (places[rows] // MULTIPLE).astype(np.int64).T
        _, first = np.unique(line * width + column, return_index=True)
        rows = rows[np.sort(first)[:count]]
        return TeacherPoints(
            torch.zeros(len(rows), dtype=torch.int64),
            torch.from_numpy(places[rows]).float(),
            torch.from_numpy(self.descriptors[rows]),
            torch.from_numpy(self.labels[rows]),
        )


class TeacherFile:
    """A file of descriptors, read by each process through a handle of its own.

    Args:
        path: the file, of `s2ld teacher-descriptors`.
        count: most points that a view takes.

    Raises:
        S2LDError: the file is missing or of another kind.
    """

    def __init__(self, path: str | Path, count: int) -> None:
        self.path = Path(path)
        self.count = count
        self.info = read_info(self.path)
        self._file: h5py.File | None = None
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_process": -1}

    def check(self, names: Sequence[str]) -> None:
        """Check that the file has these photographs.

        Raises:
            S2LDError: it lacks one.
        """
        with read_hdf5(self.path, REMEDY) as file:
            missing = [name for name in names if not _is_whole(file, name)]
        if missing:
            raise S2LDError(
                f"{self.path}: lacks {len(missing)} of {len(names)} photographs, e.g. {missing[0]}; "
                "run s2ld teacher-descriptors on their folder again, which goes on where it stopped"
            )

    def read(self, name: str, size: tuple[int, int]) -> PhotoDescriptors:
        """Return what the teacher says of photograph `name` of `size` (width, height) px.

        Raises:
            S2LDError: the file lacks it, or has it in another size.
        """
        if self._file is None or self._process != os.getpid():  # a handle does not live on in a forked process
            self._file, self._process = _open(self.path, "r"), os.getpid()
        with hdf5_errors(self.path, REMEDY):
            if not has(self._file, name) or tuple(find(self._file, name).attrs["size"]) != size:
                raise S2LDError(
                    f"{self.path}: lacks {name} of {size[0]}x{size[1]} px; make the file of these photographs"
                )
            points, descriptors = (read_array(self._file, f"{name}/{key}") for key in ("points", "descriptors"))
            labels = (_hash(name) << _ROW_BITS) + np.arange(len(points), dtype=np.int64)
            return PhotoDescriptors(points, descriptors.astype(np.float32), labels)

    def lesson(self, name: str, size: tuple[int, int], seed: tuple[int, int]) -> Lesson:
        """Return what the views of a pair are taught of a photograph; the arguments are `read`'s.

        Args:
            name, size: of the photograph.
            seed: of the pair's source, and the pair's index: its own draws are not touched.

        Raises:
            S2LDError: as `read`.
        """
        rng = np.random.Generator(np.random.PCG64([*seed, STREAM]))
        return partial(self.read(name, size).seen, count=self.count, rng=rng)


class TeacherWriter:
    """A file of descriptors that grows by one photograph at a time; what was written stays if the process ends.

    Args:
        path: a new file, or one of the same teacher, to go on with.
        info: of the teacher.

    Raises:
        S2LDError: the file cannot be written, is no HDF5 file or of another teacher.
    """

    def __init__(self, path: Path, info: TeacherInfo) -> None:
        if not path.exists():
            with new_hdf5(path) as file:
                file.attrs.update(asdict(info))
        elif read_info(path) != info:
            raise S2LDError(f"{path}: was made by another teacher or with other settings; give another file")
        self._path, self._file = path, _open(path, "r+")

    def __contains__(self, name: str) -> bool:
        with hdf5_errors(self._path, REMEDY):
            return _is_whole(self._file, name)

    def write(
        self, name: str, size: tuple[int, int], points: NDArray[np.float32], descriptors: NDArray[np.float32]
    ) -> None:
        """Add a photograph; points and descriptors as in `PhotoDescriptors`.

        Raises:
            S2LDError: the disk has no room for it; those before are kept.
        """
        self._reserve(name, points.nbytes + descriptors.nbytes)
        if name in self._file:
            del self._file[name]
        group = self._file.create_group(name)
        group["points"] = points
        group["descriptors"] = descriptors.astype(np.float16)
        self._file.flush()
        self._reserve(name, 0)  # the flush gave the rest back
        group.attrs["size"] = size  # last: it says that the rest is there
        self._file.flush()

    def _reserve(self, name: str, content: int) -> None:
        try:
            reserve(self._path, self._file.id.get_filesize() + content + MARGIN)
        except OSError as error:
            raise S2LDError(
                f"{self._path}: no room for {name} ({error.strerror}); make room and run the same command, which goes "
                "on from there"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_info(path: Path) -> TeacherInfo:
    """Return what a file of descriptors was made with.

    Raises:
        S2LDError: the file is missing or of another kind.
    """
    with read_hdf5(path, REMEDY) as file:
        if any(name not in file.attrs for name in TeacherInfo.__dataclass_fields__):
            raise S2LDError(f"{path}: holds no descriptors of s2ld teacher-descriptors; make it with that")
        return TeacherInfo(**{name: file.attrs[name] for name in TeacherInfo.__dataclass_fields__})


def _open(path: Path, mode: str) -> h5py.File:
    with hdf5_errors(path, REMEDY):
        return h5py.File(path, mode)


def _is_whole(file: h5py.File, name: str) -> bool:
    return has(file, name) and "size" in find(file, name).attrs


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=_HASH_BYTES).digest())
