"""Configs by name, with and without a checkout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from s2ld.config import build_config
from s2ld.config.shipped import find_config, find_shipped, shipped_folder
from s2ld.data.index.files import index_files
from s2ld.data.sources.by_name import validation_set
from s2ld.errors import S2LDError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_names_of_shipped_configs_are_unlike_each_other() -> None:
    counts = Counter(path.stem for path in CONFIGS.rglob("*.yaml"))
    assert counts["posed_pairs"] == counts["s2ld_lite"] == 1
    assert [name for name, count in counts.items() if count > 1] == []


def test_names_and_paths_are_the_same_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = build_config([CONFIGS / "data/posed_pairs.yaml", CONFIGS / "s2ld/outdoor/s2ld_lite.yaml"])
    monkeypatch.chdir(tmp_path)
    assert build_config(["posed_pairs", "s2ld_lite"]) == here
    assert build_config(["configs/data/posed_pairs.yaml", "configs/s2ld/outdoor/s2ld_lite.yaml"]) == here


def test_a_file_that_is_there_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "configs/data/posed_pairs.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("TRAIN: {SEED: 77}\n")
    monkeypatch.chdir(tmp_path)
    assert build_config(["configs/data/posed_pairs.yaml"]).TRAIN.SEED == 77
    (tmp_path / "posed_pairs").mkdir()
    with pytest.raises(S2LDError, match=r"^posed_pairs: a config must be a \.yaml file"):
        build_config(["posed_pairs"])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("posed_pear", r"^posed_pear: no config of this name ships, .* did you mean posed_pairs\?$"),
        ("zzzz", r"^zzzz: no config of this name ships, .* there are homography_synthetic, .*validation$"),
        ("configs/data/none.yaml", r"^configs/data/none\.yaml: cannot read this config"),
        ("configs/../secret.yaml", r"^configs/\.\./secret\.yaml: cannot read this config"),
    ],
)
def test_unknown_names_are_one_line(name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(S2LDError, match=line):
        build_config([name])


def test_files_that_configs_name_are_found_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scenes = build_config(["unseen_scenes"]).DATA.MEGADEPTH.TEST_SCENES
    assert [path.name for path in index_files(tmp_path, scenes)] == ["ngp_fox.npz", "vork_alexander.npz"]
    config = build_config(["mixture", "validation", "s2ld_lite"])
    sets = [validation_set(file, config).EVAL.BENCHMARK for file in config.DATA.VAL_SETS]
    assert len(set(sets)) == 5
    assert find_shipped("other/x.txt") == Path("other/x.txt")
    assert find_config("other/x.yaml") == Path("other/x.yaml")


def test_the_folder_in_a_wheel_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped_folder() == CONFIGS
    module = tmp_path / "s2ld/config/shipped.py"
    monkeypatch.setattr("s2ld.config.shipped.__file__", str(module))
    (tmp_path / "s2ld/configs").mkdir(parents=True)
    assert shipped_folder() == tmp_path / "s2ld/configs"
