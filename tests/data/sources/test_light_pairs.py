"""Pairs of one view in other light: small photographs, made here."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.sample import PairSample
from s2ld.data.sources.by_name import build_source
from s2ld.data.sources.light_pairs import LightPairs, blank, divide, read_places
from s2ld.errors import S2LDError
from s2ld.geometry.camera import project, unproject
from s2ld.geometry.homography import apply_homography
from s2ld.geometry.pose import transform

SIZE, PHOTO = (96, 64), (160, 120)
GROUPS = {"a": [2, 2, 2, 4], "thermal": [2, 2]}  # photographs of each place
CAMERA = "a/3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sets; the photographs of a place are its texture at falling brightness, darker by a third each."""
    groups: dict[str, dict[str, list[str]]] = {}
    for name, places in GROUPS.items():
        (tmp_path / name).mkdir()
        groups[name] = {}
        for place, count in enumerate(places):
            small = np.random.default_rng((len(name), place)).integers(60, 255, (12, 16, 3), np.uint8)
            texture = cv2.resize(small, PHOTO, interpolation=cv2.INTER_CUBIC)
            files = [f"{place}_{number}.png" for number in range(count)]
            for number, file in enumerate(files):
                cv2.imwrite(str(tmp_path / name / file), np.rint(texture * 0.67**number).astype(np.uint8))
            groups[name][str(place)] = files
    (tmp_path / "groups.json").write_text(json.dumps(groups))
    return tmp_path


def data_config(folder: Path, *overrides: str) -> CN:
    base = ["DATA.IMAGE_SIZE", str(list(SIZE)), "DATA.PHOTOMETRIC.ENABLED", "False", "DATA.LIGHT.ROOT", str(folder)]
    light = ["DATA.LIGHT.VAL_EVERY", "3", "DATA.LIGHT.VAL_PLACES", f"['{CAMERA}']"]
    light += ["DATA.LIGHT.TRAIN_EXCLUDE", "['thermal']", "DATA.VAL_PAIRS", "6"]
    return build_config(overrides=[*base, *light, *overrides])


def same(one: PairSample, other: PairSample) -> bool:
    return torch.equal(one.view0.image, other.view0.image) and torch.equal(one.view1.image, other.view1.image)


def test_places_are_divided_once_and_for_all(folder: Path) -> None:
    config = data_config(folder)
    train, val, test = (LightPairs(config.DATA, split, 0, 10) for split in ("train", "val", "test"))
    assert [place.name for place in train.places] == ["a/0", "a/1"]
    assert [place.name for place in val.places] == [place.name for place in test.places] == ["a/2", CAMERA]
    held_out, others = divide(read_places(folder / "groups.json"), 2, [CAMERA])
    assert [place.name for place in held_out] == ["a/1", "a/3", "thermal/1"]
    assert not {place.name for place in held_out} & {place.name for place in others}
    every = data_config(folder, "DATA.LIGHT.TRAIN_EXCLUDE", "[]", "DATA.LIGHT.VAL_EVERY", "0").DATA
    assert [place.name for place in LightPairs(every, "train", 0, 10).places][-2:] == ["thermal/0", "thermal/1"]


def test_training_reads_no_held_out_photograph(folder: Path) -> None:
    for place in ("2_0", "2_1", "3_0", "3_1", "3_2", "3_3"):
        (folder / "a" / f"{place}.png").unlink()
    source = LightPairs(data_config(folder).DATA, "train", 0, 100)
    assert {source[index].source for index in range(20)} == {"light/a"}


def test_pairs_depend_on_seed_and_index_only(folder: Path) -> None:
    config = data_config(folder).DATA
    first, second = (LightPairs(config, "train", 3, 10) for _ in range(2))
    second[7]
    assert same(first[2], second[2])
    assert not same(first[2], first[3])
    assert not same(first[2], LightPairs(config, "train", 4, 10)[2])
    with pytest.raises(IndexError):
        first[10]


def test_held_out_places_come_in_turn_in_their_own_light(folder: Path) -> None:
    config = data_config(folder, "DATA.PHOTOMETRIC.ENABLED", "True")
    plain = data_config(folder)
    changed, unchanged = (build_source("light", c, "val") for c in (config, plain))
    assert len(changed) == 6
    assert all(same(changed[index], unchanged[index]) for index in range(6))
    (folder / "a" / "3_0.png").unlink()
    (folder / "a" / "3_1.png").unlink()
    (folder / "a" / "3_2.png").unlink()
    with pytest.raises(S2LDError, match=r"3_\d\.png"):
        build_source("light", plain, "val")[1]


@pytest.mark.parametrize("index", range(4))
def test_depth_and_pose_lead_to_the_same_texture_in_other_light(folder: Path, index: int) -> None:
    sample = LightPairs(data_config(folder).DATA, "train", 1, 10)[index]
    x, y = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="xy")
    grid = torch.stack([x, y], -1).reshape(-1, 2).double()
    assert sample.view0.depth is not None
    depth = sample.view0.depth.double().flatten()
    X = unproject(grid, depth, sample.view0.K.double())
    points, _ = project(transform(sample.T_0to1.double(), X), sample.view1.K.double())
    assert sample.homography is not None
    told = apply_homography(sample.homography.double(), grid)
    torch.testing.assert_close(told[depth > 0], points[depth > 0], rtol=1e-5, atol=1e-3)
    inside = ((depth > 0) & ((points >= 0) & (points <= torch.tensor(SIZE) - 1)).all(1)).numpy()
    place = points.float().reshape(SIZE[1], SIZE[0], 2).numpy()
    warped = cv2.remap(sample.view1.image[0].numpy(), place, None, cv2.INTER_LINEAR).reshape(-1)[inside]
    own = sample.view0.image[0].numpy().reshape(-1)[inside]
    ratio = np.median(warped / own)
    assert min(abs(ratio - 0.67), abs(ratio - 1 / 0.67)) < 0.05
    assert np.corrcoef(warped, own)[0, 1] > 0.9


def test_what_is_blank_in_either_photograph_is_unknown_in_both_views(folder: Path) -> None:
    for place in (0, 1):
        path = str(folder / "a" / f"{place}_1.png")
        image = cv2.imread(path)
        image[:, : PHOTO[0] // 2] = 255
        cv2.imwrite(path, image)
    flat = data_config(folder, "DATA.HOMOGRAPHY.TILT", "0.0", "DATA.HOMOGRAPHY.ROTATION", "0.0").DATA
    source = LightPairs(flat, "train", 0, 20)
    whole = 0
    for index in range(20):
        sample = source[index]
        for view in (sample.view0, sample.view1):
            assert view.depth is not None
            known = view.depth[SIZE[1] // 2] > 0
            if bool(known.any()):  # known from some column on to the right end of the photograph
                first = int(known.int().argmax())
                assert not bool(known[:first].any())
                whole += int(first > 0)
    assert whole > 10


def test_blank_needs_a_whole_square_without_texture() -> None:
    photo = np.random.default_rng(0).integers(50, 200, (60, 80, 3)).astype(np.uint8)
    assert not blank([photo]).any()
    burnt = photo.copy()
    burnt[20:50, 30:70] = 255
    mask = blank([photo, burnt])
    assert mask[35, 50]
    assert not mask[21, 31]
    speck = np.zeros((60, 80, 3), np.uint8)
    speck[30, 40] = 255
    mask = blank([speck])
    assert mask[5, 5]
    assert not mask[30, 40]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must hold"),
        ('{"a": {"0": ["x.png"]}}', "a/0 must list at least two"),
        ('{"a": {"0": ["0_0.png", "0_1.png"]}}', "VAL_PLACES: there is no place a/3"),
    ],
)
def test_bad_groups_are_refused_in_one_line(folder: Path, content: str, message: str) -> None:
    (folder / "groups.json").write_text(content)
    with pytest.raises(S2LDError, match=message) as error:
        LightPairs(data_config(folder).DATA, "train", 0, 10)
    assert "\n" not in str(error.value)


def test_missing_and_unlike_files_are_named(folder: Path) -> None:
    with pytest.raises(S2LDError, match=r"nowhere\.json: .*DATA\.LIGHT\.ROOT"):
        LightPairs(data_config(folder, "DATA.LIGHT.GROUPS", "nowhere.json").DATA, "train", 0, 10)
    with pytest.raises(S2LDError, match="no place is left for train"):
        LightPairs(data_config(folder, "DATA.LIGHT.TRAIN_EXCLUDE", "['a','thermal']").DATA, "train", 0, 10)
    for place in (0, 1):
        cv2.imwrite(str(folder / "a" / f"{place}_1.png"), np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(S2LDError, match=r"png: not of the size of"):
        LightPairs(data_config(folder).DATA, "train", 0, 10)[0]
