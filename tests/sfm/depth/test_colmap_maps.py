"""COLMAP's dense maps: the bytes as its own script writes them, and what may be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.sfm.depth.colmap_maps import find_map, read_map, write_map

DEPTH = np.array([[1.5, 2, 0], [4, 5.25, 6]], np.float32)


def test_bytes_of_the_format(tmp_path: Path) -> None:
    """Width, height, channels; then column-major (width, height, channels), so that x runs fastest."""
    path = tmp_path / "a.jpg.geometric.bin"
    array = np.transpose(DEPTH, (1, 0))[..., None]  # (W, H, C) as in COLMAP's read_write_dense.py
    path.write_bytes(b"3&2&1&" + array.reshape(-1, order="F").astype("<f4").tobytes())
    np.testing.assert_array_equal(read_map(path), DEPTH)
    write_map(tmp_path / "ours.bin", DEPTH)
    assert (tmp_path / "ours.bin").read_bytes() == path.read_bytes()


def test_what_is_no_depth_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_map(path, np.array([[np.nan, -1, 3], [np.inf, 0, 7]], np.float32))
    np.testing.assert_array_equal(read_map(path), [[0, 0, 3], [0, 0, 7]])


def test_geometric_before_photometric(tmp_path: Path) -> None:
    assert find_map(tmp_path, "sub/a.jpg") is None
    write_map(tmp_path / "sub/a.jpg.photometric.bin", DEPTH)
    assert find_map(tmp_path, "sub/a.jpg") == (tmp_path / "sub/a.jpg.photometric.bin", "photometric")
    write_map(tmp_path / "sub/a.jpg.geometric.bin", DEPTH)
    assert find_map(tmp_path, "sub/a.jpg") == (tmp_path / "sub/a.jpg.geometric.bin", "geometric")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a depth map"),
        (b"3&2&1", "not a depth map"),
        (b"PK\3\4 something else", "not a depth map"),
        (b"3&2&3&" + bytes(72), "3 channels"),
        (b"0&2&1&", "0 x 2 px"),
        (b"3&2&1&" + bytes(23), "23 bytes where 3 x 2 px need 24"),
        (b"3&2&1&" + bytes(25), "25 bytes"),
        (b"999999999&999999999&1&" + bytes(25), "25 bytes"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(S2LDError, match=says) as error:
        read_map(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match="cannot read this depth map"):
        read_map(tmp_path / "none.bin")
