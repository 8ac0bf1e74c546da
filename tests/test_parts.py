"""Files in pieces: what goes in comes out, and nothing damaged passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.parts import join_file, split_file


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(2500))
    return path


@pytest.mark.parametrize(("size", "count"), [(1000, 3), (2500, 1), (1250, 2), (9999, 1)])
def test_the_parts_make_the_file_again(whole: Path, tmp_path: Path, size: int, count: int) -> None:
    manifest = split_file(whole, tmp_path / "parts", size)
    parts = sorted((tmp_path / "parts").glob("*.part?of?"))
    assert [path.name for path in parts] == [f"weights.safetensors.part{i + 1}of{count}" for i in range(count)]
    assert max(path.stat().st_size for path in parts) <= size
    assert join_file(manifest).read_bytes() == whole.read_bytes()
    assert join_file(manifest, tmp_path / "else" / "x").read_bytes() == whole.read_bytes()


def test_a_damaged_or_missing_part_is_named_and_nothing_is_written(whole: Path, tmp_path: Path) -> None:
    manifest = split_file(whole, tmp_path / "parts", 1000)
    second = tmp_path / "parts" / "weights.safetensors.part2of3"
    data = second.read_bytes()
    for broken in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1]):
        second.write_bytes(broken)
        with pytest.raises(S2LDError, match=r"part2of3: damaged .* fetch it again"):
            join_file(manifest)
    second.unlink()
    with pytest.raises(S2LDError, match=r"part2of3: this part is missing"):
        join_file(manifest)
    assert not (tmp_path / "parts" / "weights.safetensors").exists()


def test_parts_in_the_wrong_order_do_not_pass(whole: Path, tmp_path: Path) -> None:
    manifest = split_file(whole, tmp_path / "parts", 1250)
    content = json.loads(manifest.read_text())
    content["parts"].reverse()
    manifest.write_text(json.dumps(content))
    with pytest.raises(S2LDError, match="damaged"):
        join_file(manifest)


def test_bad_lists_are_one_line(whole: Path, tmp_path: Path) -> None:
    for text in ("", "[]", '{"parts": [{"name": "x"}]}', '{"parts": [{"name": "../x", "size": 1, "sha256": ""}]}'):
        path = tmp_path / "x.parts.json"
        path.write_text(text)
        with pytest.raises(S2LDError, match="not a list of parts"):
            join_file(path)
    with pytest.raises(S2LDError, match="cannot read this list"):
        join_file(tmp_path / "absent.parts.json")
    with pytest.raises(S2LDError, match="at least 1"):
        split_file(whole, tmp_path, 0)
    with pytest.raises(S2LDError, match="cannot read this file"):
        split_file(tmp_path / "absent", tmp_path, 10)
