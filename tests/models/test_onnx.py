"""What is exported against the network, and Lite's ONNX file for any size; a fixed size: `tests/cli`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_networks import LAYOUT, LITE_PARTS, tiny_network
from torch import Tensor

from s2ld.config import build_config
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import load_model
from s2ld.models.network import S2LD
from s2ld.models.onnx import INPUTS, OUTPUTS, Agreement, FixedMatches, check_size, compare, export_onnx
from s2ld.pretrained import resolve
from s2ld.types import ImageBatch

Pair = tuple[Tensor, Tensor]


def pair(width: int, height: int) -> Pair:
    config = build_config(
        overrides=["DATA.IMAGE_SIZE", f"[{width}, {height}]", "DATA.HOMOGRAPHY.OVERLAP", "[0.9, 1.0]"]
    )
    views = HomographyPairs(config.DATA, seed=1, length=1)[0]
    return views.view0.image[None], views.view1.image[None]


@pytest.fixture(scope="module")
def lite() -> S2LD:
    return load_model(resolve("s2ld-lite"), model_overrides=("MODEL.REFINEMENT.ENABLED", "False"))[0]


def tiny_consensus(candidates: int) -> S2LD:
    """Which holds half of the candidates of `pair(128, 96)`, 36 where there may be so many, for right."""
    network = tiny_network(
        "MODEL.CONSENSUS.ENABLED", "True", "MODEL.CONSENSUS.FLOOR", "0.0", "MODEL.CONSENSUS.CANDIDATES",
        str(candidates), "MODEL.CONSENSUS.HIDDEN_DIM", "16", "MODEL.CONSENSUS.ROUNDS", "2", "MODEL.MATCH.BORDER", "0",
        *LITE_PARTS,
    )  # fmt: skip
    with torch.no_grad():
        encoded = network.encode(*(ImageBatch(image) for image in pair(128, 96)))
        coarse, fine = network.candidates(encoded)
        ordered = network.judge(encoded, coarse, fine)[0].sort().values
    assert len(coarse) == min(candidates, 36)
    network.threshold = float(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1].mean())
    return network


def matches_of(network: S2LD, images: Pair) -> Tensor:
    """(M, 6) by falling confidence: what the network itself says."""
    with torch.inference_mode():
        prediction = network(*(ImageBatch(image) for image in images))
    fine, confidence = prediction.fine, prediction.coarse.confidence
    table = torch.cat([fine.points0, fine.points1, confidence[:, None], fine.score[:, None]], 1)
    return table[confidence.argsort(descending=True)]


@pytest.mark.parametrize("name", ["dual_softmax", "sinkhorn", "s2ld-lite", "consensus"])
def test_rows_are_the_matches_of_the_network(name: str, lite: S2LD) -> None:
    images = pair(128, 96)
    if name == "consensus":
        network = tiny_consensus(100)
    else:
        network = lite if name == "s2ld-lite" else tiny_network("MODEL.MATCH.TYPE", name, "MODEL.MATCH.BORDER", "0")
    expected = matches_of(network, images)
    assert len(expected) > 8
    with torch.no_grad():
        *rows, valid = FixedMatches(network, 200)(*images)  # more rows than cells
    assert [row.shape for row in rows] == [(200, 2), (200, 2), (200,), (200,)]
    assert int(valid) == len(expected)
    actual = torch.cat([row.reshape(200, -1) for row in rows], 1)
    found = actual[: len(expected)]
    same = torch.cdist(found[:, :2], expected[:, :2]).argmin(1)  # rounding may turn the order of equal confidences
    assert sorted(same.tolist()) == list(range(len(expected)))
    torch.testing.assert_close(found, expected[same], rtol=0, atol=1e-3)
    assert (actual[:, 4].diff() <= 0).all()
    assert not actual[len(expected) :].any()


@pytest.mark.parametrize("name", ["refinement", "densification"])
def test_some_is_left_out(name: str) -> None:
    images = pair(96, 64)
    if name == "refinement":
        overrides: tuple[str, ...] = ("MODEL.MATCH.BORDER", "0")
        more = ("MODEL.REFINEMENT.ENABLED", "True")
    else:
        overrides = ("MODEL.MATCH.BORDER", "0", "MODEL.CONSENSUS.ENABLED", "True", *LITE_PARTS)
        more = ("MODEL.DENSIFY.ENABLED", "True")
    networks = tiny_network(*overrides, *more), tiny_network(*overrides)
    with torch.no_grad():
        for ours, plain in zip(*(FixedMatches(network, 20)(*images) for network in networks), strict=True):
            assert torch.equal(ours, plain)


def test_fewer_rows_hold_the_most_confident_matches() -> None:
    network, images = tiny_network("MODEL.MATCH.BORDER", "0"), pair(96, 64)
    expected = matches_of(network, images)
    with torch.no_grad():
        points0, _, confidence, _, valid = FixedMatches(network, 5)(*images)
    assert int(valid) == 5 < len(expected)
    torch.testing.assert_close(points0, expected[:5, :2], rtol=0, atol=1e-3)
    torch.testing.assert_close(confidence, expected[:5, 4])


def test_what_cannot_be_exported_is_refused(lite: S2LD, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(S2LDError, match="at least 1, not 0"):
        FixedMatches(lite, 0)
    with pytest.raises(S2LDError, match="SCORE_FILTER"):
        FixedMatches(tiny_network("MODEL.SCORE_FILTER.ENABLED", "True"), 10)
    for size in ((100, 96), (96, 100), (8, 96)):
        with pytest.raises(S2LDError, match="must be multiples of 8 px"):
            check_size(*size)
    monkeypatch.setattr("s2ld.extras.is_there", lambda name: False)
    with pytest.raises(S2LDError, match=r'^onnx, onnxscript are missing: pip install "s2ld\[onnx\]"$'):
        export_onnx(FixedMatches(lite, 10), (96, 64), {})


def test_agreement_needs_nearly_all_matches() -> None:
    agreement = Agreement(100, 100, 99, 0.0, 0.0)
    assert agreement.good
    assert not replace(agreement, same=98).good
    assert not replace(agreement, onnx=110).good
    assert not Agreement(0, 0, 0, 0.0, 0.0).good


@pytest.fixture(scope="module")
def any_size(lite: S2LD) -> tuple[bytes, FixedMatches]:
    """The shipped weights for images of any size."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    model = FixedMatches(lite, 150)
    return export_onnx(model, None, {"colour": "grey"}), model


@pytest.mark.parametrize("sizes", [((128, 96), (128, 96)), ((96, 144), (96, 144)), ((160, 120), (120, 160))])
def test_lite_at_any_size(any_size: tuple[bytes, FixedMatches], sizes: tuple[tuple[int, int], ...]) -> None:
    image0, image1 = pair(*sizes[0])
    width, height = sizes[1]
    agreement = compare(*any_size, image0, torch.nn.functional.interpolate(image1, (height, width), mode="area"))
    assert agreement.torch > 10
    assert agreement.good, agreement


@pytest.fixture(scope="module")
def another_layout() -> tuple[bytes, FixedMatches]:
    """A tiny network with normalised images, aggregated attention and context, for images of any size."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    model = FixedMatches(tiny_network(*LITE_PARTS, *LAYOUT, "MODEL.MATCH.BORDER", "0"), 100)
    return export_onnx(model, None, {}), model


@pytest.mark.parametrize("sizes", [((128, 96), (128, 96)), ((72, 104), (200, 88))])
def test_another_layout_at_any_size(
    another_layout: tuple[bytes, FixedMatches], sizes: tuple[tuple[int, int], ...]
) -> None:
    image0, image1 = pair(*sizes[0])
    width, height = sizes[1]
    agreement = compare(*another_layout, image0, torch.nn.functional.interpolate(image1, (height, width), mode="area"))
    assert agreement.torch == agreement.onnx > 10
    assert agreement.same >= 0.9 * agreement.torch, agreement  # random weights have many candidates as good


def test_the_file_says_what_it_is(any_size: tuple[bytes, FixedMatches]) -> None:
    import onnx

    model = onnx.load_from_string(any_size[0])
    onnx.checker.check_model(model, full_check=True)
    sides = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    assert sides == {name: [1, 1, f"height{n}", f"width{n}"] for n, name in enumerate(INPUTS)}
    shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in model.graph.output]
    assert [o.name for o in model.graph.output] == list(OUTPUTS)
    assert shapes == [[150, 2], [150, 2], [150], [150], []]
    assert {p.key: p.value for p in model.metadata_props} == {"colour": "grey"}
    assert str(Path(__file__).parents[2]).encode() not in any_size[0]


def test_another_network_does_not_pass(any_size: tuple[bytes, FixedMatches]) -> None:
    agreement = compare(any_size[0], FixedMatches(tiny_network("MODEL.MATCH.BORDER", "0"), 150), *pair(128, 96))
    assert min(agreement.torch, agreement.onnx) > 10
    assert not agreement.good
