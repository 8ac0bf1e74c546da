"""Index files that are damaged or mean to take memory, and paths of bytes."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_index import ARRAYS, check, historical, objects

from s2ld.data.index.files import read_index
from s2ld.data.index.pickle_bounds import check_bounds
from s2ld.errors import S2LDError


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02Nr\xff\xff\xff\x0f.",
        b"Nr\x00\x00\x01\x00.",
        b"Np268435455\n.",
        b"N" * 2**16 + b"r\x00\x00\x02\x00.",
    ],
)
def test_a_pickle_that_asks_for_more_memory_than_it_has_bytes_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bomb.npz").write_bytes(data)
    with pytest.raises(S2LDError, match=r"bomb\.npz: .*asks for more memory than it has bytes"):
        read_index(tmp_path / "bomb.npz")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_bounds_of_a_pickle_let_all_that_is_written_pass(protocol: int) -> None:
    values = [np.arange(i) for i in range(300)] + ["\u00e9" * i for i in range(300)] + [b"\n" * i for i in range(300)]
    values += [2**i for i in range(300)] + [float(i) for i in range(300)] + [{i: (i, -i)} for i in range(3000)]
    data = pickle.dumps([values, {1, 2}, frozenset((3,)), bytearray(9), None, True], protocol)
    check_bounds(data)
    for end in (1, len(data) // 2, len(data) - 1):
        with pytest.raises(pickle.UnpicklingError):
            check_bounds(data[:end])


def damaged(path: Path, name: str) -> Path:
    """Change a byte amid the compressed bytes of an array."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(name)
    data = bytearray(path.read_bytes())
    data[member.header_offset + 60 + len(name)] ^= 0xFF
    path.write_bytes(data)
    return path


def test_a_damaged_compressed_index_and_one_that_grows_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    arrays = {key: getattr(old, key) for key in ARRAYS}
    for key in ARRAYS:
        np.savez_compressed(tmp_path / "small.npz", **arrays)
        with pytest.raises(S2LDError, match=r"small\.npz: ") as caught:
            read_index(damaged(tmp_path / "small.npz", f"{key}.npy"))
        assert "\n" not in str(caught.value)
    np.savez_compressed(tmp_path / "bomb.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "bomb.npz") as archive:
        size = archive.getinfo("poses.npy").file_size
    data = (tmp_path / "bomb.npz").read_bytes()
    directory = data.index(b"PK\x01\x02")
    place = data.index(b"poses.npy", directory) - 22  # the size that the archive's directory tells
    assert struct.unpack_from("<I", data, place) == (size,)
    (tmp_path / "bomb.npz").write_bytes(data[:place] + struct.pack("<I", 2**31) + data[place + 4 :])
    with pytest.raises(S2LDError, match=r"poses\.npy would take 2,147,483,648 bytes"):
        read_index(tmp_path / "bomb.npz")


def test_arrays_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    np.savez_compressed(tmp_path / "more.npz", **{key: getattr(old, key) for key in ARRAYS}, notes=np.zeros(1000))
    check(read_index(damaged(tmp_path / "more.npz", "notes.npy")))


def test_paths_of_bytes_are_read_as_texts(tmp_path: Path) -> None:
    content = historical()
    content["image_paths"] = objects([path and path.encode() for path in content["image_paths"]])
    (tmp_path / "old.npz").write_bytes(pickle.dumps(content))
    old = read_index(tmp_path / "old.npz")
    check(old)
    paths = {"image_paths": old.image_paths.astype("S"), "depth_paths": old.depth_paths.astype("S")}
    np.savez(tmp_path / "plain.npz", **{**{key: getattr(old, key) for key in ARRAYS}, **paths})
    check(read_index(tmp_path / "plain.npz"))
