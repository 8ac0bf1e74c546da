"""kornia's matchers from local files of random weights: the wiring, and that nothing is downloaded."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import cv2
import kornia.feature as KF
import numpy as np
import pytest
import torch
from torch import nn

from s2ld.errors import S2LDError
from s2ld.evaluation.matchers.interface import MatchedPair
from s2ld.evaluation.matchers.kornia_matchers import KORNIA, KorniaMatcher
from s2ld.types import ImageBatch

CPU = torch.device("cpu")


def lightglue(features: str) -> KF.LightGlue:
    return KF.LightGlue(None, **{**KF.LightGlue.features[features], "weights": None})


def lightglue_file(features: str) -> dict[str, torch.Tensor]:
    """The names of published files, which lack what is computed."""
    state = lightglue(features).state_dict()
    del state["confidence_thresholds"]
    return {key.replace("transformers.3.self_attn", "self_attn.3"): value for key, value in state.items()}


def sharpened_xfeat() -> nn.Module:
    """Random weights whose keypoints and offsets are decided enough to be kept."""
    net = KF.XFeat().net
    with torch.no_grad():
        net.keypoint_head[-1].weight.mul_(20)
        net.fine_matcher[-1].weight.mul_(1e5)
    return net


def weight_files(kind: str) -> list[object]:
    torch.manual_seed(0)
    features = kind.split("-")[1]
    if features == "loftr":
        return [{"state_dict": {f"matcher.{key}": value for key, value in KF.LoFTR(None).state_dict().items()}}]
    if features == "xfeat":
        return [sharpened_xfeat().state_dict()]
    aliked = {key: value for key, value in KF.ALIKED().state_dict().items() if key != "dkd.hw_grid"}
    detectors = {"disk": [{"extractor": KF.DISK().state_dict()}], "aliked": [aliked], "sift": []}
    return [*detectors[features], lightglue_file(features)]


def picture(seed: int) -> ImageBatch:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16), np.uint8)
    image = cv2.resize(coarse, (96, 72), interpolation=cv2.INTER_CUBIC)
    return ImageBatch(torch.from_numpy(image)[None, None].float() / 255)


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first connection, and keep matches however improbable."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("something wants to download")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setitem(KF.LightGlue.default_conf, "filter_threshold", 0.0)
    monkeypatch.setitem(KF.loftr.loftr.default_cfg["match_coarse"], "thr", 0.0)  # type: ignore[index]


def build(kind: str, folder: Path) -> KorniaMatcher:
    paths = []
    for number, content in enumerate(weight_files(kind)):
        paths.append(folder / f"{number}.pth")
        torch.save(content, paths[-1])
    return KorniaMatcher(kind, paths, CPU)


def matched(matcher: KorniaMatcher, *images: ImageBatch) -> MatchedPair:
    with torch.inference_mode():
        return matcher(*images)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("kind", KORNIA)
def test_a_matcher_runs_from_local_files(kind: str, tmp_path: Path) -> None:
    matcher = build(kind, tmp_path)
    assert len(matcher.digest) == 64
    assert "kornia" in matcher.settings
    image = picture(0)
    same = matched(matcher, image, image)
    assert len(same.points0) > 0
    assert same.points0.dtype == same.points1.dtype == same.confidence.dtype == torch.float32
    assert same.points0.shape == same.points1.shape == (*same.confidence.shape, 2)
    assert same.score.shape == same.confidence.shape
    for points in (same.points0, same.points1):
        assert ((points > -8) & (points < torch.tensor([104.0, 80.0]))).all()
    empty = ImageBatch(torch.zeros(1, 1, 64, 64))
    assert matched(matcher, image, empty).points1.shape[1:] == (2,)
    if "lightglue" in kind:
        rows = {tuple(point) for point in same.keypoints0.tolist()}
        assert rows >= {tuple(point) for point in same.points0.tolist()}
        assert torch.equal(same.keypoints0, same.keypoints1)
    if kind == "kornia-xfeat":
        assert torch.equal(same.points0, same.points1)  # each descriptor's nearest is itself


@pytest.mark.usefixtures("_offline")
def test_the_new_indoor_weights_get_their_own_positions(tmp_path: Path) -> None:
    image0, image1 = picture(0), picture(1)
    old, new = (matched(build(kind, tmp_path), image0, image1) for kind in ("kornia-loftr", "kornia-loftr-indoor-new"))
    assert not torch.equal(old.confidence, new.confidence)
    assert KF.loftr.loftr.default_cfg["coarse"]["temp_bug_fix"] is False  # type: ignore[index]


def test_missing_and_foreign_weights_are_one_line(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    torch.save(KF.LoFTR, tmp_path / "code.pth")
    for kind, paths, said in (
        ("kornia-loftr", [], r"--matcher kornia-loftr=loftr_outdoor\.ckpt; get it from https://"),
        ("kornia-disk-lightglue", ["other.pth"], r"=depth-save\.pth,disk_lightglue\.pth"),
        (
            "kornia-loftr",
            ["absent.ckpt"],
            r"absent\.ckpt: no such weight file; .*loftr_outdoor\.ckpt: get it",
        ),
        ("kornia-sift-lightglue", ["other.pth"], r"other\.pth: these weights do not fit"),
        ("kornia-loftr", ["code.pth"], r"code\.pth: not loaded, since it asks for kornia"),
    ):
        with pytest.raises(S2LDError, match=said) as error:
            KorniaMatcher(kind, [tmp_path / path for path in paths], CPU)
        assert "\n" not in str(error.value)
