from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from s2ld.config import defaults
from s2ld.training.losses.correlation import correlation_losses, heatmap_loss, verification_loss
from s2ld.types import CoarseMatches, Correlation, FineMatches, Targets

STRIDE, SIDE = 2, 9
RADIUS = 8.0  # resized px: STRIDE * (SIDE // 2)
LOSS = defaults().LOSS


def case(
    truth: list[tuple[float, float]],
    error: list[tuple[float, float]],
    valid: list[bool] | None = None,
    known: list[bool] | None = None,
    right: float = 0.0,
) -> tuple[CoarseMatches, FineMatches, Targets]:
    """Matches of cells 0, 1, ... of pair 1 whose windows lie around (100, 60); `truth` and `error` in resized px.

    The truth counts from the window's middle, the error from the truth.
    """
    count = len(truth)
    yes = [True] * count
    places = torch.tensor(truth).reshape(count, 2) + torch.tensor([100.0, 60.0])
    warped = torch.stack([torch.full_like(places, -1e3), places])  # pair 0 has nothing to do with it
    flags = [torch.stack([~torch.tensor(f, dtype=torch.bool), torch.tensor(f, dtype=torch.bool)])
             for f in (valid or yes, known or yes)]  # fmt: skip
    index = torch.arange(count)
    coarse = CoarseMatches(torch.ones_like(index), index, index, torch.full((count,), 0.5))
    points1 = (places + torch.tensor(error).reshape(count, 2)).requires_grad_()
    logits = torch.randn(count, SIDE**2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    centre = torch.tensor([100.0, 60.0]).expand(count, 2)
    correlation = Correlation(logits, centre, torch.full((count,), right, requires_grad=True))
    fine = FineMatches(places, points1, torch.zeros(count, 3), torch.zeros(count), None, None, correlation)
    nothing = index[:0]
    return coarse, fine, Targets(warped, *flags, warped, *flags, nothing, nothing, nothing)


def slow_heatmap_loss(logits: Tensor, place: Tensor) -> list[float]:
    """The cross entropy with a target that is written out."""
    losses = []
    for row, (x, y) in zip(logits.detach(), place.tolist(), strict=True):
        share = row.exp() / row.exp().sum()
        side = round(len(row) ** 0.5)
        loss = 0.0
        for i in range(side):
            for j in range(side):
                target = max(0.0, 1 - abs(x - j)) * max(0.0, 1 - abs(y - i))
                loss -= target * log(float(share[i * side + j]))
        losses.append(loss)
    return losses


class TestHeatmap:
    def test_a_truth_on_a_pixel_is_the_plain_cross_entropy(self) -> None:
        logits = torch.zeros(1, 9)
        logits[0, 2 * 3 + 1] = log(8.0)  # 8 of 16 parts at x = 1, y = 2
        assert float(heatmap_loss(logits, torch.tensor([[1.0, 2.0]]))) == pytest.approx(log(2))
        assert float(heatmap_loss(logits, torch.tensor([[2.0, 1.0]]))) == pytest.approx(log(16))

    def test_a_truth_between_four_pixels_asks_for_all_of_them(self) -> None:
        logits = torch.zeros(1, 9)
        logits[0, [4, 5]] = torch.tensor([log(2.0), log(7.0)])  # of 16 parts
        loss = heatmap_loss(logits, torch.tensor([[1.25, 1.5]]))
        expected = 0.5 * (0.75 * log(8) + 0.25 * log(16 / 7)) + 0.5 * log(16)
        assert float(loss) == pytest.approx(expected)

    @pytest.mark.parametrize("place", [(0.0, 0.0), (8.0, 8.0), (8.0, 0.0), (7.5, 8.0), (0.0, 3.25)])
    def test_a_truth_at_the_border_stays_in_the_window(self, place: tuple[float, float]) -> None:
        logits = torch.randn(1, 81, generator=torch.Generator().manual_seed(1))
        loss = heatmap_loss(logits, torch.tensor([place]))
        assert loss.tolist() == pytest.approx(slow_heatmap_loss(logits, torch.tensor([place])), rel=1e-5)

    def test_agrees_with_the_slow_form(self) -> None:
        generator = torch.Generator().manual_seed(2)
        logits = 3 * torch.randn(12, 25, generator=generator)
        place = 4 * torch.rand(12, 2, generator=generator)
        assert heatmap_loss(logits, place).tolist() == pytest.approx(slow_heatmap_loss(logits, place), rel=1e-5)

    def test_gradient_is_the_distribution_less_the_target(self) -> None:
        logits = torch.zeros(1, 9, requires_grad=True)
        heatmap_loss(logits, torch.tensor([[0.5, 1.0]])).sum().backward()
        target = torch.zeros(1, 9)
        target[0, [3, 4]] = 0.5
        torch.testing.assert_close(logits.grad, 1 / 9 - target)


class TestPoints:
    def test_values_by_hand(self) -> None:
        error = [(0.2, 0.0), (1.2, -1.6), (0.0, 0.5), (0.0, 0.0)]  # 0.1, 1, 0.25 and 0 fine pixels
        points, heatmaps = correlation_losses(*case([(0.0, 0.0)] * 4, error), RADIUS)
        assert points.tolist() == pytest.approx([2 * 0.1**2, 1 - 0.125, 0.125, 0.0], abs=1e-5)
        assert len(heatmaps) == 4

    def test_a_point_out_of_reach_trains_the_window_only(self) -> None:
        points, heatmaps = correlation_losses(*case([(0.0, 0.0)] * 2, [(7.1, 0.0), (6.9, 6.9)]), RADIUS)
        assert (len(points), len(heatmaps)) == (1, 2)

    def test_a_truth_beyond_the_window_or_invalid_trains_neither(self) -> None:
        truth = [(8.1, 0.0), (0.0, -8.1), (8.0, -8.0), (1.0, 1.0)]
        points, heatmaps = correlation_losses(*case(truth, [(0.0, 0.4)] * 4, [True, True, True, False]), RADIUS)
        assert points.tolist() == pytest.approx([0.08], abs=1e-4)
        assert len(heatmaps) == 1

    def test_the_window_is_told_the_place_in_its_own_pixels(self) -> None:
        coarse, fine, targets = case([(-3.0, 5.0)], [(0.0, 0.0)])
        assert fine.correlation is not None
        expected = slow_heatmap_loss(fine.correlation.logits, torch.tensor([[4 - 1.5, 4 + 2.5]]))
        assert correlation_losses(coarse, fine, targets, RADIUS)[1].tolist() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("valid", [[], [False]])
    def test_an_empty_set_costs_nothing_and_keeps_the_graph(self, valid: list[bool]) -> None:
        coarse, fine, targets = case([(0.0, 0.0)] * len(valid), [(1.0, 0.0)] * len(valid), valid)
        points, heatmaps = correlation_losses(coarse, fine, targets, RADIUS)
        assert len(points) == len(heatmaps) == 0
        (points.sum() + heatmaps.sum()).backward()
        assert fine.correlation is not None
        for leaf in (fine.points1, fine.correlation.logits):
            assert leaf.grad is not None
            assert not leaf.grad.any()

    def test_gradient_is_finite_at_the_truth_and_points_to_it(self) -> None:
        coarse, fine, targets = case([(0.0, 0.0)] * 2, [(0.0, 0.0), (2.0, 0.0)])
        correlation_losses(coarse, fine, targets, RADIUS)[0].sum().backward()
        torch.testing.assert_close(fine.points1.grad, torch.tensor([[0.0, 0.0], [0.5, 0.0]]))


class TestVerification:
    def labels(self, coarse: CoarseMatches, fine: FineMatches, targets: Targets) -> list[int]:
        """What the losses take for right, with logits of 3."""
        loss = verification_loss(coarse, fine, targets, LOSS)
        assert loss.tolist() == pytest.approx([log(1 + exp(3)) - (3 if x < 1 else 0) for x in loss], rel=1e-4)
        return [int(x < 1) for x in loss]

    def test_right_is_what_is_visible_and_near(self) -> None:
        error = [(1.9, 0.0), (2.1, 0.0), (1.5, 1.5), (0.0, 0.0), (0.0, 0.0)]
        valid, known = [True, True, True, False, False], [True, True, True, True, False]
        # the fourth is occluded; of the fifth nobody knows
        assert self.labels(*case([(0.0, 0.0)] * 5, error, valid, known, right=3.0)) == [1, 0, 0, 0]

    def test_the_window_does_not_matter(self) -> None:
        assert self.labels(*case([(30.0, 0.0)] * 2, [(0.5, 0.0), (9.0, 0.0)], right=3.0)) == [1, 0]

    def test_it_teaches_the_verdict_and_not_the_point(self) -> None:
        coarse, fine, targets = case([(0.0, 0.0)] * 3, [(0.0, 0.0), (9.0, 0.0), (0.0, 0.0)], known=[True, True, False])
        verification_loss(coarse, fine, targets, LOSS).sum().backward()
        assert fine.correlation is not None
        torch.testing.assert_close(fine.correlation.right.grad, torch.tensor([-0.5, 0.5, 0.0]))
        assert fine.points1.grad is None

    def test_no_match_costs_nothing(self) -> None:
        coarse, fine, targets = case([], [])
        verification_loss(coarse, fine, targets, LOSS).sum().backward()
        assert fine.correlation is not None
        assert fine.correlation.right.grad is not None
