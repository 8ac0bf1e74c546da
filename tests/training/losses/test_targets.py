from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pair_scenes import DEPTH, lateral_pose, leaves, plane_pair, turned_pose, view, with_depth
from torch import Tensor

from s2ld.config import defaults
from s2ld.training.losses.targets import build_targets, full_precision, nearest_keypoint, select_fine, valid_cells
from s2ld.types import CoarseMatches, PairBatch, Targets

TARGETS = defaults().TARGETS


def padded_pair() -> PairBatch:
    """Pair 0 fills the batch, pair 1 does not, differently on both sides; part of the depth is unknown."""
    mask0, mask1 = torch.ones(2, 6, 8, dtype=torch.bool), torch.ones(2, 7, 8, dtype=torch.bool)
    mask0[1, 4:] = False
    mask1[1, :, 6:] = False
    batch = PairBatch(view(48, 64, 2, mask=mask0), view(56, 64, 2, mask=mask1), lateral_pose(-5.0, 2))
    depth0, depth1 = batch.view0.depth, batch.view1.depth
    assert depth0 is not None
    assert depth1 is not None
    depth0[:, 10:20, 30:50] = 0
    depth1[:, 25:30, :20] = 0
    return with_depth(batch, depth0, depth1)


def nearest_of_all(places: Tensor, points: Tensor, valid: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The slow, obvious form of `nearest_keypoint`: all distances."""
    squared = (places[:, :, None] - points[:, None]).square().sum(-1).masked_fill(~valid[:, None], torch.inf)
    least, nearest = squared.min(-1)
    found = least.sqrt() <= radius
    return nearest.where(found, 0), least.sqrt().where(found, torch.inf)


def true_matches_by_loops(batch: PairBatch, points0: Tensor, points1: Tensor, targets: Targets) -> list[list[int]]:
    """Mutual nearest keypoints by all distances, from the warped points of `targets`."""
    radius = TARGETS.COARSE_RADIUS
    cell1, distance0 = nearest_of_all(targets.warped0, points1, valid_cells(batch.view1), radius)
    cell0, distance1 = nearest_of_all(targets.warped1, points0, valid_cells(batch.view0), radius)
    found = []
    for n in range(batch.size):
        for i in range(points0.shape[1]):
            j = int(cell1[n, i])
            near = bool(distance0[n, i].isfinite() & distance1[n, j].isfinite())
            if near and targets.valid0[n, i] and targets.valid1[n, j] and int(cell0[n, j]) == i:
                found.append([n, i, j])
    return found


def as_rows(matches: Targets | CoarseMatches) -> list[list[int]]:
    rows: list[list[int]] = torch.stack([matches.batch, matches.cell0, matches.cell1], 1).tolist()
    return rows


def test_lateral_shift_of_one_cell_moves_every_match_by_one_cell() -> None:
    batch = plane_pair(shift_px=-8.0)
    start = leaves(batch, spread=0.0)
    targets = build_targets(start.encoded(), batch, TARGETS)
    points = start.encoded().keypoints0.points
    torch.testing.assert_close(targets.warped0, points.detach() + torch.tensor([-8.0, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(targets.warped1, points.detach() + torch.tensor([8.0, 0.0]), atol=1e-4, rtol=0)
    column = torch.arange(48) % 8
    assert targets.valid0[0].tolist() == (column > 0).tolist()
    assert targets.valid1[0].tolist() == (column < 7).tolist()
    assert bool(targets.known0.all())
    assert as_rows(targets) == [[0, cell, cell - 1] for cell in range(48) if cell % 8 > 0]
    assert not targets.warped0.requires_grad


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["padded", "turned", "wide"])
def test_neighbourhood_search_agrees_with_all_distances(seed: int, kind: str) -> None:
    batch = padded_pair() if kind == "padded" else replace(plane_pair(80, 64, 2), T_0to1=turned_pose(2))
    batch = with_depth(batch, batch.view0.depth, None if kind == "turned" else batch.view1.depth)
    encoded = leaves(batch, seed, spread=3.0 if kind == "wide" else 1.2).encoded()
    points0, points1 = encoded.keypoints0.points.detach(), encoded.keypoints1.points.detach()
    targets = build_targets(encoded, batch, TARGETS)
    assert as_rows(targets) == true_matches_by_loops(batch, points0, points1, targets)
    if kind == "padded":
        assert len(targets.batch) > 20
    for radius in (2.0, TARGETS.COARSE_RADIUS, 50.0):
        nearest, distance = nearest_keypoint(targets.warped0, points1, batch.view1, radius)
        slow, slow_distance = nearest_of_all(targets.warped0, points1, valid_cells(batch.view1), radius)
        assert torch.equal(nearest, slow)
        assert torch.equal(distance, slow_distance)


def test_a_cell_never_has_two_partners() -> None:
    batch = replace(padded_pair(), T_0to1=torch.eye(4).repeat(2, 1, 1))
    for seed in range(5):
        rows = torch.tensor(as_rows(build_targets(leaves(batch, seed).encoded(), batch, TARGETS)))
        assert len(rows[:, [0, 1]].unique(dim=0)) == len(rows)
        assert len(rows[:, [0, 2]].unique(dim=0)) == len(rows)


def test_padded_cells_are_neither_valid_nor_known_nor_matched() -> None:
    batch = padded_pair()
    targets = build_targets(leaves(batch).encoded(), batch, TARGETS)
    for known, valid, side in (
        (targets.known0, targets.valid0, batch.view0),
        (targets.known1, targets.valid1, batch.view1),
    ):
        assert not bool((known | valid)[~valid_cells(side)].any())
        assert bool(valid[1].any())
    assert bool(valid_cells(batch.view0)[targets.batch, targets.cell0].all())
    assert bool(valid_cells(batch.view1)[targets.batch, targets.cell1].all())


def test_keypoints_that_leave_a_padded_cell_are_not_valid() -> None:
    batch = padded_pair()
    encoded = leaves(batch, spread=0.0).encoded()
    # all keypoints 4 px to the upper left: those of the first padded row now lie on known depth
    moved = replace(encoded.keypoints0, points=encoded.keypoints0.points - 4)
    targets = build_targets(replace(encoded, keypoints0=moved), batch, TARGETS)
    assert not bool(targets.known0[1, 4 * 8 : 5 * 8].any())
    assert bool(targets.known0[1, 3 * 8 + 1 : 4 * 8].all())


@pytest.mark.parametrize("unknown", [None, torch.zeros(1, 48, 64)])
def test_without_depth_nothing_is_known(unknown: Tensor | None) -> None:
    batch = with_depth(plane_pair(), unknown, unknown)
    targets = build_targets(leaves(batch).encoded(), batch, TARGETS)
    assert not bool((targets.known0 | targets.valid0).any())
    assert not bool((targets.known1 | targets.valid1).any())
    assert len(targets.batch) == 0


def test_points_behind_the_other_camera_are_known_but_not_valid() -> None:
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = -2 * DEPTH
    batch = replace(plane_pair(), T_0to1=pose)
    targets = build_targets(leaves(batch).encoded(), batch, TARGETS)
    assert bool(targets.warped0.isfinite().all())
    assert int(targets.known0.sum()) > 30
    assert not bool(targets.valid0.any())
    assert len(targets.batch) == 0


def test_cycle_asks_that_the_way_back_returns() -> None:
    batch = plane_pair(shift_px=-8.0)
    assert batch.view0.depth is not None
    # the other view's depth is half the truth: the way back goes 16 px instead of 8
    batch = with_depth(batch, batch.view0.depth, batch.view0.depth / 2)
    config = TARGETS.clone()
    config.DEPTH_TOLERANCE = 2.0
    encoded = leaves(batch, spread=0.0).encoded()
    assert not bool(build_targets(encoded, batch, config).valid0.any())
    config.CYCLE_RADIUS = 8.1
    assert int(build_targets(encoded, batch, config).valid0.sum()) == 42
    unknown = with_depth(batch, batch.view0.depth, None)
    config.CYCLE_RADIUS = 3.0
    assert int(build_targets(encoded, unknown, config).valid0.sum()) == 42


def test_diverged_keypoints_do_not_raise() -> None:
    batch = plane_pair()
    encoded = leaves(batch).encoded()
    points = torch.full_like(encoded.keypoints0.points, torch.nan)
    encoded = replace(encoded, keypoints0=replace(encoded.keypoints0, points=points))
    assert not bool(build_targets(encoded, batch, TARGETS).valid0.any())


def test_full_precision_widens_halves_only() -> None:
    assert full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert full_precision(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


class TestSelectFine:
    """A 64 x 48 pair has 48 cells and, shifted by one cell, 42 true matches."""

    batch = plane_pair(shift_px=-8.0)

    def targets(self) -> Targets:
        return build_targets(leaves(self.batch, spread=0.0).encoded(), self.batch, TARGETS)

    def predicted(self, count: int, wrong: int = 0) -> CoarseMatches:
        """`count` predicted matches: true ones, but for the first `wrong`."""
        targets = self.targets()
        cell1 = targets.cell1[:count].clone()
        cell1[:wrong] += 8
        confidence = torch.linspace(0.3, 0.9, count).requires_grad_()
        return CoarseMatches(targets.batch[:count], targets.cell0[:count], cell1, confidence)

    def select(self, coarse: CoarseMatches, fraction: float, least: int, seed: int = 0) -> CoarseMatches:
        config = TARGETS.clone()
        config.FINE_FRACTION, config.FINE_MIN_TRUE = fraction, least
        generator = torch.Generator().manual_seed(seed)
        return select_fine(coarse, self.targets(), self.batch, config, generator)

    def test_predicted_ones_are_filled_up_with_true_ones(self) -> None:
        coarse = self.predicted(10, wrong=4)
        chosen = self.select(coarse, 0.5, 6)
        assert len(chosen) == 24
        assert as_rows(chosen)[:10] == as_rows(coarse)
        assert torch.equal(chosen.confidence[:10], coarse.confidence)
        assert not bool(chosen.confidence[10:].any())
        truth = as_rows(self.targets())
        assert all(row in truth for row in as_rows(chosen)[10:])
        assert len({tuple(row) for row in as_rows(chosen)}) == 24

    def test_a_random_part_of_too_many_predicted_ones_leaves_room_for_true_ones(self) -> None:
        coarse = self.predicted(40)
        chosen = self.select(coarse, 0.5, 6)
        assert len(chosen) == 24
        assert int((chosen.confidence > 0).sum()) == 18
        assert as_rows(chosen)[:18] == sorted(as_rows(chosen)[:18])
        assert as_rows(chosen) == as_rows(self.select(coarse, 0.5, 6))
        assert as_rows(chosen) != as_rows(self.select(coarse, 0.5, 6, seed=1))

    def test_budget_is_that_of_the_unpadded_cells(self) -> None:
        mask = torch.ones(1, 6, 8, dtype=torch.bool)
        mask[:, 3:] = False
        images = replace(self.batch.view1.images, mask=mask)
        batch = replace(self.batch, view1=replace(self.batch.view1, images=images))
        config = TARGETS.clone()
        config.FINE_FRACTION, config.FINE_MIN_TRUE = 0.5, 2
        generator = torch.Generator().manual_seed(0)
        assert len(select_fine(self.predicted(40), self.targets(), batch, config, generator)) == 12

    def test_confidence_stays_differentiable(self) -> None:
        coarse = self.predicted(10)
        self.select(coarse, 0.5, 6).confidence.sum().backward()
        assert coarse.confidence.grad is not None
        assert coarse.confidence.grad.tolist() == [1.0] * 10

    def test_nothing_is_made_up(self) -> None:
        nothing = with_depth(self.batch, None, None)
        targets = build_targets(leaves(nothing).encoded(), nothing, TARGETS)
        chosen = select_fine(self.predicted(0), targets, nothing, TARGETS, torch.Generator().manual_seed(0))
        assert len(chosen) == 0
        chosen = select_fine(self.predicted(5), targets, nothing, TARGETS, torch.Generator().manual_seed(0))
        assert len(chosen) == 5
