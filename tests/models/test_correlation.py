from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from s2ld.errors import S2LDError
from s2ld.models.correlation import CorrelationMatching, verified
from s2ld.types import CoarseMatches, Correlation, EncodedPair, Features, FineMatches, Keypoints

ROWS, COLUMNS = 6, 8  # cells
STRIDE, WINDOW = 2, 9
COARSE_DIM = 4
TURN = 0.05  # radians a fine pixel
SHIFTS = torch.tensor([[2.13, -1.57], [-1.81, 0.72]])  # of image 1 against image 0, resized px, a pair each


class Middle(nn.Module):
    """A query that is the patch's middle pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 4 * 4 : 5 * 4]


def coordinate_map(shift: Tensor) -> Tensor:
    """(2, 4, H, W): the place in image 0, fine pixels, that is seen at each fine pixel, as a point on a sphere.

    The cosine of two places is 1 - (TURN |difference|)² / 4 to second order.
    """
    steps = 8 // STRIDE
    y, x = torch.meshgrid(torch.arange(ROWS * steps), torch.arange(COLUMNS * steps), indexing="ij")
    places = torch.stack([x, y]) - shift[:, :, None, None] / STRIDE
    return torch.cat([(TURN * places).cos(), (TURN * places).sin()], 1) / 2**0.5


def keypoints(offset: Tensor) -> Keypoints:
    y, x = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    corners = 8.0 * torch.stack([x, y], -1).reshape(-1, 2).to(offset.dtype)
    score = torch.full_like(offset[:, :1], 0.5)
    return Keypoints(offset, score, corners + 4 * offset.flatten(2).transpose(1, 2))


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encode(fine0: Tensor, fine1: Tensor, offset0: Tensor, offset1: Tensor) -> EncodedPair:
    features = [Features(torch.zeros(0), fine) for fine in (fine0, fine1)]
    coarse = draw(2, 2, ROWS * COLUMNS, COARSE_DIM, seed=9).to(fine0.dtype)
    return EncodedPair(*features, keypoints(offset0), keypoints(offset1), coarse[0], coarse[1])


def without_regression(stage: CorrelationMatching) -> CorrelationMatching:
    last = stage.regression[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return stage


def known_displacement(seed: int = 0) -> tuple[CorrelationMatching, EncodedPair, CoarseMatches, Tensor]:
    """A stage that only correlates, a batch of two pairs, their inner cells as matches, and the true points 1."""
    torch.manual_seed(0)
    stage = CorrelationMatching(COARSE_DIM, 4, WINDOW, STRIDE, 8)
    stage.query = Middle()  # type: ignore[assignment]
    stage.key, stage.fine_norm = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    nn.init.constant_(stage.log_scale, math.log(4 / TURN**2))  # similarities are -|difference|²
    # so near that no place is at the window's border, where the mean would be of less than 5 x 5 pixels
    offset0, offset1 = (0.2 * torch.tanh(draw(2, 2, ROWS, COLUMNS, seed=s)) for s in (1, seed))
    encoded = encode(coordinate_map(torch.zeros(2, 2)), coordinate_map(SHIFTS), offset0, offset1)
    inner = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)[2:-2, 2:-2].flatten()
    batch = torch.tensor([0, 1]).repeat_interleave(len(inner))
    matches = CoarseMatches(batch, inner.repeat(2), inner.repeat(2), torch.ones(len(batch)))
    truth = encoded.keypoints0.points[batch, matches.cell0] + SHIFTS[batch]
    return without_regression(stage), encoded, matches, truth


def random_stage(dtype: torch.dtype = torch.float32) -> tuple[CorrelationMatching, list[Tensor]]:
    """A stage with random weights and leaves fine 0, fine 1, offset 0, offset 1."""
    torch.manual_seed(0)
    stage = CorrelationMatching(COARSE_DIM, 3, 5, STRIDE, 8).to(dtype)
    maps = [draw(2, 3, ROWS * 4, COLUMNS * 4, seed=seed) for seed in (1, 2)]
    offsets = [draw(2, 2, ROWS, COLUMNS, seed=seed) / 4 for seed in (3, 4)]
    return stage, [leaf.to(dtype).requires_grad_() for leaf in (*maps, *offsets)]


def some_matches(count: int) -> CoarseMatches:
    batch, cell = torch.tensor([0, 1, 1])[:count], torch.tensor([19, 20, 28])[:count]
    return CoarseMatches(batch, cell, cell + 1, torch.ones(count))


def test_a_known_displacement_is_found_below_a_pixel() -> None:
    stage, encoded, matches, truth = known_displacement()
    points1, expectation, correlation = stage(encoded, matches)
    torch.testing.assert_close(points1, truth, atol=1e-2, rtol=0)
    centre = (encoded.keypoints1.points[matches.batch, matches.cell1] / STRIDE).round() * STRIDE
    assert torch.equal(correlation.centre, centre)
    torch.testing.assert_close(centre + stage.radius_px * expectation[:, :2], truth, atol=1e-2, rtol=0)
    # exp(-|d|²) has a variance of 1/2 fine pixel² along each axis
    deviation = torch.full_like(expectation[:, 2], 2 * 0.5**0.5 / 4)
    torch.testing.assert_close(expectation[:, 2], deviation, atol=0.03, rtol=0)


def test_keypoint_1_says_where_to_look_and_nothing_else() -> None:
    first, second = (known_displacement(seed) for seed in (2, 3))
    assert not torch.equal(first[1].keypoints1.points, second[1].keypoints1.points)
    torch.testing.assert_close(first[0](*first[1:3])[0], second[0](*second[1:3])[0], atol=1e-2, rtol=0)


def test_a_given_place_says_where_to_look_instead() -> None:
    stage, encoded, matches, truth = known_displacement()
    elsewhere = replace(matches, cell1=matches.cell1.flip(0))
    points1, _, correlation = stage(encoded, elsewhere, truth + 1.5)
    torch.testing.assert_close(points1, truth, atol=1e-2, rtol=0)
    assert torch.equal(correlation.centre, ((truth + 1.5) / STRIDE).round() * STRIDE)


def test_logits_are_row_by_row() -> None:
    stage, encoded, matches, truth = known_displacement()
    logits = stage(encoded, matches)[2].logits
    place = ((truth - stage(encoded, matches)[2].centre) / STRIDE).round().long() + WINDOW // 2
    assert torch.equal(logits.argmax(1), place[:, 1] * WINDOW + place[:, 0])


def test_precision_does_not_suffer_from_autocast() -> None:
    stage, encoded, matches, truth = known_displacement()
    with torch.autocast("cpu", torch.bfloat16):
        points1 = stage(encoded, matches)[0]
    assert points1.dtype == torch.float32
    torch.testing.assert_close(points1, truth, atol=1e-2, rtol=0)


def test_the_regression_corrects_by_at_most_its_reach() -> None:
    stage, encoded, matches, truth = known_displacement()
    last = stage.regression[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([50.0, -50.0, 3.0]))
    points1, _, correlation = stage(encoded, matches)
    torch.testing.assert_close(points1 - truth, torch.tensor([3.0, -3.0]).expand_as(truth), atol=1e-2, rtol=0)
    torch.testing.assert_close(correlation.right, torch.full_like(correlation.right, 3.0))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_gradients_reach_all_that_should_learn(count: int) -> None:
    stage, leaves = random_stage()
    points1, _, correlation = stage(encode(*leaves), some_matches(count))
    assert points1.shape == (count, 2)
    assert correlation.logits.shape == (count, 25)
    (points1.sum() + correlation.right.sum()).backward()
    fine0, fine1, offset0, offset1 = (leaf.grad for leaf in leaves)
    learning = [fine0, fine1, offset0, *(p.grad for p in stage.parameters())]
    assert all(g is not None and bool(g.isfinite().all()) for g in learning)
    assert all(bool(g.any()) == (count > 0) for g in learning if g is not None)
    assert offset1 is None
    if count:
        assert fine0 is not None
        assert {int(n) for n in fine0.nonzero()[:, 0]} == set(some_matches(count).batch.tolist())


def test_points_are_differentiable_in_the_maps_and_in_keypoint_0() -> None:
    stage, (fine0, fine1, offset0, offset1) = random_stage(torch.float64)
    without_regression(stage)  # which is told where the point was found without a gradient
    matches = some_matches(2)

    def points(query: Tensor, patch: Tensor, keys: Tensor) -> Tensor:
        offset, first, second = offset0.detach().clone(), fine0.detach().clone(), fine1.detach().clone()
        offset[:, :, 2, 3] = query
        first[:, :, 8:11, 12:15] = patch
        second[:, :, 8:10, 16:18] = keys
        moved: Tensor = stage(encode(first, second, offset, offset1.detach()), matches)[0]
        return moved

    inputs = offset0[:, :, 2, 3], fine0[:, :, 8:11, 12:15], fine1[:, :, 8:10, 16:18]
    assert torch.autograd.gradcheck(points, [x.detach().clone().requires_grad_() for x in inputs], fast_mode=True)


@pytest.mark.parametrize("window", [1, 4, 0])
def test_a_window_without_a_middle_is_refused(window: int) -> None:
    with pytest.raises(S2LDError, match=rf"MODEL\.FINE\.WINDOW is {window}; use an odd number from 3"):
        CorrelationMatching(COARSE_DIM, 3, window, STRIDE, 8)


def fine_matches(right: list[float] | None) -> tuple[CoarseMatches, FineMatches]:
    """Four matches whose every number tells the row."""
    row = torch.arange(4)
    coarse = CoarseMatches(row // 2, row + 10, row + 20, torch.tensor([0.9, 0.8, 0.7, 0.6]))
    pixels = torch.stack([row, row], 1).float()
    correlation = None if right is None else Correlation(pixels + 300, pixels + 400, torch.tensor(right))
    return coarse, FineMatches(
        pixels, pixels + 100, row[:, None] + torch.zeros(3), row / 10, pixels + 200, None, correlation
    )


def test_verified_matches_keep_their_rows_and_weigh_their_confidence() -> None:
    coarse, fine = fine_matches([0.0, math.log(4), -3.0, math.log(1.5)])
    kept, refined = verified(coarse, fine, 0.5, 0.0)  # 0.5 is not above 0.5
    torch.testing.assert_close(kept.confidence, torch.tensor([0.8 * 0.8, 0.6 * 0.6]))
    rows = torch.tensor([1, 3])
    assert torch.equal(kept.batch, coarse.batch[rows])
    assert torch.equal(kept.cell0, rows + 10)
    assert torch.equal(kept.cell1, rows + 20)
    assert refined.correlation is not None
    assert refined.descriptors0 is not None
    assert refined.descriptors1 is None
    tensors = refined.points0, refined.points1 - 100, refined.expectation, 10 * refined.score[:, None]
    nested = refined.descriptors0 - 200, refined.correlation.logits - 300, refined.correlation.centre - 400
    for tensor in (*tensors, *nested):
        torch.testing.assert_close(tensor, rows[:, None].float().expand_as(tensor))
    torch.testing.assert_close(refined.correlation.right, torch.tensor([math.log(4), math.log(1.5)]))


def test_verified_matches_are_above_the_threshold_of_the_sparse_stage() -> None:
    coarse, fine = fine_matches([math.log(4), 0.0, 5.0, 5.0])  # confidences 0.72, 0.4, 0.7, 0.6
    kept, refined = verified(coarse, fine, 0.0, 0.65)
    assert kept.cell0.tolist() == [10, 12]
    assert refined.points0[:, 0].tolist() == [0, 2]
    assert float(kept.confidence.min()) > 0.65


def test_verified_lets_matches_pass_that_tell_no_probability() -> None:
    coarse, fine = fine_matches(None)
    kept, refined = verified(coarse, fine, 0.9, 0.9)
    assert kept is coarse
    assert refined is fine


def test_verified_takes_no_match_at_all() -> None:
    coarse, fine = fine_matches([-9.0] * 4)
    for _ in range(2):  # of four, then of none
        coarse, fine = verified(coarse, fine, 0.5, 0.0)
        assert len(coarse) == 0
        assert fine.points1.shape == (0, 2)
