"""Merging configs: files from left to right, then the command line; errors name the file and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.config import build_config, config_from_text, defaults
from s2ld.errors import S2LDError


def test_later_files_and_then_the_command_line_win_and_nothing_global_changes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("TRAIN: {SEED: 1, MAX_STEPS: 7, CANONICAL_LR: 1e-3}")
    (tmp_path / "b.yaml").write_text("TRAIN: {SEED: 2}")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    files = [tmp_path / name for name in ("a.yaml", "b.yaml", "empty.yaml")]
    config = build_config(files, ["TRAIN.MAX_STEPS", "9"])
    assert (config.TRAIN.SEED, config.TRAIN.MAX_STEPS, config.TRAIN.CANONICAL_LR) == (2, 9, 1e-3)
    assert defaults().TRAIN.SEED == 66
    again = build_config(overrides=["TRAIN.SEED", "3"], base=config)
    assert (again.TRAIN.SEED, config.TRAIN.SEED) == (3, 2)
    with pytest.raises(AttributeError):
        config.TRAIN.SEED = 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DATA: {FOO: 1}", "unknown config key DATA.FOO"),
        ("MODEL: {MATCH: {TRESHOLD: 0.1}}", r"unknown config key MODEL.MATCH.TRESHOLD; did you mean MODEL.MATCH.THRES"),
        ("1: 2", "unknown config key 1"),
        ("DATA: 5", "DATA is a section, so it cannot be 5"),
        ("DATA:", "DATA is a section, so it cannot be None"),
        ("DATA: {BATCH_SIZE: {X: 1}}", "DATA.BATCH_SIZE is .* it must be a whole number"),
        ("DATA: {BATCH_SIZE: two}", "DATA.BATCH_SIZE is 'two'; it must be a whole number"),
        ("[1, 2]", "must be a mapping of keys, not a list"),
        ("a: [1,", "not YAML"),
        ("DATA: !!python/object/apply:os.system [true]", "not YAML"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(S2LDError, match=words) as caught:
        build_config([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(S2LDError, match=r"^weights\.pt: "):
        config_from_text(text, "weights.pt")


def test_what_is_no_readable_yaml_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("import os")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.yaml").mkdir()
    for name, words in (
        ("code.py", "would execute"),
        ("binary.yaml", "UTF-8"),
        ("folder.yaml", "cannot read this config"),
        ("absent.yaml", "cannot read this config"),
    ):
        with pytest.raises(S2LDError, match=words) as caught:
            build_config([tmp_path / name])
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("overrides", [["TRAIN.STEPS", "1"], ["TRAIN", "1"], ["TRAIN.SEED"], ["TRAIN.SEED.X", "1"]])
def test_bad_overrides_are_one_line(overrides: list[str]) -> None:
    with pytest.raises(S2LDError, match=overrides[0]) as caught:
        build_config(overrides=overrides)
    assert "\n" not in str(caught.value)
