from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_networks import LAYOUT, LITE_PARTS, random_images, tiny_config, tiny_network
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.models.fast.recomputing import save_memory
from s2ld.models.network import S2LD
from s2ld.types import Candidates, CoarseMatches

LITE = Path(__file__).parents[2] / "configs/s2ld/outdoor/s2ld_lite.yaml"


@pytest.mark.parametrize("window", ["3", "5", "7"])
@pytest.mark.parametrize("stride", ["2", "4"])
@pytest.mark.parametrize("attention", ["linear", "full"])
@pytest.mark.parametrize("parts", [(), LITE_PARTS])
def test_shapes_of_every_variant(window: str, stride: str, attention: str, parts: tuple[str, ...]) -> None:
    network = tiny_network(
        "MODEL.FINE.WINDOW", window, "MODEL.BACKBONE.FINE_STRIDE", stride, "MODEL.COARSE.ATTENTION", attention,
        "MODEL.FINE.ATTENTION", attention, "MODEL.DESCRIPTORS", "True", *parts,
    )  # fmt: skip
    with torch.no_grad():
        p = network(random_images(2, 64, 96), random_images(2, 80, 72, seed=1), keep_confidence=True)
    assert p.confidence is not None
    assert p.confidence.shape == (2, 8 * 12, 10 * 9)
    assert p.encoded.features0.coarse.shape == (2, 32, 8, 12)
    assert p.encoded.features1.fine.shape == (2, 16, 80 // int(stride), 72 // int(stride))
    assert p.encoded.keypoints1.points.shape == (2, 90, 2)
    m = len(p.coarse)
    assert m > 0
    assert p.fine.points0.shape == p.fine.points1.shape == (m, 2)
    assert p.fine.expectation.shape == (m, 3)
    assert p.fine.descriptors0 is not None
    assert p.fine.descriptors0.shape == (m, 32 + 16)
    assert (p.fine.correlation is not None) == bool(parts)
    if p.fine.correlation is not None:
        assert p.fine.correlation.logits.shape == (m, int(window) ** 2)
        assert p.fine.correlation.right.shape == (m,)


def test_point0_is_the_keypoint_and_point1_lies_in_its_window() -> None:
    network = tiny_network()
    with torch.no_grad():
        p = network(random_images(1, 64, 96), random_images(1, 64, 96, seed=1))
    keypoints0, keypoints1 = p.encoded.keypoints0, p.encoded.keypoints1
    assert torch.equal(p.fine.points0, keypoints0.points[p.coarse.batch, p.coarse.cell0])
    shift = p.fine.points1 - keypoints1.points[p.coarse.batch, p.coarse.cell1]
    torch.testing.assert_close(shift, 4 * p.fine.expectation[:, :2], rtol=1e-4, atol=1e-4)
    assert shift.abs().max() <= 4


@pytest.mark.parametrize("parts", [(), LITE_PARTS])
def test_keypoints_lie_around_the_corners_of_their_cells(parts: tuple[str, ...]) -> None:
    keypoints = tiny_network(*parts).detect(random_images(2, 40, 56))
    row, column = torch.meshgrid(torch.arange(5), torch.arange(7), indexing="ij")
    corners = 8.0 * torch.stack([column, row], -1).reshape(-1, 2)
    offset = keypoints.offset.flatten(2).transpose(1, 2)
    torch.testing.assert_close(keypoints.points, corners + 4 * offset)
    assert offset.abs().max() <= 1.2
    assert ((keypoints.score >= 0) & (keypoints.score <= 1)).all()


def test_detect_agrees_with_matching() -> None:
    network, images = tiny_network(), random_images(1, 64, 96)
    with torch.no_grad():
        alone = network.detect(images)
        pair = network.encode(images, random_images(1, 64, 96, seed=1)).keypoints0
    torch.testing.assert_close(alone.points, pair.points, rtol=1e-4, atol=1e-4)


def test_images_of_one_size_go_through_together_and_others_apart() -> None:
    network, small, large = tiny_network(), random_images(1, 64, 96), random_images(1, 80, 72, seed=1)
    with torch.no_grad():
        apart = network.encode(small, large)
        together = network.encode(small, small)
    torch.testing.assert_close(apart.features0.fine, together.features0.fine, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(apart.features1.fine, network.backbone(large.image).fine, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(apart.coarse0, together.coarse0)  # what the other image shows matters here


@pytest.mark.parametrize("size", [(8, 8), (8, 640), (16, 24)])
@pytest.mark.parametrize("parts", [(), LITE_PARTS, LAYOUT])
def test_tiny_images_give_no_match_and_no_error(size: tuple[int, int], parts: tuple[str, ...]) -> None:
    with torch.no_grad():
        p = tiny_network(*parts)(random_images(1, *size), random_images(1, 64, 64))
    assert len(p.coarse) == 0
    assert p.fine.points1.shape == (0, 2)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("parts", [(), LITE_PARTS])
def test_no_match_and_one_match_train(count: int, parts: tuple[str, ...]) -> None:
    network = tiny_network(*parts).train()
    encoded = network.encode(random_images(1, 64, 64), random_images(1, 64, 64, seed=1))
    index = torch.full((count,), 27)
    matches = CoarseMatches(torch.zeros(count, dtype=torch.long), index, index, torch.ones(count))
    fine = network.refine(encoded, matches)
    fine.points1.sum().backward()
    gradients = [p.grad for p in (network.local_dense if parts else network.s2ld_fine).parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients if g is not None) == (count == 1)


def test_images_pass_the_backbone_one_by_one_on_a_cpu() -> None:
    network, images = tiny_network(), (random_images(1, 64, 64), random_images(1, 64, 64, seed=1))
    passes: list[int] = []
    network.backbone.register_forward_pre_hook(lambda _, shown: passes.append(len(shown[0])))
    with torch.no_grad():
        apart = network.encode(*images)
    together = network.encode(*images)  # training keeps its batch, whose statistics it may take
    assert passes == [1, 1, 2]
    torch.testing.assert_close(apart.coarse1, together.coarse1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", [(), LITE_PARTS])
def test_matches_refined_in_parts_are_the_same(parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_network("MODEL.DESCRIPTORS", "True", *parts)
    cell = torch.arange(50)
    with torch.no_grad():
        encoded = network.encode(random_images(1, 64, 64), random_images(1, 64, 96, seed=1))
        matches = CoarseMatches(torch.zeros_like(cell), cell, cell.flip(0), torch.ones(50))
        at_once = network.refine(encoded, matches)
        monkeypatch.setattr("s2ld.models.network.REFINED", {"cpu": 16})
        in_parts = network.refine(encoded, matches)
    assert (in_parts.correlation is not None) == bool(parts)
    for one, other in ((in_parts, at_once), (in_parts.correlation, at_once.correlation)):
        for name, value in vars(one).items() if one is not None else ():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, getattr(other, name), rtol=1e-4, atol=1e-4, msg=name)


def test_score_filter_keeps_a_part() -> None:
    images0, images1 = random_images(1, 160, 160), random_images(1, 160, 160, seed=1)
    plain = tiny_network()
    strict = tiny_network(
        "MODEL.SCORE_FILTER.ENABLED", "True", "MODEL.SCORE_FILTER.MIN_MATCHES", "2",
        "MODEL.SCORE_FILTER.THRESHOLD", "0.99",
    )  # fmt: skip
    with torch.no_grad():
        everything, part = plain(images0, images1), strict(images0, images1)
    assert 2 < len(part.coarse) < len(everything.coarse)
    assert part.fine.score.min() > 0.5 * everything.fine.score.max()


def test_channels_last_changes_nothing() -> None:
    network, images = tiny_network(), (random_images(1, 64, 96), random_images(1, 64, 96, seed=1))
    with torch.no_grad():
        plain = network(*images, keep_confidence=True)
        fast = network.to(memory_format=torch.channels_last)(*images, keep_confidence=True)
    torch.testing.assert_close(plain.confidence, fast.confidence, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(plain.fine.points1, fast.fine.points1, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("stride", ["2", "4"])
def test_the_fine_map_of_lite_moves_with_the_image(stride: str) -> None:
    network = tiny_network("MODEL.BACKBONE.FINE_STRIDE", stride, "MODEL.BACKBONE.FINE_CONVS", "1")
    image, cell = random_images(1, 96, 264).image, 8 // int(stride)
    with torch.no_grad():
        left, right = network.backbone(image[..., :-8]).fine, network.backbone(image[..., 8:]).fine
    inner = slice(10 * cell, 22 * cell)  # of 32 cells: beyond what the borders reach
    moved = slice(9 * cell, 21 * cell)
    torch.testing.assert_close(left[..., inner], right[..., moved], rtol=1e-4, atol=1e-5)


def test_the_coarse_map_with_context_moves_with_the_image() -> None:
    """By 32 px, its last level's stride, also where levels have an odd side."""
    network = tiny_network("MODEL.BACKBONE.CONTEXT", "[12, 16]", "MODEL.BACKBONE.CONTEXT_BLOCKS", "0")
    image = random_images(1, 120, 1048).image
    with torch.no_grad():
        left, right = network.backbone(image[..., :-32]).coarse, network.backbone(image[..., 32:]).coarse
    assert left.shape[2:] == (15, 127)
    inner = slice(56, 72)  # beyond what the borders reach
    torch.testing.assert_close(left[..., inner], right[..., 52:68], rtol=1e-4, atol=1e-5)


def test_context_reaches_far_and_leaves_the_fine_map() -> None:
    plain = tiny_network()
    deeper = tiny_network("MODEL.BACKBONE.CONTEXT", "[24, 40]")
    deeper.load_state_dict(plain.state_dict(), strict=False)
    image = random_images(1, 128, 192).image
    changed = image.clone()
    changed[..., :8, :8] = 0
    far = slice(12, None)  # cells
    with torch.no_grad():
        for network, seen in ((plain, False), (deeper, True)):
            maps, others = network.backbone(image), network.backbone(changed)
            assert bool((maps.coarse - others.coarse)[..., far].abs().max() > 1e-4) == seen
        torch.testing.assert_close(deeper.backbone(image).fine, plain.backbone(image).fine)


@pytest.mark.parametrize("recomputing", [False, True])
def test_all_of_another_layout_learns(recomputing: bool) -> None:
    """Images of two odd sizes, of which one side of a pair is padded."""
    network = tiny_network(*LAYOUT).train()
    if recomputing:
        save_memory(network)
    mask = torch.ones(2, 9, 7, dtype=torch.bool)
    mask[0, 5:] = False
    images = replace(random_images(2, 72, 56), mask=mask), random_images(2, 40, 88, 1)
    encoded = network.encode(*images)
    network.confidence(encoded, mask).diagonal(dim1=1, dim2=2).sum().backward()
    for name, parameter in network.named_parameters():
        if name.startswith(("backbone.context", "s2ld_coarse")):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_further_convolutions_of_the_fine_map_are_residual() -> None:
    plain, deeper = tiny_network(), tiny_network("MODEL.BACKBONE.FINE_CONVS", "2")
    deeper.load_state_dict(plain.state_dict(), strict=False)
    for key, value in deeper.state_dict().items():
        if key.startswith("backbone.fine_convs"):
            value.zero_()
    added = {key.split(".")[2] for key in deeper.state_dict().keys() - plain.state_dict().keys()}
    assert added == {"0", "1"}
    image = random_images(1, 64, 96).image
    with torch.no_grad():
        torch.testing.assert_close(deeper.backbone(image).fine, plain.backbone(image).fine)


def test_verification_filters_what_the_network_predicts() -> None:
    images = random_images(1, 96, 96), random_images(1, 96, 96, seed=1)
    with torch.no_grad():
        everything = tiny_network(*LITE_PARTS)(*images, keep_confidence=True)
        right = everything.fine.correlation
        assert right is not None
        assert everything.confidence is not None
        probability = torch.sigmoid(right.right)
        limit = float(probability.median())
        part = tiny_network(*LITE_PARTS, "MODEL.FINE.THRESHOLD", f"{limit:.6f}")(*images)
        ordered, half = everything.coarse.confidence.sort().values, len(everything.coarse) // 2
        middle = float(ordered[half - 1 : half + 1].mean())  # between two, as rounding may move either
        surer = tiny_network(*LITE_PARTS, "MODEL.MATCH.THRESHOLD", f"{middle:.9f}")
        best = surer(*images)
    cells = everything.coarse.cell0, everything.coarse.confidence
    torch.testing.assert_close(
        everything.coarse.confidence, everything.confidence[0, cells[0], everything.coarse.cell1] * probability
    )
    assert 0 < len(part.coarse) < len(everything.coarse)
    assert part.coarse.cell0.tolist() == cells[0][probability > round(limit, 6)].tolist()
    assert best.coarse.cell0.tolist() == cells[0][cells[1] > surer.sparse_matching.threshold].tolist()


@pytest.mark.parametrize(
    "overrides",
    [(), ("MODEL.INPUT.NORMALISATION", "local", "MODEL.COARSE.AGGREGATE", "4", "MODEL.BACKBONE.CONTEXT", "[96, 128]")],
)
def test_lite_stays_within_its_budget(overrides: tuple[str, ...]) -> None:
    """30 GFLOP (two a multiply-add) for a 640×480 pair with 1,000 matches, 6 M parameters."""
    network = S2LD(build_config([LITE], overrides).MODEL).eval()
    assert sum(p.numel() for p in network.parameters()) <= 6e6
    index = torch.arange(1000)
    matches = CoarseMatches(torch.zeros(1000, dtype=torch.long), index, index, torch.ones(1000))
    images = random_images(1, 480, 640)
    # the fused attention of CPUs is not counted
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoded = network.encode(images, images)
        network.confidence(encoded)
        network.refine(encoded, matches)
    assert counter.get_total_flops() <= 30e9


def test_the_consensus_stays_within_its_budget() -> None:
    """1 GFLOP of products (two a multiply-add) for 1,500 candidates, 0.15 M parameters."""
    network = S2LD(build_config([LITE], ["MODEL.CONSENSUS.ENABLED", "True"]).MODEL).eval().consensus
    assert network is not None
    assert sum(p.numel() for p in network.parameters()) <= 0.15e6
    points = 480 * torch.rand(1500, 2, generator=torch.Generator().manual_seed(0))
    descriptors = torch.zeros(1500, network.projection.in_features)
    candidates = Candidates(
        torch.zeros(1500, dtype=torch.long), points, points, torch.zeros(1500, 4), descriptors, descriptors
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(candidates, 1)
    assert 0.5e9 <= counter.get_total_flops() <= 1e9


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.BACKBONE.TYPE", "vgg"),
        ("MODEL.BACKBONE.FINE_STRIDE", "8"),
        ("MODEL.BACKBONE.TYPE", "resnet_fpn", "MODEL.BACKBONE.FINE_STRIDE", "4"),
        ("MODEL.BACKBONE.TYPE", "resnet_fpn", "MODEL.BACKBONE.FINE_DIM", "8", "MODEL.BACKBONE.CONTEXT", "[40]"),
    ],
)
def test_impossible_backbones_are_named(overrides: tuple[str, ...]) -> None:
    with pytest.raises(S2LDError, match=r"MODEL\.BACKBONE"):
        S2LD(tiny_config(*overrides).MODEL)


def test_an_unknown_fine_stage_is_named() -> None:
    with pytest.raises(S2LDError, match=r"^MODEL\.FINE\.TYPE is 'dense'; use transformer or correlation$"):
        S2LD(tiny_config("MODEL.FINE.TYPE", "dense").MODEL)
