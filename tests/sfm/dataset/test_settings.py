from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.config import config_keys, value_of
from s2ld.errors import S2LDError
from s2ld.sfm.dataset.settings import _RANGES, build_defaults, build_settings

SOURCES = Path(__file__).resolve().parents[3] / "src/s2ld/sfm"


def test_every_number_has_a_range_and_the_defaults_fit() -> None:
    tree = build_defaults()
    assert {key for key in config_keys(tree) if type(value_of(tree, key)) in (int, float)} == set(_RANGES)
    assert build_settings([], []) == tree


def test_every_key_is_read() -> None:
    text = "".join(path.read_text() for path in SOURCES.rglob("*.py") if path.name != "settings.py")
    assert [key for key in config_keys(build_defaults()) if f".{key.split('.')[-1]}" not in text] == []


def test_files_and_words_are_merged(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("MAX_SIDE: 500\nPAIRS:\n  PER_IMAGE: 7\n")
    config = build_settings([tmp_path / "a.yaml"], ["PAIRS.PER_IMAGE", "8"])
    assert (config.MAX_SIDE, config.PAIRS.PER_IMAGE) == (500, 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MAX_SIDE", "0"),
        ("SPLIT.HELD_OUT", "1.5"),
        ("PAIRS.OVERLAP", "[0.3, 0.1, 0.5, 0.8]"),
        ("SFM.FOCALS", "[]"),
        ("SFM.FOCALS", "[0.0]"),
        ("DEPTH.LEAST_KNOWN", "1.1"),
        ("SEED", "x"),
        ("SID", "1"),
    ],
)
def test_values_that_cannot_be_are_one_line(key: str, value: str) -> None:
    with pytest.raises(S2LDError, match=key):
        build_settings([], [key, value])
