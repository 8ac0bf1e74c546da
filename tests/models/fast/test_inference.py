from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_networks import LAYOUT, random_images
from torch import Tensor, nn

from s2ld.config import build_config
from s2ld.models.fast.inference import for_inference
from s2ld.models.network import S2LD
from s2ld.types import CoarseMatches, FineMatches, ImageBatch, Keypoints

OUTDOOR = Path(__file__).parents[3] / "configs/s2ld/outdoor"


def used_network(config: Path | None, overrides: tuple[str, ...] = ()) -> S2LD:
    """A network whose batch norms have seen something."""
    torch.manual_seed(0)
    network = S2LD(build_config([] if config is None else [config], overrides).MODEL).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return network.double()  # in float32 what rounding does is more, behind softmaxes far more, than 1e-5


def outputs(network: S2LD) -> dict[str, Tensor]:
    images = (ImageBatch(random_images(1, *size).image.double()) for size in ((64, 96), (72, 80)))
    with torch.no_grad():
        encoded = network.encode(*images)
        cell = torch.arange(60)
        fine = network.refine(encoded, CoarseMatches(torch.zeros_like(cell), cell, cell.flip(0), torch.ones(60)))
    tensors = {"coarse0": encoded.coarse0, "coarse1": encoded.coarse1, "fine map": encoded.features1.fine}
    for part in (encoded.keypoints0, fine):
        assert isinstance(part, Keypoints | FineMatches)
        tensors |= {f"{type(part).__name__} {k}": v for k, v in vars(part).items() if isinstance(v, Tensor)}
    return tensors


@pytest.mark.parametrize(
    ("config", "overrides"),
    [(None, ()), (OUTDOOR / "s2ld_lite.yaml", ()), (OUTDOOR / "s2ld_lite.yaml", LAYOUT)],
    ids=["paper", "lite", "layout"],
)
def test_it_computes_the_same(config: Path | None, overrides: tuple[str, ...]) -> None:
    network = used_network(config, overrides)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    plain, fast = outputs(network), outputs(for_inference(network))
    for name, expected in plain.items():
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(fast[name] / scale, expected / scale, rtol=0, atol=1e-5, msg=name)
    after = network.state_dict()  # the network itself stays
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_no_batch_norm_is_left_and_nothing_learns() -> None:
    fast = for_inference(used_network(OUTDOOR / "s2ld_lite.yaml", LAYOUT).train())
    assert not fast.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
