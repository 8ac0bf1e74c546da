"""Text files as Windows' editors write them: a byte order mark before the first word, and \r\n."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from s2ld.config import build_config
from s2ld.data.index.files import index_files
from s2ld.data.index.matrices import read_matrix
from s2ld.data.index.pair_lists import read_pair_list
from s2ld.data.sources.light_pairs import read_places
from s2ld.data.sources.posed_pairs import PosedPairs
from s2ld.errors import S2LDError
from s2ld.sfm.mapping.read_model import read_model


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    return path


def pairs_json(path: Path, name: str) -> PosedPairs:
    eye = {"K0": np.eye(3).tolist(), "K1": np.eye(3).tolist(), "T_0to1": np.eye(4).tolist()}
    write(path / "pairs.json", json.dumps([{"image0": name, "image1": "b.jpg", **eye}]))
    return PosedPairs(build_config(overrides=["DATA.POSED_PAIRS.ROOT", str(path)]).DATA)


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    assert read_pair_list(write(tmp_path / "a.txt", "a.jpg b.jpg\n")) == [(1, ["a.jpg", "b.jpg"])]
    assert index_files(tmp_path, write(tmp_path / "b.txt", "0001\n")) == [tmp_path / "0001.npz"]
    assert np.array_equal(read_matrix(write(tmp_path / "H_1_2", "1 0 0\n0 1 0\n0 0 1\n"), 3), np.eye(3))
    assert len(pairs_json(tmp_path, "a.jpg")) == 1
    assert len(read_places(write(tmp_path / "c.json", '{"set": {"place": ["a.jpg", "b.jpg"]}}'))) == 1
    assert build_config([write(tmp_path / "d.yaml", "EVAL:\n  SEED: 7\n")]).EVAL.SEED == 7


def test_a_byte_order_mark_in_a_model(tmp_path: Path) -> None:
    write(tmp_path / "cameras.txt", "1 PINHOLE 640 480 500 500 320 240\n")
    write(tmp_path / "images.txt", "1 1 0 0 0 0 0 0 1 a.jpg\n1 1 1\n")
    write(tmp_path / "points3D.txt", "1 0 0 1 0 0 0 0.1 1 0\n")
    assert [image.name for image in read_model(tmp_path).images] == ["a.jpg"]
    (tmp_path / "images.txt").write_bytes("1 1 0 0 0 0 0 0 1 a.jpg\n\n".encode("utf-16"))
    with pytest.raises(S2LDError, match=r"images\.txt: not a text file in UTF-8 but in UTF-16"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["a\0.jpg", "\ud800.jpg", "a\n.jpg"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(S2LDError, match=r"pairs\.json: pair 0: image0.*(has control characters|must be the path)"):
        pairs_json(tmp_path, name)
