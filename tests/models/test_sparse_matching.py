from __future__ import annotations

import pytest
import torch
from tiny_networks import tiny_config
from torch import Tensor

from s2ld.errors import S2LDError
from s2ld.models.sparse_matching import SparseMatching, filter_by_score, most_confident
from s2ld.types import CoarseMatches


def matching(*overrides: str) -> SparseMatching:
    return SparseMatching(tiny_config(*overrides).MODEL.MATCH)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_select(confidence: Tensor, grid0: tuple[int, int], grid1: tuple[int, int], border: int, threshold: float):
    """Every rule as a loop."""
    found = []
    for n, matrix in enumerate(confidence):
        for i in range(matrix.shape[0]):
            for j in range(matrix.shape[1]):
                best = matrix[i, j] == matrix[i].max() and matrix[i, j] == matrix[:, j].max()
                inside = all(
                    border <= cell // w < h - border and border <= cell % w < w - border
                    for cell, (h, w) in ((i, grid0), (j, grid1))
                )
                if best and inside and matrix[i, j] > threshold:
                    found.append((n, i, j))
    return found


def test_dual_softmax_is_the_product_of_both_softmaxes() -> None:
    x0, x1 = draw(2, 6, 8), draw(2, 5, 8, seed=1)
    confidence = matching()(x0, x1)
    similarity = torch.einsum("nlc,nsc->nls", x0, x1) / 8 / 0.1
    torch.testing.assert_close(confidence, similarity.softmax(1) * similarity.softmax(2))


def test_padded_cells_take_no_confidence() -> None:
    x0, x1 = draw(1, 6, 8), draw(1, 5, 8, seed=1)
    mask0, mask1 = torch.arange(6)[None] < 4, torch.arange(5)[None] < 3
    for kind in ("dual_softmax", "sinkhorn"):
        module = matching("MODEL.MATCH.TYPE", kind)
        padded = module(x0, x1, mask0, mask1)
        torch.testing.assert_close(padded[:, :4, :3], module(x0[:, :4], x1[:, :3]), rtol=1e-4, atol=1e-6)
        assert padded[:, 4:].abs().max() < 1e-12
        assert padded[:, :, 3:].abs().max() < 1e-12


def test_sinkhorn_satisfies_its_marginals() -> None:
    module = matching("MODEL.MATCH.TYPE", "sinkhorn", "MODEL.MATCH.SINKHORN_ITERATIONS", "200")
    confidence = module(draw(2, 6, 8), draw(2, 5, 8, seed=1))
    # a row and its dustbin entry sum to 1, so without the dustbin to at most 1
    assert (confidence.sum(1) <= 1 + 1e-4).all()
    assert (confidence.sum(2) <= 1 + 1e-4).all()
    assert confidence.min() > 0


def test_sinkhorn_by_plain_scaling() -> None:
    """Alternate scaling of the coupling matrix in the linear domain, as Sinkhorn (1967) wrote it."""
    module = matching("MODEL.MATCH.TYPE", "sinkhorn", "MODEL.MATCH.SINKHORN_ITERATIONS", "3")
    x0, x1 = draw(1, 4, 8), draw(1, 3, 8, seed=1)
    kernel = torch.full((5, 4), float(torch.tensor(1.0).exp()))
    kernel[:4, :3] = (x0[0] @ x1[0].T / 8).exp()
    mu = torch.tensor([1.0] * 4 + [3.0]) / 7
    nu = torch.tensor([1.0] * 3 + [4.0]) / 7
    v = torch.ones(4)
    for _ in range(3):
        u = mu / (kernel @ v)
        v = nu / (kernel.T @ u)
    expected = u[:, None] * kernel * v * 7
    torch.testing.assert_close(module(x0, x1)[0], expected[:4, :3])


def test_sinkhorn_learns_its_dustbin_and_prefilters() -> None:
    module = matching("MODEL.MATCH.TYPE", "sinkhorn", "MODEL.MATCH.SINKHORN_PREFILTER", "True")
    x0, x1 = draw(1, 4, 8), draw(1, 4, 8, seed=1)
    module(x0, x1).sum().backward()
    assert module.bin_score.grad is not None
    assert module.bin_score.grad.abs() > 0
    module.eval()
    with torch.no_grad():
        module.bin_score.fill_(50.0)  # everything goes to the dustbin
    assert module(x0, x1).abs().max() == 0


def test_select_agrees_with_the_slow_rules() -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(2, 48, 56, generator=generator)
    module = matching("MODEL.MATCH.BORDER", "1", "MODEL.MATCH.THRESHOLD", "0.9")
    found = module.select(confidence, (6, 8), (7, 8))
    rows = list(zip(found.batch.tolist(), found.cell0.tolist(), found.cell1.tolist(), strict=True))
    expected = slow_select(confidence, (6, 8), (7, 8), 1, 0.9)
    assert rows == expected
    assert len(expected) > 3
    assert torch.equal(found.confidence, confidence[found.batch, found.cell0, found.cell1])


def test_select_keeps_off_the_border_of_the_valid_region() -> None:
    confidence = torch.eye(64)[None]
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :6, :5] = True
    module = matching("MODEL.MATCH.BORDER", "2")
    cells = module.select(confidence, (8, 8), (8, 8), mask, mask).cell0
    assert cells.tolist() == [8 * y + 2 for y in (2, 3)]
    assert len(module.select(confidence, (8, 8), (8, 8)).cell0) == 16


@pytest.mark.parametrize("grid", [(1, 1), (2, 3)])
def test_a_tiny_grid_has_no_match(grid: tuple[int, int]) -> None:
    cells = grid[0] * grid[1]
    assert len(matching().select(torch.ones(1, cells, cells), grid, grid)) == 0


def test_score_filter_lowers_its_threshold_until_enough_remain() -> None:
    config = tiny_config("MODEL.SCORE_FILTER.MIN_MATCHES", "3").MODEL.SCORE_FILTER
    index = torch.arange(6)
    score = torch.tensor([1.0, 0.5, 0.15, 0.12, 0.05, 0.02]) * 0.5  # relative to the largest: 1, .5, .15, ...
    matches = CoarseMatches(torch.zeros(6, dtype=torch.long), index, index, torch.ones(6))
    assert filter_by_score(matches, score, 1, config).cell0.tolist() == [0, 1, 2, 3]
    loose = tiny_config("MODEL.SCORE_FILTER.MIN_MATCHES", "1").MODEL.SCORE_FILTER
    assert filter_by_score(matches, score, 1, loose).cell0.tolist() == [0, 1]


def test_score_filter_works_pair_by_pair_and_on_nothing() -> None:
    config = tiny_config("MODEL.SCORE_FILTER.MIN_MATCHES", "0").MODEL.SCORE_FILTER
    batch, index = torch.tensor([0, 0, 2, 2]), torch.arange(4)
    matches = CoarseMatches(batch, index, index, torch.ones(4))
    kept = filter_by_score(matches, torch.tensor([1.0, 0.1, 0.01, 0.001]), 3, config)
    assert kept.cell0.tolist() == [0, 2]
    nothing = CoarseMatches(batch[:0], index[:0], index[:0], torch.ones(0))
    assert len(filter_by_score(nothing, torch.ones(0), 3, config)) == 0


@pytest.mark.parametrize(("threshold", "step", "least"), [(0.2, 0.1, 4), (0.9, 0.07, 6), (0.5, 1.0, 20), (0.0, 0.1, 9)])
def test_score_filter_is_the_loop_that_lowers_the_threshold(threshold: float, step: float, least: int) -> None:
    node = "MODEL.SCORE_FILTER."
    overrides = {node + "THRESHOLD": threshold, node + "STEP": step, node + "MIN_MATCHES": least}
    config = tiny_config(*(str(x) for pair in overrides.items() for x in pair)).MODEL.SCORE_FILTER
    generator = torch.Generator().manual_seed(2)
    batch = torch.randint(5, (60,), generator=generator).sort().values
    score, index = torch.rand(60, generator=generator) ** 3, torch.arange(60)
    score[batch == 3] = 0.0
    expected = []
    for pair in range(6):
        mine = index[batch == pair].tolist()
        limit = threshold
        while limit > 0 and sum(float(score[i]) > limit * float(score[mine].max()) for i in mine) <= least:
            limit -= step
        expected += [i for i in mine if limit < 0 or float(score[i]) > limit * float(score[mine].max())]
    kept = filter_by_score(CoarseMatches(batch, index, index, torch.ones(60)), score, 6, config)
    assert kept.cell0.tolist() == expected
    assert 0 < len(expected) <= 60


def test_unknown_type_is_named() -> None:
    with pytest.raises(S2LDError, match=r"MODEL\.MATCH\.TYPE is 'nearest'"):
        matching("MODEL.MATCH.TYPE", "nearest")


@pytest.mark.parametrize("threshold", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["dual_softmax", "sinkhorn"])
@pytest.mark.parametrize("masked", [False, True])
def test_select_entries_picks_what_select_picks(threshold: float, kind: str, masked: bool) -> None:
    module = matching("MODEL.MATCH.THRESHOLD", str(threshold), "MODEL.MATCH.TYPE", kind, "MODEL.MATCH.BORDER", "1")
    x0 = 4 * draw(2, 42, 8)
    x1 = x0[:, torch.randperm(42, generator=torch.Generator().manual_seed(0))][:, :35] + 0.3 * draw(2, 35, 8, seed=1)
    mask0 = torch.ones(2, 6, 7, dtype=torch.bool)
    mask0[1, 5:] = False
    masks = (mask0, torch.ones(2, 5, 7, dtype=torch.bool)) if masked else (None, None)
    flat = (mask.flatten(1) for mask in masks) if masked else (None, None)
    expected = module.select(module(x0, x1, *flat), (6, 7), (5, 7), *masks)
    nothing = (torch.zeros(0, dtype=torch.int64),) * 3
    _, entries = module.entries(x0, x1, nothing, min(threshold, 0.01), *masks)
    found = module.select_entries(entries, 2, (6, 7), (5, 7), *masks)
    for name in ("batch", "cell0", "cell1"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    torch.testing.assert_close(found.confidence, expected.confidence)
    assert len(found) > 5


def test_equal_entries_go_to_the_first() -> None:
    module = matching("MODEL.MATCH.BORDER", "0")
    same = torch.zeros(1, 6, 8)
    nothing = (torch.zeros(0, dtype=torch.int64),) * 3
    _, entries = module.entries(same, same, nothing, 0.0)
    found = module.select_entries(entries, 1, (2, 3), (2, 3))
    assert (found.cell0.tolist(), found.cell1.tolist()) == ([0], [0])


def test_the_most_confident_matches_of_each_pair_stay_in_their_order() -> None:
    batch = torch.tensor([0, 0, 0, 0, 2, 2, 3, 3, 3])
    confidence = torch.tensor([0.1, 0.9, 0.5, 0.9, 0.2, 0.1, 0.4, 0.4, 0.4])
    row = torch.arange(9)
    matches = CoarseMatches(batch, row, row + 10, confidence)
    kept = most_confident(matches, 5, 2)
    assert kept.cell0.tolist() == [1, 3, 4, 5, 6, 7]  # of equal ones the first
    assert torch.equal(kept.cell1, kept.cell0 + 10)
    assert torch.equal(kept.batch, batch[kept.cell0])
    assert torch.equal(kept.confidence, confidence[kept.cell0])
    assert most_confident(matches, 5, 9) is matches
    assert len(most_confident(matches.at(row[:0]), 5, 2)) == 0
