"""The fast selection against the slow, obvious one: confidence matrix, then `SparseMatching.select`."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_networks import random_images, tiny_config, tiny_network
from torch import Tensor

from s2ld.models.fast import sparse_selection
from s2ld.models.fast.sparse_selection import dual_softmax_matches
from s2ld.models.sparse_matching import SparseMatching
from s2ld.types import CoarseMatches

Grid = tuple[int, int]
CHANNELS = 16


def matching(threshold: float, *overrides: str) -> SparseMatching:
    return SparseMatching(tiny_config("MODEL.MATCH.THRESHOLD", str(threshold), *overrides).MODEL.MATCH)


def descriptors(n: int, grid0: Grid, grid1: Grid, scale: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Image 1 shows the cells of image 0 in another order, with noise, some twice and some not at all."""
    generator = torch.Generator().manual_seed(seed)
    cells0, cells1 = math.prod(grid0), math.prod(grid1)
    x0 = torch.randn(n, cells0, CHANNELS, generator=generator)
    seen = torch.randint(cells0, (n, cells1, 1), generator=generator).expand(-1, -1, CHANNELS)
    x1 = x0.gather(1, seen) + 0.6 * torch.randn(n, cells1, CHANNELS, generator=generator)
    return x0 * scale, x1 * scale


def corner(n: int, grid: Grid, sizes: list[Grid]) -> Tensor:
    mask = torch.zeros(n, *grid, dtype=torch.bool)
    for one, (h, w) in zip(mask, sizes, strict=True):
        one[:h, :w] = True
    return mask


def assert_agree(fast: CoarseMatches, slow: CoarseMatches, tolerance: float = 1e-5) -> None:
    for name in ("batch", "cell0", "cell1"):
        assert torch.equal(getattr(fast, name), getattr(slow, name)), name
    torch.testing.assert_close(fast.confidence, slow.confidence, rtol=0, atol=tolerance)


def both(
    module: SparseMatching,
    x: tuple[Tensor, Tensor],
    grids: tuple[Grid, Grid],
    masks: tuple[Tensor | None, Tensor | None] = (None, None),
) -> tuple[CoarseMatches, CoarseMatches]:
    flat = [None if mask is None else mask.flatten(1) for mask in masks]
    return module.match(*x, *grids, *masks), module.select(module(*x, *flat), *grids, *masks)


@pytest.mark.parametrize(("block", "width"), [(1, 1000), (1000, 1000), (2**20, 1000), (700, 33), (60, 7)])
@pytest.mark.parametrize("threshold", [0.0, 0.005, 0.01, 0.2, 0.5])
def test_agrees_with_the_matrix(threshold: float, block: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row at a time, some rows, all at once; all columns or some."""
    monkeypatch.setattr(sparse_selection, "BLOCK", block)
    monkeypatch.setattr(sparse_selection, "WIDTH", width)
    grids = (12, 15), (13, 11)
    fast, slow = both(matching(threshold), descriptors(2, *grids), grids)
    assert len(slow) > 20
    assert slow.batch.unique().tolist() == [0, 1]
    assert_agree(fast, slow)


@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_agrees_with_the_matrix_where_cells_are_padded(threshold: float) -> None:
    grids = (12, 14), (13, 11)
    mask0, mask1 = corner(2, grids[0], [(12, 11), (10, 14)]), corner(2, grids[1], [(13, 11), (11, 9)])
    for masks in ((mask0, mask1), (mask0, None), (None, mask1)):
        fast, slow = both(matching(threshold), descriptors(2, *grids), grids, masks)
        assert len(slow) > 10
        assert_agree(fast, slow)
    nothing = torch.zeros_like(mask0)
    fast, slow = both(matching(threshold), descriptors(2, *grids), grids, (nothing, mask1))
    assert len(fast) == len(slow) == 0


@pytest.mark.parametrize("scale", [1e-3, 3.0, 10.0, 30.0, 100.0])
def test_agrees_in_float64_at_similarities_of_any_size(scale: float) -> None:
    """Similarities up to ±10⁻⁴ … ±10⁵, with and without a common part as large as that."""
    for common in (0.0, 1.0):
        x0, x1 = (x + common * scale for x in descriptors(1, (8, 9), (9, 7), scale=scale))
        similarity = x0.double()[0] @ x1.double()[0].T / (CHANNELS * 0.1)
        confidence = similarity.softmax(0) * similarity.softmax(1)
        slow = matching(0.2, "MODEL.MATCH.BORDER", "0").select(confidence[None], (8, 9), (9, 7))
        fast = dual_softmax_matches(x0, x1, 0.1, 0.2)
        assert len(slow) > 10 or scale < 1
        assert_agree(
            fast,
            CoarseMatches(slow.batch, slow.cell0, slow.cell1, slow.confidence.float()),
            1e-5 + 1e-6 * float(similarity.abs().max()),
        )


def test_what_float32_cannot_hold_goes_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x0, x1 = descriptors(1, (8, 9), (9, 7))
    expected = dual_softmax_matches(x0, x1, 0.1, 0.2)
    monkeypatch.setattr(sparse_selection, "REACH", 1.0)
    assert sparse_selection._large_shares(x0[0] * 10, x1[0] * 10, 0.2) is None
    assert len(expected) > 10
    assert_agree(dual_softmax_matches(x0, x1, 0.1, 0.2), expected)


@pytest.mark.parametrize("threshold", [0.01, 0.1])
def test_no_more_is_kept_than_shares_above_the_threshold(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory stays below 1 / threshold cells a row, whatever seemed large among the first columns."""
    monkeypatch.setattr(sparse_selection, "WIDTH", 7)
    x0, x1 = (x[0] for x in descriptors(1, (8, 9), (9, 7), scale=0.7))
    shares = sparse_selection._large_shares(x0, x1, threshold)
    weight = (x0 @ x1.T).exp2()
    expected = (weight > threshold * weight.sum(1, keepdim=True)).nonzero()
    assert shares is not None
    assert 40 < len(expected) < len(x0) / threshold
    kept = torch.stack([shares.row, shares.column], 1)
    assert sorted(kept.tolist()) == expected.tolist()


def test_weak_rows_beside_strong_ones_are_not_lost_to_underflow() -> None:
    x0 = torch.diag(torch.tensor([20.0, 6.0, 1.0, 1.5])).repeat(1, 4)[None]
    similarity = x0[0] @ x0[0].T / (CHANNELS * 0.1)
    assert similarity.max() - similarity.diagonal().min() > 900  # float32 holds 2^±127
    assert_agree(dual_softmax_matches(x0, x0, 0.1, 0.5), CoarseMatches(
        torch.zeros(4, dtype=torch.int64), torch.arange(4), torch.arange(4),
        (similarity.softmax(0) * similarity.softmax(1)).diagonal(),
    ))  # fmt: skip


@pytest.mark.parametrize(("block", "width"), [(2**20, 1000), (4, 2), (1, 1)])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.1])
def test_of_equals_the_first_matches(threshold: float, block: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_selection, "BLOCK", block)
    monkeypatch.setattr(sparse_selection, "WIDTH", width)
    module = matching(threshold, "MODEL.MATCH.BORDER", "0")
    eye = torch.eye(4, CHANNELS)[None] * 8
    twice = eye[:, [0, 1, 1, 2, 0, 3]]  # whole numbers, so that no order of summation matters
    for x in ((twice, twice), (eye, twice), (twice, eye), (twice, twice.flip(1)), (0 * twice, 0 * twice)):
        grids = (x[0].shape[1], 1), (1, x[1].shape[1])
        fast, slow = both(module, x, grids)
        assert len(slow) in (4, 1 if threshold < 1 / 36 else 0)
        assert_agree(fast, slow)


@pytest.mark.parametrize("threshold", [0.0, 0.2])
@pytest.mark.parametrize("grids", [((1, 1), (1, 1)), ((1, 1), (3, 5)), ((7, 1), (1, 1))])
def test_single_cells(grids: tuple[Grid, Grid], threshold: float) -> None:
    fast, slow = both(matching(threshold, "MODEL.MATCH.BORDER", "0"), descriptors(1, *grids), grids)
    assert len(slow) <= 1
    assert_agree(fast, slow)


def test_no_match_no_cell_and_no_number() -> None:
    grids = (8, 8), (8, 8)
    fast, slow = both(matching(0.99), descriptors(2, *grids, scale=0.1), grids)
    assert len(fast) == len(slow) == 0
    assert fast.cell0.dtype == torch.int64
    x0, x1 = descriptors(1, *grids)
    assert len(dual_softmax_matches(x0[:, :0], x1, 0.1, 0.2)) == 0
    for threshold in (0.0, 0.2):
        assert len(dual_softmax_matches(x0 * torch.nan, x1, 0.1, threshold)) == 0


def test_half_precision_descriptors_are_matched_in_float32() -> None:
    grids = (12, 15), (13, 11)
    x = tuple(y.bfloat16() for y in descriptors(1, *grids))
    with torch.autocast("cpu", torch.bfloat16):
        fast, slow = both(matching(0.2), (x[0], x[1]), grids)
    assert len(slow) > 10
    assert_agree(fast, slow)


def test_sinkhorn_keeps_its_matrix() -> None:
    grids = (12, 15), (13, 11)
    module = matching(0.05, "MODEL.MATCH.TYPE", "sinkhorn")
    fast, slow = both(module, descriptors(1, *grids, scale=3.0), grids)
    assert len(slow) > 10
    assert_agree(fast, slow, 0.0)
    assert not fast.confidence.requires_grad


def test_the_matrix_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SparseMatching, "forward", lambda *_: pytest.fail("made the matrix"))
    with torch.no_grad():
        prediction = tiny_network()(random_images(1, 64, 96), random_images(1, 64, 96, seed=1))
    assert prediction.confidence is None
    assert len(prediction.coarse) > 0


def test_the_network_says_the_same_with_and_without_the_matrix() -> None:
    network, images = tiny_network(), (random_images(2, 64, 96), random_images(2, 80, 72, seed=1))
    with torch.no_grad():
        fast, slow = network(*images), network(*images, keep_confidence=True)
    assert_agree(fast.coarse, slow.coarse)
    torch.testing.assert_close(fast.fine.points1, slow.fine.points1)
    assert slow.confidence is not None
    assert slow.confidence.shape == (2, 96, 90)


def test_the_matrix_is_made_where_something_learns() -> None:
    network, images = tiny_network(), (random_images(1, 64, 96), random_images(1, 64, 96, seed=1))
    prediction = network(*images)  # in evaluation mode, with gradients
    assert prediction.confidence is not None
    assert prediction.coarse.confidence.requires_grad
    with torch.no_grad():
        assert network.train()(*images).confidence is not None
