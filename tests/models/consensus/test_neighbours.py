"""Nearest candidates against all distances, affine fits against least squares and exact fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from s2ld.models.consensus import neighbours
from s2ld.models.consensus.neighbours import Neighbourhoods, fit_shift, nearest


def scattered(n: int, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 640 * torch.rand(n, count, 2, generator=generator, dtype=torch.float64)


def by_all_distances(points: Tensor, valid: Tensor, k: int) -> list[list[int]]:
    """The nearest first, of one pair."""
    found = []
    for i, point in enumerate(points):
        order = (points - point).square().sum(1).argsort().tolist()
        found.append([j for j in order if j != i and valid[j]][:k])
    return found


@pytest.mark.parametrize(("count", "k"), [(2, 1), (3, 2), (13, 12), (40, 3), (60, 12), (300, 12)])
def test_nearest_agrees_with_all_distances(count: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", 128)  # more than one part
    points = scattered(2, count)
    index, known = nearest(points, None, k)
    assert known is None
    everything = torch.ones(count, dtype=torch.bool)
    for pair in range(2):
        assert index[pair].T.tolist() == by_all_distances(points[pair], everything, k)


@pytest.mark.parametrize("count", [1, 2, 9, 50])
def test_padding_is_nobodys_neighbour(count: int) -> None:
    points, k = scattered(3, count), min(12, max(count - 1, 1))
    valid = torch.rand(3, count, generator=torch.Generator().manual_seed(1)) < 0.5
    points[~valid] = points[0, 0].clone()  # nearest of all, were it not padding
    index, known = nearest(points, valid, k)
    assert known is not None
    assert ((index >= 0) & (index < count)).all()
    for pair in range(3):
        expected = by_all_distances(points[pair], valid[pair], k)
        for i in valid[pair].nonzero()[:, 0].tolist():
            assert index[pair, known[pair, :, i], i].tolist() == expected[i]
            repeated = index[pair, ~known[pair, :, i], i].tolist()
            assert set(repeated) <= set(expected[i][:1]) or not expected[i]


def test_points_at_one_place_are_each_others_neighbours() -> None:
    index, _ = nearest(torch.zeros(1, 20, 2), None, 19)
    for i in range(20):
        assert sorted(index[0, :, i].tolist()) == [j for j in range(20) if j != i]


def test_the_fit_is_that_of_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, y0, x1, y1, w = torch.rand(5, 2, 9, 4, generator=generator, dtype=torch.float64)
    x, y, spread = fit_shift(x0, y0, x1, y1, w)
    for n in range(2):
        for p in range(4):
            d0 = torch.stack([x0[n, :, p], y0[n, :, p], torch.ones(9, dtype=torch.float64)], 1).numpy()
            moved = torch.stack([x1 - x0, y1 - y0], 3)[n, :, p].numpy()
            root = w[n, :, p, None].sqrt().numpy()
            pull = np.diag(np.sqrt([neighbours.RIDGE, neighbours.RIDGE, neighbours.EPS]))
            rows, right = np.concatenate([root * d0, pull]), np.concatenate([root * moved, np.zeros((3, 2))])
            solution = np.linalg.lstsq(rows, right, rcond=None)[0]
            np.testing.assert_allclose([x[n, p], y[n, p]], solution[2], rtol=1e-9)
            residual = ((moved - d0 @ solution) ** 2).sum(1)
            expected = (root[:, 0] ** 2 * residual).sum() / (root**2).sum()
            np.testing.assert_allclose(spread[n, p], expected, rtol=1e-9)


def test_an_affine_field_is_found_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "RIDGE", 0.0)
    monkeypatch.setattr(neighbours, "EPS", 0.0)
    x0, y0 = scattered(1, 12).div(100)[0].T.view(2, 1, 12, 1)
    x1, y1 = 1.5 * x0 - 0.4 * y0 + 0.25, 0.3 * x0 + 0.8 * y0 - 2.0
    weight = torch.linspace(0.1, 1, 12, dtype=torch.float64).view(1, 12, 1)
    x1[0, 3], weight[0, 3] = 99.0, 0.0  # a member without weight has no say
    x, y, spread = fit_shift(x0, y0, x1, y1, weight)
    torch.testing.assert_close(torch.cat([x, y, spread], 1), torch.tensor([[0.25, -2.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("valid", [None, torch.arange(30)[None] < 25])
def test_who_lies_where_all_others_say_misses_nothing(valid: Tensor | None) -> None:
    """A picture turned by 20 degrees; one point is 16 px off, and its neighbours say so."""
    points0 = scattered(1, 30) / 4
    turn = torch.tensor([[0.94, 0.34], [-0.34, 0.94]], dtype=torch.float64)
    points1 = points0 @ turn
    points1[0, 7] += torch.tensor([16.0, 0.0], dtype=torch.float64)
    side = Neighbourhoods(points0, valid, 8, (points0, points1))
    weight = torch.ones(1, 30, 1, dtype=torch.float64)
    weight[0, 7] = 0.0  # it is known to be wrong
    shift = side.misses(weight)[0, :25, :2]
    others = torch.arange(25) != 7
    assert shift[others].abs().max() < 0.2  # logarithms of 8 px; what the pull to the identity leaves
    expected = torch.tensor([16 / neighbours.MISS]).log1p()
    torch.testing.assert_close(shift[7, 0].float(), -expected[0], rtol=0.05, atol=0)
