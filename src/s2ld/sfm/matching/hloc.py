"""Keypoints and matches in the files of hloc, the toolbox for visual localisation.

- ``features.h5``: a group an image, named as the image is (a "/" makes groups in groups), with ``keypoints`` (N, 2)
  float32 px with pixel centres at integers, ``scores`` (N,) and ``image_size`` (2,) width, height. The attribute
  ``uncertainty`` of the keypoints is about how many px they are off.
- ``matches.h5``: a group a pair, ``NAME0/NAME1`` with "/" in a name written as "-", with ``matches0`` (N0,) int32, the
  row of the other image's keypoint or -1, and ``matching_scores0`` (N0,) float16.
- ``pairs.txt``: the two names of a pair a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s2ld.errors import S2LDError
from s2ld.files import portable_name, whole_file
from s2ld.hdf5 import new_hdf5
from s2ld.sfm.matching.storage.tables import FolderMatches

UNCERTAINTY = 0.5
"""px that the network sees; hloc hands it on to triangulation."""
FEATURE_BYTES, MATCH_BYTES = 12, 6
"""Of a keypoint in the first file, and of a keypoint of a pair's first image in the second."""
GROUP_BYTES = 8192
"""Of the names and tables of HDF5 itself, for an image or a pair, at most."""


def write_hloc(
    folder: Path,
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    scales: Sequence[float],
    matches: FolderMatches,
) -> None:
    """Write the three files; those that are there are replaced, each when the new one is whole.

    Args:
        folder: to write to.
        names: of the images.
        sizes: (width, height) of each image, px.
        scales: image px per px that the network saw, of each image.
        matches: of the images.

    Raises:
        S2LDError: a file cannot be written.
    """
    counts = [len(points) for points in matches.keypoints]
    with new_hdf5(folder / "features.h5", sum(FEATURE_BYTES * n + GROUP_BYTES for n in counts)) as file:
        for name, size, scale, points, scores in zip(
            names, sizes, scales, matches.keypoints, matches.scores, strict=True
        ):
            group = file.create_group(name)
            group.create_dataset("keypoints", data=points.astype(np.float32)).attrs["uncertainty"] = UNCERTAINTY * scale
            group.create_dataset("scores", data=scores.astype(np.float32))
            group.create_dataset("image_size", data=np.asarray(size))
    room = sum(MATCH_BYTES * counts[i] + GROUP_BYTES for i, _ in matches.pairs)
    with new_hdf5(folder / "matches.h5", room) as file:
        for (i, j), found in matches.pairs.items():
            partner = np.full(counts[i], -1, np.int32)
            score = np.zeros(len(partner), np.float16)
            partner[found.indices[:, 0]] = found.indices[:, 1]
            score[found.indices[:, 0]] = found.scores
            group = file.create_group(pair_name(names[i], names[j]))
            group.create_dataset("matches0", data=partner)
            group.create_dataset("matching_scores0", data=score)
    with whole_file(folder / "pairs.txt") as part, part.open("w") as lines:
        lines.writelines(f"{names[i]} {names[j]}\n" for i, j in matches.pairs)


def check_names(names: Sequence[str]) -> None:
    """Raise `S2LDError` for names that hloc's files cannot hold.

    They are in UTF-8, and write / as -: `a/b.jpg` and `a-b.jpg` are one name there.
    """
    seen: dict[str, str] = {}
    for name in names:
        portable_name(name, "hloc's files")
        other = seen.setdefault(name.replace("/", "-"), name)
        if other != name:
            raise S2LDError(f"{name} and {other} are one name in hloc's files, which write / as -; rename one of them")


def pair_name(name0: str, name1: str) -> str:
    """Return the group of a pair in hloc's matches."""
    return "/".join(name.replace("/", "-") for name in (name0, name1))
