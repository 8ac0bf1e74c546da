"""Zip files of arrays (``np.savez``) from strangers: nothing in them is executed, and none grows without bound."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.data.index.safe_pickle import safe_load
from s2ld.errors import S2LDError, one_line

MOST_UNPACKED = 2**26
"""Bytes that a compressed array may take whatever its size in the file; beyond ..."""
MOST_RATIO = 100
"""... it may be this many times larger than that: nothing but zeros is."""
_LOCAL_HEADER = 30  # bytes of a zip member's header before its name


def read_npz(path: Path, names: Collection[str], objects: bool = False) -> dict[str, NDArray[Any]]:
    """Return those arrays of a .npz that are named; what is not compressed is mapped from the file, not copied.

    Args:
        path: of the file.
        names: of arrays that are read where they are there; others are not looked at.
        objects: whether arrays of objects are read, by `safe_load`.

    Raises:
        OSError: the file cannot be read.
        S2LDError: it is damaged, no .npz, asks for what is not admitted, or holds far more than its size tells.
    """
    try:
        mapped = np.memmap(path, np.uint8, "r")
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            wanted = {name: member for name, member in members.items() if name in names}
            return {name: _read(archive, member, mapped, path, objects) for name, member in wanted.items()}
    except S2LDError:
        raise
    except Exception as error:  # whatever damaged bytes lead zipfile, its decompressors and numpy into
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = one_line(error) or type(error).__name__
        raise S2LDError(f"{path}: not an .npz of plain arrays ({reason}); fetch or write it again") from error


def _read(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, mapped: NDArray[np.uint8], path: Path, objects: bool
) -> NDArray[Any]:
    """Return a member as a view of the mapped file; what is compressed or made of objects is read into memory."""
    if member.file_size > max(MOST_UNPACKED, MOST_RATIO * member.compress_size):
        raise ValueError(f"{member.filename} would take {member.file_size:,} bytes")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            if not objects:
                raise ValueError("it holds pickled objects")
            return np.asarray(safe_load(file.read(), str(path)), dtype=object).reshape(shape)
        offset = file.tell()
        if dtype.itemsize == 0 or offset + int(np.prod(shape, dtype=object)) * dtype.itemsize > member.file_size:
            raise ValueError(f"{member.filename} is shorter than its shape says")
        if member.compress_type != zipfile.ZIP_STORED:
            return np.ndarray(shape, dtype, file.read(), order="F" if fortran else "C")
    name, extra = struct.unpack_from("<HH", mapped.data, member.header_offset + 26)
    start = member.header_offset + _LOCAL_HEADER + name + extra
    data = mapped[start : start + member.file_size]
    if zlib.crc32(data.data) != member.CRC:
        raise ValueError(f"{member.filename} has another checksum than was written")
    return np.ndarray(shape, dtype, data, offset, order="F" if fortran else "C")
