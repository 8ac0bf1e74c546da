"""Writing HDF5 files so that a full disk is one line, and reading those of strangers.

HDF5 ends the process by a signal where it cannot write what it holds when it closes a file. So a file is collected in
memory, or room for all of it is reserved before anything is written.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError, one_line
from s2ld.files import whole_file

MOST_BYTES = 2**30
"""Of one array that is read: a file of a few bytes may declare any size."""
MOST_LINKS = 8
"""Soft links on the way to one object."""
MARGIN = 2**20
"""Bytes that the names of groups may need beside what is counted."""
DAMAGE = (
    *(OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, ArithmeticError),
    MemoryError,
)
"""What h5py raises for damaged files."""


@contextmanager
def new_hdf5(path: str | Path, size: int | None = None) -> Iterator[h5py.File]:
    """Give an empty HDF5 file to fill; it takes the place of `path` at the end, whole.

    Args:
        path: of the file; missing parent folders are made.
        size: bytes of all that will be written, at most: the file is written beside `path`, with room reserved. None:
            it is small and is collected in memory.

    Raises:
        S2LDError: it cannot be written, or the disk has no room.
    """
    if size is None:
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            yield file
        with whole_file(path) as part:
            part.write_bytes(stream.getbuffer())
        return
    with whole_file(path) as part:
        stream = io.BytesIO()
        h5py.File(stream, "w").close()
        part.write_bytes(stream.getbuffer())
        reserve(part, size + MARGIN)
        with h5py.File(part, "r+") as file:  # "w" would give back what is reserved
            yield file


def reserve(path: Path, size: int) -> None:
    """See to it that a file can grow to `size` bytes.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(path.parent).free < size - path.stat().st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def read_hdf5(path: str | Path, remedy: str) -> Iterator[h5py.File]:
    """Give an HDF5 file to read from by `find`, `has` and `read_array`; all that h5py raises meanwhile is one line.

    Raises:
        S2LDError: it is missing, no HDF5 file or damaged; the message ends with `remedy`.
    """
    path = Path(path)
    if not path.is_file():  # a pipe would be waited for
        raise S2LDError(f"{path}: no such file; {remedy}")
    with hdf5_errors(path, remedy), h5py.File(path) as file:
        yield file


@contextmanager
def hdf5_errors(path: Path, remedy: str) -> Iterator[None]:
    """Turn all that h5py raises for a damaged file into one line, an `S2LDError` that ends with `remedy`."""
    try:
        yield
    except S2LDError:
        raise
    except DAMAGE as error:
        reason = one_line(error) or type(error).__name__
        raise S2LDError(f"{path}: not a readable HDF5 file ({reason}); {remedy}") from error


def find(group: h5py.Group, name: str, links: int = MOST_LINKS) -> h5py.Group | h5py.Dataset:
    """Return an object of the same file; h5py itself would open whatever file a link names.

    Raises:
        KeyError: there is none.
        ValueError: a link leads to another file, or there are more than `links` soft ones on the way.
    """
    found: Any = group.file["/"] if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            raise KeyError(f"no {name} in {group.name}")
        if isinstance(link, h5py.ExternalLink):
            raise ValueError(f"{name} is a link to another file, which is not followed")
        if isinstance(link, h5py.SoftLink) and not links:
            raise ValueError(f"{name} is behind too many links")
        found = find(found, link.path, links - 1) if isinstance(link, h5py.SoftLink) else found[part]
    return found


def has(group: h5py.Group, name: str) -> bool:
    """Return whether there is an object of this name; raises as `find` for links to other files."""
    try:
        find(group, name)
    except KeyError:
        return False
    return True


def find_array(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return a data set that lies in the same file, and is not larger than `MOST_BYTES`.

    Raises:
        KeyError: there is none.
        ValueError: its data are in other files, or are too many.
    """
    found = find(group, name)
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"{name} is no data set")
    if found.external or found.is_virtual:
        raise ValueError(f"the data of {name} are in other files, which are not read")
    if found.nbytes > MOST_BYTES:
        raise ValueError(f"{name} of shape {found.shape} is too large")
    return found


def read_array(group: h5py.Group, name: str) -> NDArray[Any]:
    """Return the values of a data set; raises as `find_array`."""
    return np.asarray(find_array(group, name)[()])
