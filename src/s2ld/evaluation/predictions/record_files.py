"""Files in which other people's programs have left their matches; nothing in them is executed.

- ``npz``: a folder with a file a pair, ``STEM0_STEM1_matches.npz`` (SuperGlue's name) or ``STEM0_STEM1.npz``, in the
  folder itself or in that subfolder in which image 0 lies in its data set.
- ``h5``: one HDF5 file with a group a pair, ``NAME0/NAME1``, slashes in a name written as ``-``.
- ``hloc``: the two HDF5 files of hloc: features (a group an image, with ``keypoints``) and matches (a group a pair,
  named likewise or with ``_`` between the names, in either order, with ``matches0`` and perhaps ``matching_scores0``).

A record of ``npz`` and ``h5`` holds ``points0``, ``points1`` (M, 2) and perhaps ``confidence`` (M,); or ``keypoints0``
(P, 2), ``keypoints1`` (Q, 2), ``matches`` (P,), each keypoint's partner or -1, and perhaps ``match_confidence`` (P,).
Names are those of the data source; in HDF5 files the file name alone will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from s2ld.data.index.npz import read_npz
from s2ld.errors import S2LDError
from s2ld.hdf5 import find, has, read_array, read_hdf5

Arrays = Mapping[str, NDArray[Any]]
ARRAYS = ("points0", "points1", "confidence", "keypoints0", "keypoints1", "matches", "match_confidence")
"""Names of arrays that a record may have."""


@dataclass(frozen=True)
class Record:
    """The matches of one pair, float64, in whatever px they were recorded."""

    points0: NDArray[np.float64]
    """(M, 2)."""
    points1: NDArray[np.float64]
    """(M, 2)."""
    confidence: NDArray[np.float64]
    """(M,), ones where none is told."""
    keypoints0: NDArray[np.float64]
    """(P, 2), (0, 2) where they are not told."""
    keypoints1: NDArray[np.float64]
    """(Q, 2)."""

    def swapped(self) -> Record:
        """Return the record of the pair in the other order."""
        return Record(self.points1, self.points0, self.confidence, self.keypoints1, self.keypoints0)


class RecordFiles(Protocol):
    """Where the records of many pairs lie."""

    @property
    def files(self) -> Sequence[Path]:
        """All that the records depend on."""
        ...

    def find(self, name0: str, name1: str) -> str | None:
        """Return the place of a pair's record, None where there is none."""
        ...

    def read(self, place: str, name0: str, name1: str) -> Record:
        """Read the record of a pair at its place.

        Raises:
            S2LDError: it is not of the documented form.
        """
        ...


class NpzFolder:
    """The form ``npz``.

    Raises:
        S2LDError: no such folder, or no .npz in it.
    """

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.npz"))
        if not self.files:
            raise S2LDError(f"{folder}: no folder with .npz files of matches; check the path")
        self._folder = folder
        self._places = {path.relative_to(folder).as_posix() for path in self.files}

    def find(self, name0: str, name1: str) -> str | None:
        """See `RecordFiles`."""
        path0, stem1 = PurePosixPath(name0), PurePosixPath(name1).stem
        candidates = product((path0.parent, PurePosixPath()), ("_matches.npz", ".npz"))
        places = (str(folder / f"{path0.stem}_{stem1}{suffix}") for folder, suffix in candidates)
        return next((place for place in places if place in self._places), None)

    def read(self, place: str, name0: str, name1: str) -> Record:
        """See `RecordFiles`."""
        path = self._folder / place
        try:
            arrays = read_npz(path, ARRAYS)
        except OSError as error:
            raise S2LDError(f"{path}: cannot read these matches ({error.strerror}); check the path") from error
        return parse_record(arrays, str(path))


class PairGroups:
    """The form ``h5``.

    Raises:
        S2LDError: no readable HDF5 file.
    """

    def __init__(self, path: Path) -> None:
        self.files: Sequence[Path] = [path]
        self._path = path
        with _open(path):
            pass

    def find(self, name0: str, name1: str) -> str | None:
        """See `RecordFiles`."""
        with _open(self._path) as file:
            return next((place for place in _pair_places(name0, name1) if has(file, place)), None)

    def read(self, place: str, name0: str, name1: str) -> Record:
        """See `RecordFiles`."""
        return parse_record(self.arrays(place), f"{self._path}, {place}")

    def arrays(self, place: str) -> Arrays:
        """Return the data sets of a group."""
        with _open(self._path) as file:
            group = find(file, place)
            keys = list(group) if isinstance(group, h5py.Group) else []
            return {key: read_array(group, key) for key in keys if isinstance(find(group, key), h5py.Dataset)}


class HlocFiles:
    """The form ``hloc``.

    Raises:
        S2LDError: one is no readable HDF5 file.
    """

    def __init__(self, features: Path, matches: Path) -> None:
        self._features, self._pairs = features, PairGroups(matches)
        self.files: Sequence[Path] = [features, matches]
        with _open(features):
            pass

    def find(self, name0: str, name1: str) -> str | None:
        """See `RecordFiles`."""
        return self._pairs.find(name0, name1) or self._pairs.find(name1, name0)

    def read(self, place: str, name0: str, name1: str) -> Record:
        """See `RecordFiles`."""
        swapped = place not in _pair_places(name0, name1)
        with _open(self._features) as file:
            keypoints0, keypoints1 = (self._keypoints(file, n) for n in ((name1, name0) if swapped else (name0, name1)))
        arrays = {"keypoints0": keypoints0, "keypoints1": keypoints1}
        names = {"matches0": "matches", "matching_scores0": "match_confidence"}
        arrays |= {names[key]: array for key, array in self._pairs.arrays(place).items() if key in names}
        record = parse_record(arrays, f"{self._pairs.files[0]}, {place}")
        return record.swapped() if swapped else record

    def _keypoints(self, file: Any, name: str) -> NDArray[Any]:
        for place in (name, PurePosixPath(name).name):
            if has(file, f"{place}/keypoints"):
                return read_array(file, f"{place}/keypoints")
        raise S2LDError(f"{self._features}: no keypoints of {name}; give hloc's features of the same images")


def parse_record(arrays: Arrays, origin: str) -> Record:
    """Check the arrays of a record (see the module) and return what they say; `origin` is named in errors.

    Raises:
        S2LDError: arrays are missing, not of one length, or not finite numbers; an index is out of range.
    """
    none = np.zeros((0, 2))
    keypoints0, keypoints1 = (_points(arrays.get(f"keypoints{side}", none), origin) for side in (0, 1))
    if {"points0", "points1"} <= arrays.keys():
        points0, points1 = (_points(arrays[f"points{side}"], origin) for side in (0, 1))
        confidence = arrays.get("confidence", np.ones(len(points0)))
    elif {"keypoints0", "keypoints1", "matches"} <= arrays.keys():
        partner = _partners(arrays["matches"], len(keypoints0), len(keypoints1), origin)
        rows = np.flatnonzero(partner > -1)
        points0, points1 = keypoints0[rows], keypoints1[partner[rows]]
        confidence = arrays.get("match_confidence", np.ones(len(partner)))
        confidence = confidence[rows] if confidence.shape == partner.shape else np.zeros((0, 1))
    else:
        raise S2LDError(
            f"{origin}: holds {', '.join(sorted(arrays)) or 'no array of a known name'}; it needs points0 and points1, "
            "or keypoints0, keypoints1 and matches"
        )
    values = _numbers(confidence, origin)
    if len(points0) != len(points1) or values.shape != (len(points0),):
        raise S2LDError(f"{origin}: points and confidences are not of one length; write it anew")
    return Record(points0, points1, values, keypoints0, keypoints1)


def _partners(matches: NDArray[Any], rows: int, columns: int, origin: str) -> NDArray[np.int64]:
    partners = matches.astype(np.int64) if matches.dtype.kind in "iu" else None
    if partners is None or partners.shape != (rows,) or partners.max(initial=-1) >= columns:
        raise S2LDError(f"{origin}: the matches must be a row of keypoints1, or -1, for each of keypoints0")
    return partners


def _points(array: NDArray[Any], origin: str) -> NDArray[np.float64]:
    points = _numbers(array, origin)
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise S2LDError(f"{origin}: points must be (N, 2), not {points.shape}; write it anew")
    return points.reshape(-1, 2)


def _numbers(array: NDArray[Any], origin: str) -> NDArray[np.float64]:
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise S2LDError(f"{origin}: points and confidences must be finite numbers; write it anew")
    return array.astype(np.float64)


def _pair_places(name0: str, name1: str) -> list[str]:
    whole, short = (name0, name1), (PurePosixPath(name0).name, PurePosixPath(name1).name)
    pairs = [tuple(name.replace("/", "-") for name in names) for names in (whole, short)]
    return [separator.join(pair) for pair, separator in product(pairs, "/_")]


def _open(path: Path) -> AbstractContextManager[h5py.File]:
    return read_hdf5(path, "check the path, or write it anew")
