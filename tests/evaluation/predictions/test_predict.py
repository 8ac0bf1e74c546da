"""The cache: what is in it, and when it is made anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from s2ld.config import CN, build_config
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.evaluation.predictions import predict
from s2ld.evaluation.predictions.cache import CacheHeader, read_cache, read_header, write_cache
from s2ld.evaluation.predictions.predict import build_header, predict_into_cache
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch

CPU = torch.device("cpu")
HEADER = CacheHeader("w", "0", "synthetic", 2, "model", "data", 0.05)
TINY = Path(__file__).resolve().parents[3] / "configs/s2ld/outdoor/s2ld_lite.yaml"


def tiny_config() -> CN:
    return build_config([TINY], ["MODEL.MATCH.THRESHOLD", "0.0", "MODEL.MATCH.BORDER", "0"])


SHIFT = torch.tensor([[1.0, 0, 8], [0, 1, 0], [0, 0, 1]])


class Plane:
    """Textured wall at z = 4; the camera moves by 8 px of image 1. The second pair has no depth and another size."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> PairSample:
        self.read += 1
        height, width = (64, 96) if index == 0 else (48, 64)
        image = torch.rand(1, height, width, generator=torch.Generator().manual_seed(index))
        K = torch.tensor([[80.0, 0, 47.5], [0, 80, 31.5], [0, 0, 1]])
        depth = torch.full((height, width), 4.0) if index == 0 else None
        view0 = ViewSample(image, K, depth, (1.5, 1.25), f"{index}a")
        view1 = ViewSample(image.roll(8, 2), K, depth, (1.0, 1.0), f"{index}b")
        return PairSample(view0, view1, moved(0.4), "plane", SHIFT if index == 0 else None)


def moved(x: float) -> Tensor:
    T = torch.eye(4)
    T[0, 3] = x
    return T


def test_predictions_hold_what_the_network_said_and_what_depth_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = S2LD(tiny_config().MODEL).eval(), tmp_path / "sub/predictions.h5"
    assert predict_into_cache(model, Plane(), path, HEADER, CPU)
    first, second = read_cache(path)
    view0, view1 = Plane()[0].view0, Plane()[0].view1
    with torch.inference_mode():
        direct = model(ImageBatch(view0.image[None]), ImageBatch(view1.image[None]))
    assert len(first.points0) == len(direct.coarse) > 0
    assert np.array_equal(first.points1, direct.fine.points1.numpy())
    assert np.array_equal(first.confidence, direct.coarse.confidence.numpy())
    assert first.names == ("0a", "0b")
    assert first.sizes == ((96, 64), (96, 64))
    assert first.scale0.tolist() == [1.5, 1.25]
    assert np.array_equal(first.T_0to1, moved(0.4).numpy())
    assert first.truth is not None
    inside = first.truth.known & (first.truth.warped0[:, 0] < 95)
    assert np.allclose((first.truth.warped0 - first.points0)[inside], [8, 0], atol=1e-3)
    assert np.array_equal(first.truth.valid & inside, inside)
    assert first.homography is not None
    assert np.array_equal(first.homography, SHIFT.numpy())
    assert second.truth is None
    assert second.homography is None
    assert second.sizes == ((64, 48), (64, 48))
    assert [p.names[0] for p in read_cache(path, [1])] == ["1a"]


def test_keypoint_distance_agrees_with_a_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "NEAREST_CHUNK", 7)
    torch.manual_seed(1)
    model, path = S2LD(tiny_config().MODEL).eval(), tmp_path / "predictions.h5"
    predict_into_cache(model, Plane(), path, HEADER, CPU)
    truth = next(read_cache(path)).truth
    sample = Plane()[0]
    with torch.inference_mode():
        points0, points1 = (model.detect(ImageBatch(v.image[None])).points[0] for v in (sample.view0, sample.view1))
    distances = []
    for x, y in points0.tolist():
        x1 = x + 8
        if round(x) in range(96) and round(y) in range(64) and round(x1) in range(96):
            distances.append(min(np.hypot(x1 - u, y - v) for u, v in points1.tolist()))
    assert truth is not None
    assert truth.keypoint_distance == pytest.approx(distances, abs=1e-3)


def test_a_cache_is_kept_for_the_same_header_only(tmp_path: Path) -> None:
    model, path, source = S2LD(tiny_config().MODEL).eval(), tmp_path / "predictions.h5", Plane()
    assert predict_into_cache(model, source, path, HEADER, CPU)
    assert source.read == 2
    assert not predict_into_cache(model, source, path, HEADER, CPU)
    assert source.read == 2
    assert predict_into_cache(model, source, path, dataclasses.replace(HEADER, digest="1"), CPU)
    assert source.read == 4
    path.write_bytes(path.read_bytes()[:100])
    assert predict_into_cache(model, source, path, HEADER, CPU)
    assert read_header(path) == HEADER


def test_an_interrupted_prediction_leaves_no_cache(tmp_path: Path) -> None:
    path = tmp_path / "predictions.h5"
    predict_into_cache(S2LD(tiny_config().MODEL).eval(), Plane(), path, HEADER, CPU)
    whole = list(read_cache(path))
    path.unlink()

    def interrupted():  # type: ignore[no-untyped-def]
        yield whole[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cache(path, HEADER, interrupted())
    assert read_header(path) is None
    with pytest.raises(S2LDError, match=r"predictions\.h5.*predict again"):
        next(read_cache(path))


class Missing(Plane):
    """A source whose second image is not there."""

    def __getitem__(self, index: int) -> PairSample:
        if index == 1:
            raise S2LDError("b.png: no such image")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_one_line_also_out_of_a_loader_process(tmp_path: Path, workers: int) -> None:
    model = S2LD(tiny_config().MODEL).eval()
    with pytest.raises(S2LDError) as error:
        predict_into_cache(model, Missing(), tmp_path / "predictions.h5", HEADER, CPU, workers)
    assert str(error.value) == "b.png: no such image"
    assert not (tmp_path / "predictions.h5").exists()


def test_header_knows_weights_model_and_data_but_not_the_evaluation(tmp_path: Path) -> None:
    weight = tmp_path / "w.safetensors"
    weight.write_bytes(b"one")

    def header(*overrides: str) -> CacheHeader:
        config = build_config([TINY], overrides)
        return build_header(S2LD(config.MODEL), weight, Plane(), config)

    base = header()
    assert (base.weights, base.pairs, base.source) == ("w.safetensors", 2, "synthetic")
    assert header("EVAL.OPENCV_THRESHOLD", "2.0") == base
    assert header("MODEL.MATCH.THRESHOLD", "0.55") != base
    assert header("DATA.TEST_LONG_SIDE", "320") != base
    weight.write_bytes(b"two")
    assert header() != base
