"""COLMAP's dense depth maps: ``W&H&C&`` in ASCII, then W H C float32, little-endian, column-major (x runs fastest).

COLMAP's ``patch_match_stereo`` leaves them in ``stereo/depth_maps`` beside its undistorted ``images``; values that are
not positive are unknown (src/colmap/mvs/mat.h and scripts/python/read_write_dense.py of COLMAP tell the format).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.files import read_file, whole_file

KINDS = ("geometric", "photometric")
"""In the order in which they are looked for: the geometric ones agree over the images already."""
_HEADER = re.compile(rb"(\d{1,9})&(\d{1,9})&(\d{1,9})&")


def find_map(folder: Path, name: str) -> tuple[Path, str] | None:
    """Return the depth map of image `name` in ``stereo/depth_maps`` and its kind (`KINDS`), None where it has none."""
    for kind in KINDS:
        path = folder / f"{name}.{kind}.bin"
        if path.is_file():
            return path, kind
    return None


def read_map(path: Path) -> NDArray[np.float32]:
    """Return a depth map (H, W), 0 where it is unknown.

    Raises:
        S2LDError: it cannot be read, is no such file, has several channels, or has too few or too many bytes.
    """
    content = read_file(path, "depth map", "check the path")
    header = _HEADER.match(content)
    if header is None:
        raise S2LDError(f"{path}: not a depth map of COLMAP (no W&H&C& at its beginning); run patch_match_stereo again")
    width, height, channels = map(int, header.groups())
    if channels != 1 or not width or not height:
        raise S2LDError(f"{path}: {width} x {height} px of {channels} channels; a depth map has one (is it normals?)")
    given, needed = len(content) - header.end(), 4 * width * height
    if given != needed:
        raise S2LDError(
            f"{path}: {given} bytes where {width} x {height} px need {needed}; damaged, run patch_match_stereo again"
        )
    depth = np.frombuffer(content, "<f4", offset=header.end()).reshape(height, width).astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def write_map(path: Path, depth: NDArray[np.float32]) -> None:
    """Write a depth map (H, W).

    Raises:
        S2LDError: the file cannot be written.
    """
    height, width = depth.shape
    with whole_file(path) as part:
        part.write_bytes(f"{width}&{height}&1&".encode() + depth.astype("<f4").tobytes())
