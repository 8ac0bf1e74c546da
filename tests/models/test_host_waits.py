"""Nothing in the forward pass makes the host wait for a GPU but the counting of the matches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from host_waits import HostWaits
from tiny_networks import LITE_PARTS, random_images, tiny_config, tiny_network
from torch import Tensor

from s2ld.config import build_config
from s2ld.models import sparse_matching
from s2ld.models.fast.convolution import Conv3x3
from s2ld.models.fast.inference import computing_in, for_inference
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch

LITE = Path(__file__).parents[2] / "configs/s2ld/outdoor/s2ld_lite.yaml"


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_matching, "FEW_ONLY", set())
    monkeypatch.setattr(Conv3x3, "minimal", False)


def images(n: int, padded: bool) -> tuple[ImageBatch, ImageBatch]:
    both = random_images(n, 64, 96), random_images(n, 64, 96, seed=1)
    if not padded:
        return both
    mask = torch.ones(n, 8, 12, dtype=torch.bool)
    mask[:, :, 10:] = False
    return ImageBatch(both[0].image, mask), ImageBatch(both[1].image, mask)


def waits(network: S2LD, shown: tuple[ImageBatch, ImageBatch]) -> tuple[list[str], int]:
    """What the forward pass waits for, and how many matches it finds."""
    counter = HostWaits()
    with torch.inference_mode(), counter:
        prediction = network(*shown)
    return counter.found, len(prediction.fine.points0)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [((), 1), (("MODEL.DESCRIPTORS", "True"), 1), (LITE_PARTS, 2), (("MODEL.MATCH.TYPE", "sinkhorn"), 1)],
    ids=["paper", "descriptors", "lite", "sinkhorn"],
)
def test_only_matches_are_counted(
    overrides: tuple[str, ...], expected: int, precision: str, n: int, padded: bool
) -> None:
    """Lite counts twice: those of the sparse stage, and at the very end those that its fine stage says are right."""
    with computing_in(precision, torch.device("cpu")):
        found, matches = waits(for_inference(tiny_network(*overrides)), images(n, padded))
    assert matches > 0
    assert found == ["nonzero"] * expected


@pytest.mark.parametrize(("files", "expected"), [([], 1), ([LITE], 2)], ids=["paper", "lite"])
def test_only_matches_are_counted_in_the_shipped_configurations(files: list[Path], expected: int) -> None:
    torch.manual_seed(0)
    network = for_inference(S2LD(build_config(files, ["MODEL.MATCH.THRESHOLD", "0.0"]).MODEL))
    found, matches = waits(network, images(1, False))
    assert matches > 0
    assert found == ["nonzero"] * expected


def test_the_score_filter_counts_once_more() -> None:
    network = tiny_network("MODEL.SCORE_FILTER.ENABLED", "True", "MODEL.SCORE_FILTER.MIN_MATCHES", "3")
    assert waits(network, images(2, False))[0] == ["nonzero"] * 2


@pytest.mark.parametrize(("n", "expected"), [(1, ["nonzero"] * 2), (8, ["nonzero", "_local_scalar_dense", "nonzero"])])
def test_the_consensus_counts_its_candidates(n: int, expected: list[str]) -> None:
    """Those of the fullest of several pairs, beside all of them and, at the end, the matches."""
    network = for_inference(tiny_network(*LITE_PARTS, "MODEL.CONSENSUS.ENABLED", "True"))
    found, matches = waits(network, images(n, False))
    assert matches > 0
    assert found == expected


def test_more_candidates_than_allowed_are_counted_once_more() -> None:
    network = tiny_network(*LITE_PARTS, "MODEL.CONSENSUS.ENABLED", "True", "MODEL.CONSENSUS.CANDIDATES", "1")
    assert waits(network, images(1, False)) == (["nonzero"] * 3, 1)


def test_matching_extracted_features_counts_once() -> None:
    network, (images0, images1) = tiny_network(), images(3, False)
    with torch.inference_mode():
        sides = network.extract(images0), network.extract(images1)
        counter = HostWaits()
        with counter:
            prediction = network.predict(network.encode_pair(*sides))
    assert len(prediction.coarse) > 0
    assert counter.found == ["nonzero"]


def test_the_road_of_the_cpu_would_wait_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_matching, "FEW_ONLY", {"cpu"})
    network = S2LD(tiny_config("MODEL.MATCH.THRESHOLD", "0.02").MODEL).eval()
    found, _ = waits(network, images(2, False))
    assert "_local_scalar_dense" in found
    assert len(found) > 10


@pytest.mark.parametrize(
    ("wait", "name"),
    [
        (lambda x: float(x.max()), "_local_scalar_dense"),
        (lambda x: "positive" if x.sum() > 0 else "not", "_local_scalar_dense"),
        (lambda x: x.nonzero(as_tuple=True), "nonzero"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: x.unique(), "_unique2"),
        (lambda x: torch.equal(x, x), "equal"),
        (lambda x: x.repeat_interleave(x.long()), "repeat_interleave"),
        (lambda x: x.new_tensor([1.0, 2.0]), "lift_fresh"),
        (lambda x: x.to("meta"), "_to_copy"),
        (lambda x: torch.empty(3, device="meta").copy_(x), "copy_"),
    ],
)
def test_what_would_wait_is_found(wait: Callable[[Tensor], object], name: str) -> None:
    counter = HostWaits()
    with counter:
        wait(torch.arange(3.0))
    assert name in counter.found


def test_what_would_not_wait_is_not_found() -> None:
    x = torch.arange(6.0).view(2, 3)
    counter = HostWaits()
    with counter:
        x[torch.zeros(2, dtype=torch.long)], x[0], x[:, None], x.masked_fill(x > 0, 1.0), x.bfloat16().to(x.dtype)
        x.max(1), x.where(x > 0, 0.0), x.new_full((2,), 3.0), torch.linspace(0, 1, 3)
        x.repeat_interleave(torch.ones(2, dtype=torch.long), 0, output_size=2)
    assert counter.found == []
