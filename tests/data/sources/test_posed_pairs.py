"""Folders with a pairs.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.sources.posed_pairs import PosedPairs
from s2ld.errors import S2LDError

SHARED = Path(__file__).resolve().parents[4] / "shared"
K = [[100.0, 0.0, 59.5], [0.0, 110.0, 39.5], [0.0, 0.0, 1.0]]
ROTATION = [[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 1.0]]


def data_config(root: Path, long_side: int = 60, *overrides: str) -> CN:
    keys = ["DATA.POSED_PAIRS.ROOT", str(root), "DATA.TEST_LONG_SIDE", str(long_side), *overrides]
    return build_config([], keys).DATA


def entry(**changes: Any) -> dict[str, Any]:
    return {"image0": "a.png", "image1": "b.png", "K0": K, "K1": K, "T_0to1": ROTATION, "angle_deg": 1.0, **changes}


def write(folder: Path, content: Any) -> Path:
    (folder / "pairs.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_pair_is_resized_with_its_intrinsics(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(120, dtype=np.uint8), (80, 1))
    cv2.imwrite(str(tmp_path / "a.png"), ramp)
    cv2.imwrite(str(tmp_path / "b.png"), ramp[:, ::-1])
    source = PosedPairs(data_config(write(tmp_path, [entry()])))
    sample = source[0]
    assert len(source) == 1
    assert sample.view0.image.shape == (1, 40, 56)
    assert sample.view0.scale == (120 / 56, 2.0)
    assert sample.view0.depth is None
    assert (sample.view0.name, sample.view1.name) == ("a.png", "b.png")
    assert torch.equal(sample.T_0to1, torch.tensor(ROTATION))
    # the principal point is the image centre, before and after
    assert torch.allclose(sample.view0.K[:2, 2], torch.tensor([27.5, 19.5]))
    assert torch.allclose(sample.view0.K.diagonal()[:2], torch.tensor([100 * 56 / 120, 55.0]))
    # a ramp shows that pixel edges are aligned: resized pixel p lies at (p + 1/2) scale - 1/2
    expected = (np.arange(56) + 0.5) * 120 / 56 - 0.5
    assert np.abs(255 * sample.view0.image[0, 20].numpy() - expected)[2:-2].max() < 1.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ([], "at least one pair"),
        ({"a": 1}, "must be a list"),
        ([entry(), 3], "pair 1: must be an object"),
        ([{"image0": "a.png"}], "pair 0: lacks image1, K0, K1, T_0to1"),
        ([entry(K1=[[1, 2], [3, 4]])], "pair 0: K1 must be 3 rows"),
        ([entry(K0="K")], "pair 0: K0"),
        ([entry(K0=np.zeros((3, 3)).tolist())], "pair 0: K0 must be .* with positive fx and fy"),
        ([entry(K1=[[100, 0, 60], [0, -100, 40], [0, 0, 1]])], "pair 0: K1 must be .* with positive fx and fy"),
        ([entry(T_0to1=np.full((4, 4), 2.0).tolist())], "pair 0: T_0to1 holds no rotation"),
        ([entry(T_0to1=np.diag([1.0, 1.0, -1.0, 1.0]).tolist())], "no rotation"),
        ([entry(), entry(T_0to1=[*ROTATION[:3], [0, 0, 0, 2]])], "pair 1: T_0to1 ends in another row; it must be"),
        ([entry(T_0to1=[*ROTATION[:3], [0, 0.5, 0, 1]])], "pair 0: T_0to1 ends in another row"),
        ([entry(), entry(K0=[[10**400, 0, 1], [0, 1, 1], [0, 0, 1]])], "pair 1: K0 must be 3 rows of 3 finite"),
        ([entry(), entry(K0=[[1, 2, 3]])], "pair 1: K0 must be 3 rows"),
        ([entry(), entry(K1={"a": 1})], "pair 1: K1 must be 3 rows"),
        ("[" * 100_000, "not JSON"),
        ([entry(T_0to1=np.full((4, 4), 1e300).tolist())], "no rotation"),
        ([entry(image0="../a.png")], r"pair 0: image0 '../a.png' leads out of the folder"),
        ([entry(), entry(image1="/tmp/a.png")], "pair 1: image1 '/tmp/a.png' leads out of the folder"),
        ([entry(image1="b/../../a.png")], "leads out of the folder"),
        ([entry(image0=5)], "pair 0: image0 is 5; it must be the path of an image"),
        ([entry(image0=["x"] * 10**5)], "pair 0: image0 is .* it must be the path of an image"),
        ([entry(image0="a\0.png")], "it must be the path of an image"),
    ],
)
def test_malformed_list_is_told_in_one_line(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(S2LDError, match=words) as error:
        PosedPairs(data_config(write(tmp_path, content)))
    assert str(tmp_path / "pairs.json") in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_missing_list_and_image_are_named(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match=r"pairs\.json.*POSED_PAIRS\.ROOT"):
        PosedPairs(data_config(tmp_path))
    source = PosedPairs(data_config(write(tmp_path, [entry()])))
    with pytest.raises(S2LDError, match=r"a\.png"):
        source[0]


def test_a_long_list_is_checked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not pair by pair: a list of 200,000 took 40 s."""
    calls: list[int] = []
    original = np.linalg.det
    monkeypatch.setattr(np.linalg, "det", lambda R: calls.append(len(R)) or original(R))
    write(tmp_path, [entry()] * 2000 + [entry(K0=(-np.eye(3)).tolist())])
    with pytest.raises(S2LDError, match="pair 2000: K0"):
        PosedPairs(data_config(tmp_path))
    assert calls == [2001]


def line(image0: str = "a.png", image1: str = "b.png", turns: tuple[object, object] = (0, 0)) -> str:
    numbers = [*np.ravel(K), *np.ravel(K), *np.ravel(ROTATION)]
    return f"{image0} {image1} {turns[0]} {turns[1]} {' '.join(f'{number:.5f}' for number in numbers)}\n"


def text_source(folder: Path, text: str, *overrides: str) -> PosedPairs:
    (folder / "with_gt.txt").write_text(text)
    return PosedPairs(data_config(folder, 120, "DATA.POSED_PAIRS.LIST", "with_gt.txt", *overrides))


@pytest.mark.parametrize("turns", [(0, 0), (1, 0), (2, 3), (3, 1)])
def test_a_list_of_superglue_turns_images_intrinsics_and_pose(tmp_path: Path, turns: tuple[int, int]) -> None:
    """A bright dot in each image: the ray through it, and the motion between the rays, stay those of the scene."""
    dots = {"a.png": (20, 30), "b.png": (90, 10)}
    for name, (x, y) in dots.items():
        image = np.zeros((80, 120), np.uint8)
        image[y, x] = 255
        cv2.imwrite(str(tmp_path / name), image)
    source = text_source(tmp_path, "\n" + line() + line(turns=turns))
    plain, turned = source[0], source[1]
    assert len(source) == 2
    turn = []
    for count, before, after in zip(turns, (plain.view0, plain.view1), (turned.view0, turned.view1), strict=True):
        assert torch.equal(after.image[0], torch.rot90(before.image[0], count))
        rays = []
        for view in (before, after):
            y, x = divmod(int(view.image.argmax()), view.image.shape[2])
            rays.append(torch.linalg.inv(view.K) @ torch.tensor([x, y, 1.0]))
        angle = torch.tensor(count * np.pi / 2)  # counter-clockwise as seen, so from y (down) to x
        cos, sin = angle.cos(), angle.sin()
        turn.append(torch.tensor([[cos, sin, 0, 0], [-sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
        torch.testing.assert_close(rays[1], turn[-1][:3, :3] @ rays[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(turned.T_0to1, turn[1] @ plain.T_0to1 @ turn[0].T)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no pairs"),
        ("a.png b.png 0 0\n", "with_gt.txt:1: must hold 38 words, not 4.*without ground truth"),
        (line() + line(turns=(0, 4)), "with_gt.txt:2: the rotations 0 and 4 must be 0 to 3"),
        (line(turns=("x", 0)), "with_gt.txt:1: after the two paths all words must be numbers"),
        (line().replace("59.50000", "nan"), "with_gt.txt:1: K0 must be 3 rows of 3 finite numbers"),
        (line().replace("-1.0", "1.0"), "with_gt.txt:1: T_0to1 holds no rotation"),
        (line() + line("../a.png"), "with_gt.txt:2: image0 '../a.png' leads out of the folder"),
        (line(turns=(1, 0)).replace("100.00000 0.0", "100.00000 2.0"), "skew cannot be rotated"),
    ],
)
def test_a_malformed_list_of_superglue_is_told_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(S2LDError, match=words) as error:
        text_source(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(S2LDError, match=r"not a text file.*DATA\.POSED_PAIRS\.LIST"):
        PosedPairs(data_config(tmp_path))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_the_real_facades() -> None:
    source = PosedPairs(data_config(SHARED / "posed_pairs/facades", 640))
    assert len(source) == 59
    assert source[58].view1.image.shape == (1, 424, 640)
