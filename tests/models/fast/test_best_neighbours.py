"""The selection of accelerators against the slow, obvious one, and against that of CPUs."""

from __future__ import annotations

import pytest
import torch
from test_sparse_selection import assert_agree, both, corner, descriptors, matching
from tiny_networks import random_images, tiny_network

from s2ld.models import sparse_matching
from s2ld.models.fast import best_neighbours as module
from s2ld.models.fast.best_neighbours import best_neighbours
from s2ld.models.fast.sparse_selection import dual_softmax_matches
from s2ld.models.sparse_matching import SparseMatching

WIDE = "MODEL.MATCH.BORDER", "0"


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_matching, "FEW_ONLY", set())
    monkeypatch.setattr(sparse_matching, "dual_softmax_matches", lambda *_: pytest.fail("went the other way"))


@pytest.mark.parametrize("block", [1, 3000, 2**26])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.2])
def test_agrees_with_the_matrix(threshold: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)  # a row at a time, some rows, all at once
    grids = (12, 15), (13, 11)
    fast, slow = both(matching(threshold), descriptors(2, *grids), grids)
    assert len(slow) > 20
    assert slow.batch.unique().tolist() == [0, 1]
    assert_agree(fast, slow)


@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_agrees_with_the_matrix_where_cells_are_padded(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 6000)
    grids = (12, 14), (13, 11)
    mask0, mask1 = corner(2, grids[0], [(12, 11), (10, 14)]), corner(2, grids[1], [(13, 11), (11, 9)])
    for masks in ((mask0, mask1), (mask0, None), (None, mask1)):
        fast, slow = both(matching(threshold), descriptors(2, *grids), grids, masks)
        assert len(slow) > 10
        assert_agree(fast, slow)
    nothing0, nothing1 = torch.zeros_like(mask0), torch.zeros_like(mask1)
    for masks in ((nothing0, mask1), (mask0, nothing1), (nothing0, nothing1)):
        fast, slow = both(matching(threshold, *WIDE), descriptors(2, *grids), grids, masks)
        assert len(fast) == len(slow) == 0


def test_padded_cells_have_no_neighbour_wherever_they_lie() -> None:
    x0, x1 = descriptors(2, (6, 7), (5, 8))
    mask0, mask1 = (torch.rand(2, cells, generator=torch.Generator().manual_seed(9)) < 0.7 for cells in (42, 40))
    best, partner, back = best_neighbours(x0, x1, 0.1, mask0, mask1)
    expected = dual_softmax_matches(x0, x1, 0.1, 0.0, mask0, mask1)
    mutual = (back.gather(1, partner) == torch.arange(42)) & (best > 0)
    assert torch.equal(mutual.nonzero(), torch.stack([expected.batch, expected.cell0], 1))
    assert torch.equal(partner[mutual], expected.cell1)
    torch.testing.assert_close(best[mutual], expected.confidence)
    assert (best[~mask0] == 0).all()
    assert mask1.gather(1, partner)[mask0].all()


@pytest.mark.parametrize("scale", [1e-3, 3.0, 30.0, 100.0])
def test_agrees_with_the_selection_of_cpus_at_similarities_of_any_size(scale: float) -> None:
    grids = (12, 15), (13, 11)
    x0, x1 = (x + scale for x in descriptors(2, *grids, scale=scale))
    expected = dual_softmax_matches(x0, x1, 0.1, 1e-4)
    found = matching(1e-4, *WIDE).match(x0, x1, *grids)
    assert len(expected) > 20 or scale < 1
    assert_agree(found, expected, 1e-5 + 1e-6 * (10 * scale**2))


@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_of_equals_the_first_matches(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 12)
    eye = torch.eye(4, 16)[None] * 8
    twice = eye[:, [0, 1, 1, 2, 0, 3]]  # whole numbers, so that no order of summation matters
    for x in ((twice, twice), (eye, twice), (twice, eye), (twice, twice.flip(1)), (0 * twice, 0 * twice)):
        grids = (x[0].shape[1], 1), (1, x[1].shape[1])
        fast, slow = both(matching(threshold, *WIDE), x, grids)
        assert len(slow) in (4, 1 if threshold < 1 / 36 else 0)
        assert_agree(fast, slow)


def test_no_number_is_no_match_and_half_precision_is_matched_in_float32() -> None:
    grids = (12, 15), (13, 11)
    x0, x1 = (x.bfloat16() for x in descriptors(1, *grids))
    with torch.autocast("cpu", torch.bfloat16):
        fast, slow = both(matching(0.2), (x0, x1), grids)
    assert len(slow) > 10
    assert_agree(fast, slow)
    assert len(matching(0.0).match(x0 * torch.nan, x1, *grids)) == 0


def test_the_network_says_the_same_with_and_without_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = tiny_network(), (random_images(2, 64, 96), random_images(2, 80, 72, seed=1))
    with torch.no_grad():
        slow = network(*images, keep_confidence=True)
        monkeypatch.setattr(SparseMatching, "forward", lambda *_: pytest.fail("made the matrix"))
        fast = network(*images)
    assert len(slow.coarse) > 5
    assert_agree(fast.coarse, slow.coarse)
    torch.testing.assert_close(fast.fine.points1, slow.fine.points1)
