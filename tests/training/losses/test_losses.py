from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from math import log

import pytest
import torch
from pair_scenes import (
    DEPTH,
    Leaves,
    lateral_pose,
    leaves,
    matches,
    matrix_confidences,
    plane_pair,
    refine,
    turned_pose,
    view,
    with_depth,
)
from torch import Tensor

from s2ld.config import CN, defaults
from s2ld.training.losses.targets import build_targets
from s2ld.training.losses.total import ReduceCount, coarse_loss, detector_losses, fine_loss, matching_losses, score_loss
from s2ld.types import CoarseMatches, LossTerms, PairBatch, Targets

CONFIG = defaults()
LOSS = CONFIG.LOSS
RADIUS = 4.0


def alone(count: Tensor) -> Tensor:
    """`reduce_count` of one process."""
    return count


def matrix_loss(matrix: Tensor, targets: Targets, batch: PairBatch, config: CN, reduce_count: ReduceCount) -> Tensor:
    """The coarse loss of a whole confidence matrix."""
    return coarse_loss(matrix_confidences(matrix, targets, batch), targets, batch, config, reduce_count)


def targets_of(batch: PairBatch, start: Leaves) -> Targets:
    return build_targets(start.encoded(), batch, CONFIG.TARGETS)


def small_targets(known0: list[bool], known1: list[bool], true: list[tuple[int, int]]) -> Targets:
    """Targets of one 16 x 16 pair, 4 cells a side."""
    nothing, points = torch.zeros(1, 4, dtype=torch.bool), torch.zeros(1, 4, 2)
    index = [torch.tensor([pair[i] for pair in true], dtype=torch.int64) for i in (0, 1)]
    batch = torch.zeros(len(true), dtype=torch.int64)
    return Targets(
        points, nothing, torch.tensor([known0]), points, nothing, torch.tensor([known1]), batch, index[0], index[1]
    )


class TestCoarse:
    confidence = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))

    def by_loops(self, targets: Targets, mask0: list[bool], mask1: list[bool]) -> tuple[float, float]:
        """Mean over the positives and mean over the negatives."""
        true = set(zip(targets.cell0.tolist(), targets.cell1.tolist(), strict=True))
        positives, negatives = [], []
        for i in range(4):
            for j in range(4):
                p = float(self.confidence[0, i, j])
                known = bool(targets.known0[0, i] or targets.known1[0, j])
                if (i, j) in true:
                    positives.append(0.25 * (1 - p) ** 2 * -log(p))
                elif mask0[i] and mask1[j] and known:
                    negatives.append(0.25 * p**2 * -log(1 - p))
        return sum(positives) / max(len(positives), 1), sum(negatives) / max(len(negatives), 1)

    @pytest.mark.parametrize("true", [[], [(0, 1)], [(0, 1), (1, 0)]])
    @pytest.mark.parametrize("padded", [False, True])
    @pytest.mark.parametrize("negatives", [False, True])
    def test_agrees_with_loops(self, true: list[tuple[int, int]], padded: bool, negatives: bool) -> None:
        mask0 = [True, True, not padded, not padded]
        mask1 = [True, not padded, True, not padded] if not true else [True, True, True, not padded]
        targets = small_targets([True, True, False, False], [True, True, False, False], true)
        masks = [torch.tensor([m]).reshape(1, 2, 2) if padded else None for m in (mask0, mask1)]
        batch = PairBatch(view(16, 16, mask=masks[0]), view(16, 16, mask=masks[1]), lateral_pose(0.0))
        config = LOSS.clone()
        config.COARSE_NEGATIVES = negatives
        positive, negative = self.by_loops(targets, mask0, mask1)
        loss = matrix_loss(self.confidence, targets, batch, config, alone)
        assert loss.item() == pytest.approx(positive + (negative if negatives else 0), rel=1e-5)

    def test_pairs_of_unknown_cells_take_no_gradient(self) -> None:
        targets = small_targets([True, True, False, False], [True, False, False, True], [(0, 0)])
        confidence = self.confidence.clone().requires_grad_()
        batch = PairBatch(view(16, 16), view(16, 16), lateral_pose(0.0))
        matrix_loss(confidence, targets, batch, LOSS, alone).backward()
        assert confidence.grad is not None
        unknown = torch.zeros(4, 4, dtype=torch.bool)
        unknown[2:, 1:3] = True
        assert torch.equal(confidence.grad[0] == 0, unknown)
        assert float(confidence.grad[0, 0, 0]) < 0
        assert float(confidence.grad[0, 1, 1]) > 0

    @pytest.mark.parametrize("value", [0.0, 1e-9, 1.0])
    def test_extreme_confidences_are_finite_and_a_lost_match_is_pulled_up(self, value: float) -> None:
        confidence = torch.full((1, 4, 4), value, requires_grad=True)
        targets = small_targets([True] * 4, [True] * 4, [(2, 1)])
        loss = matrix_loss(confidence, targets, PairBatch(view(16, 16), view(16, 16), lateral_pose(0)), LOSS, alone)
        loss.backward()
        assert confidence.grad is not None
        assert bool(loss.isfinite())
        assert bool(confidence.grad.isfinite().all())
        if value < 0.5:
            assert loss.item() == pytest.approx(0.25 * -log(1e-6), rel=1e-3)
            assert float(confidence.grad[0, 2, 1]) < -1

    @pytest.mark.parametrize("negatives", [False, True])
    def test_hard_negatives_weigh_by_the_known_keypoints(self, negatives: bool) -> None:
        targets = small_targets([True, True, False, False], [True, False, False, True], [(1, 0)])
        batch = PairBatch(view(16, 16), view(16, 16), lateral_pose(0.0))
        config = LOSS.clone()
        config.COARSE_NEGATIVES, config.HARD_NEGATIVE_WEIGHT = negatives, 0.5
        positive, negative = self.by_loops(targets, [True] * 4, [True] * 4)
        total = negative * (16 - 2 * 2 - 1)  # no pair of two unknown cells, nor the match
        expected = positive + 0.5 * total / 2 + (negative if negatives else 0)
        assert matrix_loss(self.confidence, targets, batch, config, alone).item() == pytest.approx(expected, rel=1e-5)

    def test_faint_negatives_add_nothing_and_keep_the_graph(self) -> None:
        faint = torch.full((1, 4, 4), 9e-4, requires_grad=True)
        batch = PairBatch(view(16, 16), view(16, 16), lateral_pose(0.0))
        loss = matrix_loss(faint, small_targets([True] * 4, [True] * 4, []), batch, LOSS, alone)
        assert (loss.item(), loss.requires_grad) == (0, True)

    def test_bfloat16_matrix_under_autocast_gives_float32(self) -> None:
        targets = small_targets([True] * 4, [True] * 4, [(2, 1)])
        batch = PairBatch(view(16, 16), view(16, 16), lateral_pose(0.0))
        rounded = self.confidence.bfloat16()
        with torch.autocast("cpu", torch.bfloat16):
            loss = matrix_loss(rounded, targets, batch, LOSS, alone)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(float(matrix_loss(rounded.float(), targets, batch, LOSS, alone)), rel=1e-6)


class TestFine:
    """A plane that moves by one cell; cells 9..12 of image 0 match cells 8..11 of image 1."""

    def case(self, truth: list[list[float]]) -> tuple[CoarseMatches, Targets, Leaves]:
        """The warped keypoints lie `truth` (unit of the window) beside the keypoints of image 1."""
        batch = plane_pair(shift_px=-8.0)
        start = leaves(batch, spread=0.0)
        targets = targets_of(batch, start)
        cells = list(range(8, 8 + len(truth)))
        coarse = matches([0] * len(truth), [c + 1 for c in cells], cells, torch.full((len(truth),), 0.5))
        offset = start.offset1.detach().clone()
        for cell, place in zip(cells, truth, strict=True):
            offset[0, :, cell // 8, cell % 8] = -torch.tensor(place) * RADIUS / 4
        return coarse, targets, replace(start, offset1=offset.requires_grad_())

    def loss(self, truth: list[list[float]], expectation: Tensor) -> tuple[Tensor, Leaves]:
        coarse, targets, start = self.case(truth)
        encoded = start.encoded()
        fine = refine(encoded, coarse, expectation, RADIUS)
        return fine_loss(coarse, fine, encoded.keypoints1, targets, RADIUS, alone), start

    def test_values_by_hand(self) -> None:
        expectation = torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.5, 0.4]])
        loss, _ = self.loss([[0.2, 0.4], [0.0, 0.1]], expectation)
        assert loss.item() == pytest.approx((0.25 * 10 + 0.16 * 2.5) / 12.5, rel=1e-4)

    def test_truth_outside_the_window_is_not_supervised(self) -> None:
        expectation = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.0, 0.4]], requires_grad=True)
        loss, _ = self.loss([[0.3, 0.4], [0.0, 1.05]], expectation)
        assert loss.item() == pytest.approx(0.25, rel=1e-4)
        loss.backward()
        assert expectation.grad is not None
        assert float(expectation.grad[1].abs().sum()) == 0

    def test_neither_the_deviation_nor_keypoint_1_take_a_gradient(self) -> None:
        expectation = torch.tensor([[0.0, 0.0, 0.1]], requires_grad=True)
        loss, start = self.loss([[0.3, 0.4]], expectation)
        loss.backward()
        assert expectation.grad is not None
        torch.testing.assert_close(expectation.grad, torch.tensor([[-0.6, -0.8, 0.0]]))
        assert start.offset1.grad is None

    def test_deviation_of_zero_is_finite(self) -> None:
        loss, _ = self.loss([[0.3, 0.4], [0.3, 0.4]], torch.zeros(2, 3))
        assert loss.item() == pytest.approx(0.25, rel=1e-4)

    def test_no_match_is_zero(self) -> None:
        expectation = torch.zeros(0, 3, requires_grad=True)
        loss, _ = self.loss([], expectation)
        assert loss.item() == 0
        loss.backward()


class TestDetector:
    def terms(self, start: Leaves, batch: PairBatch) -> LossTerms:
        return detector_losses(start.encoded(), targets_of(batch, start), batch, LOSS, alone)

    def test_location_by_hand_and_its_gradient_reaches_both_images(self) -> None:
        batch = plane_pair(shift_px=-8.0)
        start = leaves(batch, spread=0.0)
        offset1 = torch.zeros_like(start.offset1)
        offset1[:, 0], offset1[:, 1] = 0.25, 0.5  # 1 px to the right, 2 px down
        start = replace(start, offset1=offset1.requires_grad_())
        loss = self.terms(start, batch).keypoint
        assert loss.item() == pytest.approx(5**0.5, rel=1e-4)
        loss.backward()
        assert start.offset0.grad is not None
        assert start.offset1.grad is not None
        # keypoint 1 should go to the upper left, keypoint 0 to the lower right, in the proportion 1 : 2
        # each pair of the 42 is met from both sides; an offset of 1 is 4 px
        assert float(start.offset1.grad[0, 0, 2, 3]) == pytest.approx(2 / 84 * 4 / 5**0.5, rel=1e-4)
        torch.testing.assert_close(start.offset0.grad.sum((0, 2, 3)), -start.offset1.grad.sum((0, 2, 3)))
        torch.testing.assert_close(start.offset1.grad[0, 1], 2 * start.offset1.grad[0, 0])

    def test_location_ignores_pairs_beyond_the_radius(self) -> None:
        batch = plane_pair(shift_px=-8.0)
        start = leaves(batch)
        config = LOSS.clone()
        config.KEYPOINT_RADIUS = 1.5
        targets = targets_of(batch, start)
        loss = detector_losses(start.encoded(), targets, batch, config, alone).keypoint
        assert 0 < loss.item() < 1.5 < self.terms(start, batch).keypoint.item()

    def test_coincident_keypoints_have_finite_gradients(self) -> None:
        batch = plane_pair(shift_px=0.0)
        start = leaves(batch, spread=0.0)
        terms = self.terms(start, batch)
        assert terms.keypoint.item() == pytest.approx(0, abs=1e-4)
        terms.total.backward()
        assert all(leaf.grad is not None and bool(leaf.grad.isfinite().all()) for leaf in start.all())

    def test_repeatability_by_loops(self) -> None:
        batch = plane_pair(shift_px=-8.0)
        start = leaves(batch, seed=3)
        points0, points1 = (k.points[0].detach() for k in (start.encoded().keypoints0, start.encoded().keypoints1))
        score0, score1 = start.score0.detach().flatten(), start.score1.detach().flatten()
        targets = targets_of(batch, start)
        pairs = []
        for valid, here, there, shift, own, other in (
            (targets.valid0[0], points0, points1, -8.0, score0, score1),
            (targets.valid1[0], points1, points0, 8.0, score1, score0),
        ):
            for i in valid.nonzero().flatten().tolist():
                distance = (here[i] + torch.tensor([shift, 0.0]) - there).norm(dim=1)
                j = int(distance.argmin())
                if distance[j] < LOSS.KEYPOINT_RADIUS:
                    pairs.append((float(distance[j]), float(own[i] + other[j])))
        mean = sum(d for d, _ in pairs) / len(pairs)
        expected = sum(s * (d - mean) for d, s in pairs) / len(pairs)
        terms = self.terms(start, batch)
        assert terms.keypoint.item() == pytest.approx(mean, rel=1e-4)
        assert terms.repeatability.item() == pytest.approx(expected, rel=1e-3, abs=1e-6)
        terms.repeatability.backward()
        assert start.offset0.grad is None or not bool(start.offset0.grad.any())
        assert start.score0.grad is not None
        assert bool((start.score0.grad > 0).any() & (start.score0.grad < 0).any())

    def test_score_is_sampled_over_the_whole_map(self) -> None:
        batch = plane_pair(shift_px=-6.0)
        start = leaves(batch, spread=0.0)
        ramp = (torch.arange(8.0) / 10 + torch.arange(6.0)[:, None] / 20).expand(1, 1, 6, 8)
        start = replace(start, score1=ramp.clone().requires_grad_())
        encoded, targets = start.encoded(), targets_of(batch, start)
        loss = score_loss(encoded.keypoints0, encoded.keypoints1, targets, batch)
        cells = targets.valid0[0].nonzero().flatten()
        column, row = cells % 8, cells // 8
        expected = (column - 0.75) / 10 + row / 20
        assert len(cells) == 42
        torch.testing.assert_close(loss, 2 * (start.score0.flatten()[cells] - expected).square())
        loss.sum().backward()
        assert start.score1.grad is not None
        assert bool((start.score1.grad[..., :-1] != 0).all())

    def test_score_does_not_mix_with_the_padding(self) -> None:
        mask = torch.ones(1, 6, 8, dtype=torch.bool)
        mask[:, 4:] = False
        mask[:, :, 6:] = False
        batch = replace(plane_pair(shift_px=-4.0), view1=view(48, 64, mask=mask))
        start = leaves(batch)
        loss_of = [
            score_loss(e.keypoints0, replace(e.keypoints1, score=e.keypoints1.score.masked_fill(~mask, value)), t, b)
            for e, t, b, value in ((start.encoded(), targets_of(batch, start), batch, v) for v in (0.0, 9.0))
        ]
        assert len(loss_of[0]) > 10
        assert torch.equal(loss_of[0], loss_of[1])

    def test_weights_and_the_terms_of_the_matcher(self) -> None:
        batch = plane_pair()
        start = leaves(batch)
        terms = self.terms(start, batch)
        assert [terms.coarse.item(), terms.fine.item(), terms.regulariser.item()] == [0, 0, 0]
        config = LOSS.clone()
        config.KEYPOINT_WEIGHT, config.REPEATABILITY_WEIGHT, config.SCORE_WEIGHT = 2.0, 3.0, 5.0
        total = detector_losses(start.encoded(), targets_of(batch, start), batch, config, alone).total
        expected = 2 * terms.keypoint + 3 * terms.repeatability + 5 * terms.score
        torch.testing.assert_close(total, expected)


def cases() -> dict[str, PairBatch]:
    plain = plane_pair(pairs=2)
    behind = torch.eye(4).repeat(2, 1, 1)
    behind[:, 2, 3] = -2 * DEPTH
    return {
        "plain": plain,
        "turned": replace(plain, T_0to1=turned_pose(2)),
        "unknown": with_depth(plain, torch.zeros(2, 48, 64), torch.zeros(2, 48, 64)),
        "no depth": with_depth(plain, None, None),
        "parallel": replace(plain, T_0to1=torch.eye(4).repeat(2, 1, 1)),
        "behind": replace(plain, T_0to1=behind),
        "apart": replace(plain, T_0to1=lateral_pose(-1e4, 2)),
    }


def some_matches(count: int, batch: PairBatch, targets: Targets, confidence: Tensor) -> CoarseMatches:
    """The first `count` true matches, or as many of cells that are no match where there are no true ones."""
    pair, cell0, cell1 = (
        (targets.batch, targets.cell0, targets.cell1) if len(targets.batch) else (torch.tensor([0, 1, 1]),) * 3
    )
    pair, cell0, cell1 = pair[:count], cell0[:count], cell1[:count]
    return CoarseMatches(pair, cell0, cell1, confidence[pair, cell0, cell1])


def all_losses(
    batch: PairBatch, start: Leaves, count: int, reduce_count: Callable[[Tensor], Tensor] = alone, seed: int = 0
) -> tuple[LossTerms, dict[str, Tensor]]:
    """Losses of random predictions and the leaves they depend on."""
    generator = torch.Generator().manual_seed(seed)
    cells0, cells1 = start.score0[0].numel(), start.score1[0].numel()
    confidence = (0.98 * torch.rand(batch.size, cells0, cells1, generator=generator) + 0.01).requires_grad_()
    targets, encoded = targets_of(batch, start), start.encoded()
    coarse = some_matches(count, batch, targets, confidence)
    expectation = torch.rand(len(coarse), 3, generator=generator) * 0.3
    expectation.requires_grad_()
    fine = refine(encoded, coarse, expectation, RADIUS)
    confidences = matrix_confidences(confidence, targets, batch)
    terms = matching_losses(encoded, confidences, coarse, fine, targets, batch, LOSS, RADIUS, reduce_count)
    named = {"offset0": start.offset0, "offset1": start.offset1, "score0": start.score0, "score1": start.score1}
    return terms, {**named, "confidence": confidence, "expectation": expectation}


@pytest.mark.parametrize("name", cases().keys())
@pytest.mark.parametrize("count", [0, 1, 40])
def test_losses_and_gradients_are_always_finite(name: str, count: int) -> None:
    batch = cases()[name]
    terms, reached = all_losses(batch, leaves(batch), count)
    for field in fields(terms):
        value = getattr(terms, field.name)
        assert value.shape == ()
        assert bool(value.isfinite()), field.name
    terms.total.backward()
    for leaf_name, leaf in reached.items():
        # even over empty sets every leaf is on the graph: DDP waits for the gradient of every parameter
        assert leaf.grad is not None, leaf_name
        assert bool(leaf.grad.isfinite().all()), leaf_name
        if name == "turned" and count == 40:
            assert bool(leaf.grad.any()), leaf_name
    if name in ("unknown", "no depth"):
        assert terms.total.item() == 0


def test_total_is_the_weighted_sum() -> None:
    batch = cases()["turned"]
    terms, _ = all_losses(batch, leaves(batch), 40)
    weights = {"coarse": 1.0, "fine": 1.0, "keypoint": 0.1, "repeatability": 0.1, "score": 0.1, "regulariser": 1.0}
    assert all(getattr(terms, name).item() != 0 for name in weights)
    expected = sum(weight * getattr(terms, name) for name, weight in weights.items())
    torch.testing.assert_close(terms.total, expected)
