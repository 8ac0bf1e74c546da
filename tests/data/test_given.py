"""Folders that a config leaves open: what asks for them, and where a validation set takes them from."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.cli.data.check_data import main as check_data
from s2ld.config import build_config, value_of
from s2ld.data.given import ASKED, given, inherit
from s2ld.data.sources.by_name import build_source, validation_set
from s2ld.errors import S2LDError

KEYS = ("PHOTOS", "POSED_PAIRS.ROOT", "LIGHT.ROOT", "MEGADEPTH.ROOT", "MEGADEPTH.TEST_ROOT")
OPEN = [word for key in KEYS for word in (f"DATA.{key}", ASKED if key == "PHOTOS" else "")]


def read(key: str, text: str) -> str | list[str]:
    return given(value_of(build_config(overrides=[f"DATA.{key}", text]).DATA, key), key)


@pytest.mark.parametrize("key", KEYS)
def test_an_open_folder_is_asked_for_and_a_given_one_returned(key: str) -> None:
    for text in (ASKED,) if key == "PHOTOS" else (ASKED, ""):
        with pytest.raises(S2LDError, match=rf"^DATA\.{key} is not given: add DATA\.{key} and a? ?\w+ .*docs/data\.md"):
            read(key, text)
    assert read(key, "mine") == "mine"


def test_without_photographs_textures_are_drawn_as_ever() -> None:
    assert given(build_config().DATA.PHOTOS, "PHOTOS") == ""
    assert build_source("homography", build_config(), "train")[0].source == "homography"


def test_one_open_folder_of_several_is_asked_for() -> None:
    with pytest.raises(S2LDError, match=r"^DATA\.MEGADEPTH\.ROOT is not given"):
        build_source("megadepth", build_config(overrides=["DATA.MEGADEPTH.ROOT", "['', 'mine']"]), "train")


def test_a_set_takes_from_the_run_what_it_leaves_open_and_nothing_else() -> None:
    run = build_config(overrides=["DATA.PHOTOS", "photos", "DATA.LIGHT.ROOT", "light", "DATA.POSED_PAIRS.ROOT", "mine"])
    own = build_config(overrides=[*OPEN, "DATA.POSED_PAIRS.ROOT", "its own", "DATA.SEED", "5"])
    taken = inherit(own, run).DATA
    assert [value_of(taken, key) for key in KEYS[:3]] == ["photos", "its own", "light"]
    assert (taken.MEGADEPTH.TEST_ROOT, taken.SEED) == ("", 5), "a default is nothing that the run names"
    assert inherit(own, build_config(overrides=OPEN)) == own
    assert inherit(build_config(), run).DATA.PHOTOS == "", "drawn textures are no open folder"


def test_a_validation_set_is_measured_in_the_folder_of_the_run(tmp_path: Path) -> None:
    file = tmp_path / "pairs.yaml"
    file.write_text("DATA: {TEST_SOURCE: posed_pairs}\n")
    run = build_config(overrides=["DATA.POSED_PAIRS.ROOT", "mine", "DATA.VAL_PAIRS", "7"])
    own = validation_set(str(file), run).DATA
    assert (own.POSED_PAIRS.ROOT, own.TEST_PAIRS) == ("mine", 7)


def test_the_check_names_each_open_folder_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("DATA: {TRAIN_SOURCES: [megadepth, homography, light], VAL_SOURCES: [posed_pairs]}\n")
    reports = check_data([str(file), "--fast", "--workers", "0", *OPEN])
    errors = [line for report in reports for line in report.errors]
    assert sorted(line.split()[0] for line in errors) == [f"DATA.{key}" for key in sorted(KEYS[:4])]
