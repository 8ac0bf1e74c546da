"""COLMAP's sparse models to disk: pycolmap writes them and does not notice where the disk is full."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2ld.errors import one_line
from s2ld.sfm.mapping.read_model import check_written

_BYTES = {b"float": 4, b"double": 8, b"uchar": 1}


def write_model(model: Any, folder: Path) -> None:
    """Write a `pycolmap.Reconstruction` in COLMAP's binary form to a folder, which is made, and read it back.

    Raises:
        OSError: it cannot be written, or is not whole: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _failures(folder):
        model.write_binary(folder)
        check_written(folder)


def write_points(model: Any, path: Path) -> None:
    """Write the points of a `pycolmap.Reconstruction` to a .ply file; raises as `write_model`."""
    with _failures(path.parent):
        model.export_PLY(path)
        head, _, body = path.read_bytes().partition(b"end_header\n")
        points = re.search(rb"element vertex (\d+)\n", head)
        row = sum(_BYTES[kind] for kind in re.findall(rb"property (\w+) \w+\n", head))
        if points is None or len(body) != int(points[1]) * row:
            raise ValueError(f"{path.name} ends too early")


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """Turn what pycolmap raises into what a file that cannot be written raises."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        free = shutil.disk_usage(folder).free >> 20
        raise OSError(f"{one_line(error)}; {free} MiB are free") from error
