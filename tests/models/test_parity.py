"""The network computes what the released one computed, in its compatible mode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parity_weights import fill
from torch import Tensor

from s2ld.config import build_config
from s2ld.geometry.camera import resized_to_image
from s2ld.models.checkpoint import RELEASED, load_model
from s2ld.models.fast.inference import computing_in, for_inference
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch, Prediction

SHARED = Path(__file__).parents[3] / "shared" / "reference"
CASES = ["pair_96x128", "batch_128_padded"]


def released_network() -> S2LD:
    return S2LD(build_config(overrides=[*RELEASED, "MODEL.MATCH.THRESHOLD", "0.0"]).MODEL).eval()


def reference_weights(network: S2LD, case: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    state = fill(network.state_dict(), int(case["seed"]))
    for key, value in case.items():
        if key.startswith("bn:"):
            old = state[key[3:]]
            state[key[3:]] = torch.from_numpy(value).reshape(old.shape).to(old.dtype)
    return state


def run(case: dict[str, NDArray[np.float32]]) -> Prediction:
    network = released_network()
    network.load_state_dict(reference_weights(network, case))
    image0, image1 = (torch.from_numpy(case[k]).float() for k in ("in_image0", "in_image1"))
    if case["in_image0"].dtype == np.uint8:
        image0, image1 = image0 / 255, image1 / 255
    mask0, mask1 = (torch.from_numpy(case[k]) if k in case else None for k in ("in_mask0", "in_mask1"))
    with torch.no_grad():
        return network(ImageBatch(image0, mask0), ImageBatch(image1, mask1), keep_confidence=True)


def assert_map(actual: Tensor, expected: NDArray[np.float32]) -> None:
    assert actual.shape == expected.shape
    difference = np.abs(actual.numpy() - expected).max() / np.abs(expected).max()
    assert difference < 1e-3


def check(p: Prediction, case: dict[str, NDArray[np.float32]]) -> None:
    assert p.confidence is not None
    maps = {
        "feat_coarse": torch.cat([p.encoded.features0.coarse, p.encoded.features1.coarse]),
        "feat_fine_every16": torch.cat([p.encoded.features0.fine, p.encoded.features1.fine])[:, ::16],
        "offset0": p.encoded.keypoints0.offset * 4,
        "offset1": p.encoded.keypoints1.offset * 4,
        "score0": p.encoded.keypoints0.score,
        "score1": p.encoded.keypoints1.score,
        "coarse0": p.encoded.coarse0,
        "coarse1": p.encoded.coarse1,
        "coarse0_every16": p.encoded.coarse0[..., ::16],
        "coarse1_every16": p.encoded.coarse1[..., ::16],
        "confidence": p.confidence,
        "confidence_every8": p.confidence[:, ::8],
    }
    checked = [name for name in maps if f"out_{name}" in case]
    assert len(checked) >= 7
    for name in checked:
        assert_map(maps[name], case[f"out_{name}"])
    for name in ("batch", "cell0", "cell1"):
        np.testing.assert_array_equal(getattr(p.coarse, name).numpy(), case[f"out_{name}"])
    assert len(p.coarse) > 10
    np.testing.assert_allclose(p.coarse.confidence, case["out_match_confidence"], rtol=1e-3)
    np.testing.assert_allclose(p.fine.score, case["out_match_score"], rtol=1e-3)
    np.testing.assert_allclose(p.fine.expectation, case["out_fine_expectation"], atol=1e-3)
    for points, side in ((p.fine.points0, "0"), (p.fine.points1, "1")):
        scale = torch.from_numpy(case.get(f"in_scale{side}", np.ones((1, 2), np.float32)))
        image_px = resized_to_image(points, scale[p.coarse.batch], "lineage")
        np.testing.assert_allclose(image_px, case[f"out_points{side}"], atol=0.01)


def test_copied_case(reference: Path) -> None:
    case = dict(np.load(reference / "pair_96x128.npz"))
    check(run(case), case)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.skipif(not SHARED.exists(), reason="../shared is not here")
def test_recorded_case(name: str) -> None:
    case = dict(np.load(SHARED / f"{name}.npz"))
    check(run(case), case)


def test_reduced_precision_stays_near_the_recorded_case(reference: Path) -> None:
    """Tolerance of bfloat16: descriptors within 10 % of their norm, keypoints within 2 px, half within 0.5 px."""
    case = dict(np.load(reference / "pair_96x128.npz"))
    network = released_network()
    network.load_state_dict(reference_weights(network, case))
    images = [ImageBatch(torch.from_numpy(case[f"in_image{side}"]) / 255) for side in "01"]
    with torch.inference_mode(), computing_in("bf16", torch.device("cpu")):
        prediction = for_inference(network)(*images)
    encoded, fine = prediction.encoded, prediction.fine
    assert encoded.features0.fine.dtype == encoded.coarse0.dtype == torch.bfloat16
    for values in (fine.points0, fine.points1, fine.score, prediction.coarse.confidence):
        assert values.dtype == torch.float32
    exact = torch.from_numpy(case["out_coarse0_every16"])
    assert (encoded.coarse0[..., ::16].float() - exact).norm() < 0.1 * exact.norm()
    away = 4 * (encoded.keypoints0.offset - torch.from_numpy(case["out_offset0"]) / 4).norm(dim=1)
    assert away.max() < 2
    assert away.median() < 0.5


def test_state_dict_has_the_released_keys(reference: Path) -> None:
    expected = {k: tuple(shape) for k, (shape, _) in json.loads((reference / "state_dict.json").read_text()).items()}
    network = released_network()
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == expected
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(16.19e6, rel=1e-3)


@pytest.mark.parametrize("kind", ["state_dict.pt", "lightning.ckpt"])
def test_released_files_load_as_they_are(tmp_path: Path, kind: str) -> None:
    state = fill(released_network().state_dict(), 3)
    content = (
        state if kind.endswith(".pt") else {"state_dict": {f"matcher.{k}": v for k, v in state.items()}, "epoch": 29}
    )
    torch.save(content, tmp_path / kind)
    network, config = load_model(tmp_path / kind)
    assert config.MODEL.POSITION.FORM == "released"
    assert config.MODEL.FINE.WINDOW_MODE == "rounded"
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
