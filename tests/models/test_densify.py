"""Proposals on scenes whose map is known exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s2ld.models.densify import DensifySettings, Proposals, nearest_keypoint_cell, propose
from s2ld.types import CoarseMatches, Keypoints

ROWS, COLUMNS = 30, 40
LINEAR, OFFSET = torch.tensor([[0.9, 0.2], [-0.15, 1.1]]), torch.tensor([12.0, 20.0])
BORDER = 16  # px


def keypoints(n: int, seed: int) -> Keypoints:
    offset = 2 * torch.rand(n, 2, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed)) - 1
    y, x = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    corners = 8.0 * torch.stack([x, y], -1).view(1, -1, 2)
    return Keypoints(offset, torch.ones(n, 1, ROWS, COLUMNS), corners + 4 * offset.flatten(2).transpose(1, 2))


def mapped(points: Tensor) -> Tensor:
    return points @ LINEAR.T + OFFSET


def inside(points: Tensor) -> Tensor:
    return ((points >= BORDER) & (points <= torch.tensor([8.0 * COLUMNS, 8.0 * ROWS]) - 1 - BORDER)).all(1)


def scene(n: int = 1, share: float = 0.3) -> tuple[Keypoints, Keypoints, CoarseMatches, Tensor]:
    """Keypoints of both images, some of which match, and where these are."""
    first, second = keypoints(n, 0), keypoints(n, 1)
    truth = mapped(first.points.flatten(0, 1))
    drawn = torch.rand(len(truth), generator=torch.Generator().manual_seed(2)) < share
    rows = (drawn & inside(truth)).nonzero()[:, 0]
    batch, cell0 = rows // (ROWS * COLUMNS), rows % (ROWS * COLUMNS)
    cell1 = nearest_keypoint_cell(second, batch, truth[rows])
    return first, second, CoarseMatches(batch, cell0, cell1, torch.ones(len(rows))), truth[rows]


def pairs_of(found: Proposals) -> set[tuple[int, int]]:
    return set(zip(found.coarse.batch.tolist(), found.coarse.cell0.tolist(), strict=True))


@pytest.mark.parametrize("n", [1, 2])
def test_every_unmatched_keypoint_is_proposed_where_it_is(n: int) -> None:
    first, second, matches, points1 = scene(n)
    found = propose(first, second, matches, points1)
    truth = mapped(first.points.flatten(0, 1)).view(n, -1, 2)
    torch.testing.assert_close(found.place, truth[found.coarse.batch, found.coarse.cell0], atol=0.1, rtol=0)
    torch.testing.assert_close(found.linear, LINEAR.expand(len(found.place), 2, 2), atol=0.02, rtol=0)
    assert not found.coarse.confidence.any()
    assert bool((found.coarse.batch.diff() >= 0).all())
    matched = set(zip(matches.batch.tolist(), matches.cell0.tolist(), strict=True))
    well_inside = inside(truth.flatten(0, 1) - 0.2) & inside(truth.flatten(0, 1) + 0.2)
    wanted = {divmod(row, ROWS * COLUMNS) for row in well_inside.nonzero()[:, 0].tolist()} - matched
    assert pairs_of(found) >= wanted
    assert not pairs_of(found) & matched
    assert bool(inside(found.place).all())


def test_cell_1_has_the_nearest_keypoint() -> None:
    first, second, matches, points1 = scene()
    found = propose(first, second, matches, points1)
    nearest = torch.cdist(found.place, second.points[0], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    chosen = torch.linalg.vector_norm(second.points[0, found.coarse.cell1] - found.place, dim=1)
    # nearest of the cells around the place, of which the nearest of all is nearly always one
    assert float((chosen <= nearest + 1e-3).float().mean()) > 0.99
    assert float(chosen.max()) < 12


def test_outliers_are_outvoted_and_chaos_proposes_nothing() -> None:
    first, second, matches, points1 = scene()
    generator = torch.Generator().manual_seed(3)
    anywhere = torch.rand(points1.shape, generator=generator) * torch.tensor([320.0, 240.0])
    wrong = torch.rand(len(points1), generator=generator) < 0.2
    found = propose(first, second, matches, torch.where(wrong[:, None], anywhere, points1))
    error = torch.linalg.vector_norm(found.place - mapped(first.points[0, found.coarse.cell0]), dim=1)
    assert len(error) > 300
    assert float((error < 0.5).float().mean()) > 0.98
    assert len(propose(first, second, matches, anywhere).place) < 0.02 * len(error)


def test_far_few_and_no_matches_propose_nothing() -> None:
    first, second, matches, points1 = scene()
    near = propose(first, second, matches, points1, DensifySettings(radius=40.0))
    assert len(near.place) > 300
    assert len(propose(first, second, matches, points1, DensifySettings(radius=5.0)).place) == 0
    for count in (5, 0):
        few = torch.arange(count)
        assert len(propose(first, second, matches.at(few), points1[few]).place) == 0


def test_padding_is_left_out() -> None:
    first, second, matches, points1 = scene()
    whole = propose(first, second, matches, points1)
    mask = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    mask[:, :, 25:] = False
    without0 = propose(first, second, matches, points1, mask0=mask)
    assert pairs_of(without0) == {(b, cell) for b, cell in pairs_of(whole) if cell % COLUMNS < 25}
    without1 = propose(first, second, matches, points1, mask1=mask)
    assert 0 < len(without1.place) < len(whole.place)
    assert float(without1.place[:, 0].max()) <= 25 * 8 - 1 - BORDER
