"""Which values a config key takes, and what is said of others."""

from __future__ import annotations

import math
from typing import Any

import pytest

from s2ld.config import build_config, config_from_text, config_keys, config_to_text, defaults, value_of
from s2ld.config.values import ANY_LENGTH, CHOICES, EXAMPLES, RANGES, SPANS, fit
from s2ld.errors import S2LDError
from s2ld.sfm.dataset.settings import build_defaults


def first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def test_every_number_has_a_range_and_every_default_fits() -> None:
    tree = defaults()
    values = {key: EXAMPLES.get(key, value_of(tree, key)) for key in config_keys(tree)}
    numbers = {key for key, value in values.items() if type(first(value)) in (int, float)}
    assert numbers == set(RANGES)
    for key in config_keys(tree):
        assert fit(key, value_of(tree, key), value_of(tree, key), "here") == value_of(tree, key)


def test_the_tables_name_keys_of_the_right_kind() -> None:
    tree = defaults()
    assert {len(value_of(tree, key)) for key in SPANS} == {2}
    of_scenes = {key for key in ANY_LENGTH if key in config_keys(build_defaults())}
    assert all(isinstance(value_of(build_defaults(), key), list) for key in of_scenes)
    assert all(isinstance(value_of(tree, key), list) for key in ANY_LENGTH - of_scenes)
    for key, choices in CHOICES.items():
        value = value_of(tree, key)
        assert set(value if isinstance(value, list) else [value]) <= set(choices)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("TRAIN.CANONICAL_LR", "1", 1.0),
        ("TRAIN.CANONICAL_LR", "1e-3", 1e-3),
        ("TRAIN.MILESTONES", "(0.5, 1)", [0.5, 1.0]),
        ("TRAIN.FREEZE", "['backbone']", ["backbone"]),
        ("DATA.PHOTOS", "2024", "2024"),
        ("DATA.PHOTOS", "", ""),
        ("DATA.IMAGE_SIZE", "[64, 48]", [64, 48]),
        ("DATA.MEGADEPTH.ROOT", "2024", "2024"),
        ("DATA.MEGADEPTH.ROOT", "['a', 'b']", ["a", "b"]),
    ],
)
def test_values_from_the_command_line(key: str, text: str, expected: object) -> None:
    value = value_of(build_config(overrides=[key, text]), key)
    assert value == expected
    assert type(first(value)) is type(first(expected))


def test_a_list_of_folders_gives_way_to_one_and_comes_back() -> None:
    two = build_config(overrides=["DATA.MEGADEPTH.INDEX", "['a', 'b']"])
    assert build_config(overrides=["DATA.MEGADEPTH.INDEX", "c"], base=two).DATA.MEGADEPTH.INDEX == "c"
    assert config_from_text(config_to_text(two), "text") == two


BAD = [
    ("DATA.MEGADEPTH.ROOT", "[]", r"is \[\]; it must be a text"),
    ("DATA.MEGADEPTH.ROOT", "['a', 2]", "is 2; it must be a text"),
    ("DATA.BATCH_SIZE", "0", "is 0; it must be at least 1"),
    ("DATA.BATCH_SIZE", "two", "is 'two'; it must be a whole number"),
    ("DATA.BATCH_SIZE", "1.5", "a whole number"),
    ("DATA.BATCH_SIZE", "True", "a whole number"),
    ("DATA.WORKERS", "-1", "at least 0"),
    ("DATA.IMAGE_SIZE", "[100, 96]", "multiples of 8 px"),
    ("DATA.IMAGE_SIZE", "[96]", "must have 2 values"),
    ("DATA.IMAGE_SIZE", "96", r"a list such as \[640, 480\]"),
    ("DATA.IMAGE_SIZE", "['96', '96']", "a whole number"),
    ("DATA.SYNTHETIC.FOV", "[75.0, 40.0]", "the least value must come first"),
    ("DATA.PHOTOMETRIC.JPEG", "[30]", "must have 2 values"),
    ("MODEL.MATCH.THRESHOLD", "nan", r"within \[0, 1\]"),
    ("TRAIN.CANONICAL_LR", "inf", "at least 0"),
    ("TRAIN.CANONICAL_LR", "fast", "a number"),
    ("TRAIN.CANONICAL_LR", "1" + "0" * 400, "a number"),
    ("TRAIN.MAX_STEPS", "0", "at least 1"),
    ("TRAIN.PRECISION", "half", "use auto or 32-true or bf16-mixed or 16-mixed"),
    ("TRAIN.FREEZE_BATCHNORM", "1", "True or False"),
    ("TRAIN.FREEZE", "backbone", "a list such as"),
    ("TRAIN.FREEZE", "[1]", "a text"),
    ("EVAL.PIXEL_FRAME", "corner", "use edge or lineage"),
    ("MODEL.SCORE_FILTER.STEP", "0.0", "within"),
]


@pytest.mark.parametrize(("key", "text", "words"), BAD)
def test_bad_values_are_one_line_that_names_the_key(key: str, text: str, words: str) -> None:
    with pytest.raises(S2LDError, match=words) as caught:
        build_config(overrides=[key, text])
    assert str(caught.value).startswith(f"command line: {key} is ")
    assert "\n" not in str(caught.value)


def test_infinity_is_no_number_of_steps() -> None:
    with pytest.raises(S2LDError, match="a whole number"):
        fit("TRAIN.MAX_STEPS", math.inf, 1, "here")
