"""YAML of strangers: bombs, values that are not what they look like, keys given twice; each is one short line, soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.config import build_config, config_from_text, config_to_text, defaults
from s2ld.config.yaml_text import read_yaml
from s2ld.errors import LONGEST, S2LDError, one_line, shown

LAUGHS = ["&a0 [lol]"] + [f"&a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
MERGES = ["&a0 {x: 1}"] + [f"&a{i} {{<<: [{','.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]


def listed(items: list[str]) -> str:
    return "".join(f"\n  - {item}" for item in items)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"MODEL:{listed(LAUGHS)}", "holds more than 100,000 values"),
        (f"TRAIN:\n  SEED:{listed(LAUGHS).replace('  -', '    -')}", "holds more than 100,000 values"),
        (f"X:{listed(MERGES)}", "holds more than 100,000 values"),
        ("TRAIN: &a {SEED: *a}", "refers to itself"),
        ("&a [*a]", "refers to itself"),
        ("[" * 600, "nested too deeply"),
        (f"TRAIN: {{SEED: {'x' * 2**21}}}", "2,097,1.. characters are no config"),
        ("TRAIN: {SEED: !!int hello}", "a value is not what its form says"),
        ("TRAIN: {SEED: !!int ''}", "a value is not what its form says"),
        ("TRAIN: {SEED: !!float x}", "a value is not what its form says"),
        ("TRAIN: {SEED: !!bool x}", "a value is not what its form says"),
        ("TRAIN: {SEED: !!timestamp x}", "a value is not what its form says"),
        ("TRAIN: {INIT_WEIGHTS: 2001-99-99}", "a value is not what its form says"),
        ("TRAIN: {INIT_WEIGHTS: 2001-01-01}", "it must be a text"),
        ("TRAIN: {INIT_WEIGHTS: !!binary aGVsbG8=}", "it must be a text"),
        ("TRAIN: {INIT_WEIGHTS: !!binary \u00e9}", "not YAML"),
        ('DATA: {PHOTOS: "a\\0b"}', "a text without NUL"),
        ('DATA: {MEGADEPTH: {ROOT: ["a", "\\ud800"]}}', "a text without NUL or half"),
        ("TRAIN: {SEED: !!set {a, b}}", "it must be a whole number"),
        ("TRAIN: {SEED: 1" + "0" * 400 + "}", "a whole number of about 39. digits; it must be at most 4294967295"),
        ("TRAIN: {SEED: 1" + "0" * 9000 + "}", "a value is not what its form says"),
        ("TRAIN: {SEED: 0x" + "f" * 9000 + "}", "a whole number of about 10800 digits"),
        ("TRAIN: {MAX_STEPS: 9223372036854775808}", "it must be at most 9223372036854775807"),
        ("? 0x" + "f" * 9000, "unknown config key a whole number"),
        ("TRAIN: {SEED: 1}\nMODEL: {}\nTRAIN: {MAX_STEPS: 5}", "TRAIN stands twice, in lines 1 and 3"),
        ("TRAIN:\n  SEED: 1\n  SEED: 2", "SEED stands twice, in lines 2 and 3"),
        ("EVAL: {ESTIMATORS: []}", "name at least one of opencv"),
        ("MODEL: {COARSE: {LAYERS: [" + "self," * 65 + "]}}", "has 65 values; it may have 64"),
        ("MODEL: {BACKBONE: {BLOCKS: [1000000000, 2, 2]}}", r"within \[0, 64\]"),
        ("MODEL: {BACKBONE: {STEM_DIM: 1000000}}", r"within \[1, 8192\]"),
        ('"a\\nb\\u001b": 1', "unknown config key a b"),
    ],
)
def test_it_is_refused_in_one_short_line(text: str, words: str) -> None:
    with pytest.raises(S2LDError, match=words) as caught:
        config_from_text(text, "weights.pt")
    assert str(caught.value).startswith("weights.pt: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", ["x" * 2**20, "TRAIN." * 2**16, str([0] * 2**14), "0x" + "f" * 9000])
def test_a_megabyte_is_not_repeated_in_the_message(tmp_path: Path, value: str) -> None:
    (tmp_path / "own.yaml").write_text(f"{'k' * 2**18}: 1")
    for files, overrides in (
        ([], ["TRAIN.SEED", value]),
        ([], ["MODEL.MATCH.THRESHOLD", value]),
        ([], ["DATA.IMAGE_SIZE", value]),
        ([], ["DATA.PHOTOMETRIC.KIND", value]),
        ([], [value, "1"]),
        ([], [value]),
        ([tmp_path / "own.yaml"], []),
    ):
        with pytest.raises(S2LDError) as caught:
            build_config(files, overrides)
        assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_aliases_in_bounds_are_read_and_the_whole_config_too() -> None:
    assert read_yaml("a: &x [1, 2]\nb: *x\nc: {<<: {d: 3}, d: 4}", "here") == {"a": [1, 2], "b": [1, 2], "c": {"d": 4}}
    assert read_yaml("# nothing", "here") is None
    assert config_from_text(config_to_text(defaults()), "here") == defaults()


def test_values_in_messages_are_short_and_of_one_line() -> None:
    assert [shown(value) for value in (5, "a", [1.5, "b"], None)] == ["5", "'a'", "[1.5, 'b']", "None"]
    nested: list[object] = ["x" * 1000] * 1000
    for _ in range(30):
        nested = [nested] * 10
    for value in (nested, "y" * 10**6, 1 << 10**5, dict.fromkeys(range(100), nested), b"z" * 10**6):
        assert len(shown(value)) <= LONGEST + 3
    assert one_line("a\n\tb\x1b[31m\u2028c") == "a b [31m c"
    assert len(one_line("z" * 10**6)) <= LONGEST + 3
