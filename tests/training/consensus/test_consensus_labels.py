from __future__ import annotations

import pytest
import torch
from pair_scenes import leaves, matches, plane_pair, with_depth

from s2ld.config import defaults
from s2ld.training.consensus.labels import RIGHT, UNKNOWN, WRONG, candidate_errors, label
from s2ld.training.losses.targets import build_targets
from s2ld.types import CoarseMatches, FineMatches, PairBatch, Targets

LOSS = defaults().LOSS
SHIFT = -8.0  # px by which every point moves to the right; the epipolar lines are horizontal
ROW = 8  # cells; the image has six rows
INNER, LEFT = 2 * ROW + 4, 2 * ROW  # a cell whose place is inside image 1, and one that moves out at the left
OFF_LINE = 2.3  # px: 2 (OFF_LINE / 100)² is just above 1e-3


def candidates(
    batch: PairBatch, errors: list[tuple[float, float]], cell: int = INNER, pair: int = 0
) -> tuple[CoarseMatches, FineMatches, Targets]:
    """Candidates of one keypoint, by how far (px) they lie from where a plane at the scene's depth would have it."""
    encoded = leaves(batch, spread=0.0).encoded()
    targets = build_targets(encoded, batch, defaults().TARGETS)
    count = len(errors)
    coarse = matches([pair] * count, [cell] * count, [cell] * count, torch.full((count,), 0.5))
    points0 = encoded.keypoints0.points[coarse.batch, coarse.cell0]
    points1 = points0 + torch.tensor([SHIFT, 0.0]) + torch.tensor(errors)
    return coarse, FineMatches(points0, points1, torch.zeros(count, 3), torch.zeros(count)), targets


def labels(batch: PairBatch, errors: list[tuple[float, float]], cell: int = INNER, pair: int = 0) -> list[int]:
    coarse, fine, targets = candidates(batch, errors, cell, pair)
    return label(candidate_errors(coarse, fine, targets, batch), LOSS).tolist()


def test_near_the_true_place_is_right_and_far_from_it_is_wrong() -> None:
    errors = [(0.0, 0.0), (1.8, -2.3), (0.0, 3.1), (5.9, 0.0), (6.1, 0.0), (0.0, -30.0)]
    assert labels(plane_pair(shift_px=SHIFT), errors) == [RIGHT, RIGHT, UNKNOWN, UNKNOWN, WRONG, WRONG]


def test_each_pair_is_measured_by_its_own_truth() -> None:
    batch = plane_pair(pairs=2, shift_px=SHIFT)
    batch.T_0to1[0, 0, 3] = 0.0  # in pair 0 nothing moves: what is right in pair 1 is 8 px off
    assert labels(batch, [(0.0, 0.0)], pair=0) == [WRONG]
    assert labels(batch, [(0.0, 0.0)], pair=1) == [RIGHT]


def test_a_place_outside_image_1_has_no_right_candidate_far_from_it() -> None:
    assert labels(plane_pair(shift_px=SHIFT), [(8.0, 0.0), (40.0, 0.0)], LEFT) == [WRONG, WRONG]


def test_unknown_depth_leaves_the_epipolar_line() -> None:
    blind = with_depth(plane_pair(shift_px=SHIFT), torch.zeros(1, 48, 64), None)
    coarse, fine, targets = candidates(blind, [(0.0, 0.0), (25.0, 0.0), (0.0, OFF_LINE), (25.0, -20.0)])
    errors = candidate_errors(coarse, fine, targets, blind)
    assert errors.distance.isnan().all()
    # both points' squared distance from the other's line, focal length 1
    assert errors.epipolar[2] == pytest.approx(2 * (OFF_LINE / 100) ** 2, rel=1e-4)
    assert label(errors, LOSS).tolist() == [UNKNOWN, UNKNOWN, WRONG, WRONG]


def test_depths_that_contradict_each_other_leave_the_epipolar_line() -> None:
    """Image 1 shows something nearer where the point should be: it is hidden, or one of the depths is wrong."""
    batch = plane_pair(shift_px=SHIFT)
    hidden = with_depth(batch, batch.view0.depth, torch.full((1, 48, 64), 1.0))
    assert labels(hidden, [(0.0, 0.0), (25.0, 0.0), (0.0, OFF_LINE)]) == [UNKNOWN, UNKNOWN, WRONG]


def test_without_a_baseline_unknown_depth_tells_nothing() -> None:
    blind = with_depth(plane_pair(shift_px=0.0), torch.zeros(1, 48, 64), None)
    assert labels(blind, [(0.0, 0.0), (30.0, 20.0)]) == [UNKNOWN, UNKNOWN]


def test_no_candidate_has_no_label() -> None:
    batch = plane_pair(shift_px=SHIFT)
    coarse, fine, targets = candidates(batch, [(0.0, 0.0)])
    none = torch.zeros(0, dtype=torch.int64)
    assert label(candidate_errors(coarse.at(none), fine.at(none), targets, batch), LOSS).tolist() == []
