"""Validation sources by name and by file, their weights, and photographs that training never shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.config import CN, build_config
from s2ld.data.datamodule import PairDataModule
from s2ld.data.images.textures import TextureBank, is_held_out
from s2ld.data.sources.by_name import build_source, build_validation, validation_weights
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.errors import S2LDError

SMALL = ["DATA.IMAGE_SIZE", "[64, 48]", "DATA.VAL_PAIRS", "3", "DATA.VAL_SOURCES", "['homography']"]
WIDE = "DATA: {TEST_SOURCE: homography, TEST_PAIRS: 5, IMAGE_SIZE: [96, 64], HOMOGRAPHY: {TILT: 60.0}%s}\n"


def write_set(folder: Path, name: str = "wide", more: str = "") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(WIDE % more)
    return str(path)


def run(*overrides: str) -> CN:
    return build_config(overrides=[*SMALL, *overrides])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 96, 3), number, np.uint8))
    return folder


def test_a_set_is_what_its_file_says_whatever_the_run_says(tmp_path: Path) -> None:
    config = run("DATA.VAL_SETS", str([write_set(tmp_path)]), "DATA.HOMOGRAPHY.TILT", "5.0")
    sources = build_validation(config)
    assert [(name, len(source)) for name, source in sources.items()] == [("homography", 3), ("wide", 3)]
    wide = sources["wide"]
    assert isinstance(wide, HomographyPairs)
    assert wide.config.HOMOGRAPHY.TILT == 60
    alone = build_source("homography", build_config([write_set(tmp_path)]), "test")
    assert len(alone) == 5
    assert (wide[1].view0.image == alone[1].view0.image).all()  # the first pairs of test.py's
    assert wide[1].view0.image.shape == (1, 64, 96)


def test_no_pairs_asked_for_are_as_many_as_the_set_has(tmp_path: Path) -> None:
    config = run("DATA.VAL_SOURCES", "[]", "DATA.VAL_SETS", str([write_set(tmp_path)]), "DATA.VAL_PAIRS", "0")
    assert len(build_validation(config)["wide"]) == 5


def test_sets_that_cannot_be_are_told_in_one_line(tmp_path: Path) -> None:
    for names, message in (
        ([str(tmp_path / "none.yaml")], r"none\.yaml: cannot read this config"),
        ([write_set(tmp_path, "homography")], r"DATA\.VAL_SETS: .*there is a validation source 'homography' already"),
        ([write_set(tmp_path, "odd", ", PHOTOZ: a")], r"odd\.yaml: unknown config key DATA\.PHOTOZ"),
    ):
        with pytest.raises(S2LDError, match=message):
            build_validation(run("DATA.VAL_SETS", str(names)))


def test_weights_are_one_for_all_or_one_each(tmp_path: Path) -> None:
    sets = ["DATA.VAL_SETS", str([write_set(tmp_path)])]
    assert validation_weights(run(*sets).DATA, 2) == [1, 1]
    module = PairDataModule(run(*sets, "DATA.VAL_WEIGHTS", "[1, 3]"))
    module.setup("fit")
    assert module.val_weights == [1, 3]
    for weights in ("[1, 2, 3]", "[0, 0]", "[0]"):
        with pytest.raises(S2LDError, match=r"DATA\.VAL_WEIGHTS is .* each of the 2"):
            build_validation(run(*sets, "DATA.VAL_WEIGHTS", weights))
    few = PairDataModule(run(*sets, "DATA.VAL_WEIGHTS", "[1, 3]", "DATA.OVERFIT_PAIRS", "1"))
    few.setup("fit")
    assert few.val_weights == [1]
    assert validation_weights(run().DATA, 0) == []


def test_held_out_photographs_are_the_others(photos: Path) -> None:
    config = run("DATA.PHOTOS", str(photos), "DATA.PHOTOS_HELD_OUT", "0.25").DATA
    whole = TextureBank(str(photos))
    seen, unseen = TextureBank.of(config), TextureBank.of(config, unseen=True)
    assert len(seen) + len(unseen) == len(whole) == 40
    assert 4 <= len(unseen) <= 16
    values = [{int(bank.get(i)[0, 0, 0]) for i in range(len(bank))} for bank in (seen, unseen)]
    assert not values[0] & values[1]
    assert values[1] == {number for number in range(40) if is_held_out(f"{number}.png", 0.25)}
    assert {n for n in range(40) if is_held_out(f"{n}.png", 0.1)} <= values[1]  # a smaller share is part of it
    for name in ("homography", "synthetic"):
        tree = run("DATA.PHOTOS", str(photos), "DATA.PHOTOS_HELD_OUT", "0.25", "DATA.TEST_PAIRS", "2")
        banks = [bank_of(build_source(name, tree, split)) for split in ("train", "val", "test")]
        assert [len(bank) for bank in banks] == [len(seen), len(unseen), len(unseen)]


def bank_of(source: object) -> TextureBank:
    bank = source.textures if isinstance(source, HomographyPairs) else getattr(source, "_bank", None)
    assert isinstance(bank, TextureBank)
    return bank


def test_about_the_share_is_held_out() -> None:
    names = [f"photo_{number:04d}.jpg" for number in range(2000)]
    assert sum(is_held_out(name, 0.05) for name in names) == pytest.approx(100, abs=30)
    assert not any(is_held_out(name, 0.0) for name in names)


def test_too_few_photographs_and_seen_ones_are_told(tmp_path: Path, photos: Path) -> None:
    shared = f", PHOTOS: {photos}, PHOTOS_HELD_OUT: 0.25"
    sets = ["DATA.PHOTOS", str(photos), "DATA.VAL_SETS", str([write_set(tmp_path, more=shared)])]
    with pytest.raises(S2LDError, match=r"wide\.yaml shows a share of 0\.25 .* holds out 0; set DATA\.PHOTOS_HELD_OUT"):
        build_validation(run(*sets))
    build_validation(run(*sets, "DATA.PHOTOS_HELD_OUT", "0.25"))
    for number in range(39):
        (photos / f"{number}.png").unlink()
    with pytest.raises(S2LDError, match=r"none of its photographs is (not )?held out; .* DATA\.PHOTOS_HELD_OUT 0\.25"):
        build_validation(run(*sets, "DATA.PHOTOS_HELD_OUT", "0.25"))
