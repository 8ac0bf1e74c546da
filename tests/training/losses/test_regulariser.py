from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pair_scenes import DEPTH, FOCAL, lateral_pose, matches, plane_pair, turned_pose
from torch import Tensor

from s2ld.config import defaults
from s2ld.geometry.camera import project, unproject
from s2ld.geometry.pose import transform
from s2ld.training.losses.regulariser import regularise, reversed_huber
from s2ld.types import CoarseMatches, FineMatches, PairBatch

LOSS = defaults().LOSS
SHIFT = -16.0


def fine_matches(points0: Tensor, points1: Tensor) -> FineMatches:
    return FineMatches(points0, points1, torch.zeros(len(points0), 3), torch.zeros(len(points0)))


def coarse_matches(confidence: Tensor, pair: int = 0) -> CoarseMatches:
    cells = list(range(len(confidence)))
    return matches([pair] * len(confidence), cells, cells, confidence)


def turned_case() -> tuple[PairBatch, Tensor, Tensor]:
    """A rotated pair with exact matches of points at DEPTH, float64."""
    batch = plane_pair()
    views = [replace(v, K=v.K.double()) for v in (batch.view0, batch.view1)]
    batch = replace(batch, view0=views[0], view1=views[1], T_0to1=turned_pose().double())
    points0 = torch.tensor([[10.0, 12.0], [30.0, 20.0], [50.0, 40.0], [22.0, 33.0]], dtype=torch.float64)
    X = unproject(points0[None], torch.full((1, 4), DEPTH, dtype=torch.float64), views[0].K)
    points1, z = project(transform(batch.T_0to1, X), views[1].K)
    assert bool((z > 0).all())
    return batch, points0, points1[0]


def depth_of_shift(shift: float) -> float:
    """Depth that a horizontal displacement means under the pose of `lateral_pose(SHIFT)`."""
    return DEPTH * SHIFT / shift


def test_exact_matches_cost_nothing() -> None:
    batch, points0, points1 = turned_case()
    confidence = torch.tensor([0.2, 0.5, 1.0, 0.0], dtype=torch.float64)
    depth = torch.full((4,), DEPTH, dtype=torch.float64)
    loss = regularise(coarse_matches(confidence), fine_matches(points0, points1), depth, batch, LOSS)
    assert loss.shape == (4,)
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-9, rtol=0)


def test_values_by_hand_with_lateral_shift() -> None:
    batch = plane_pair(shift_px=SHIFT)
    points0 = torch.tensor([[30.0, 20.0], [40.0, 20.0], [50.0, 20.0]])
    shifts = [SHIFT, SHIFT - 1.0, SHIFT + 4.0]
    points1 = points0 + torch.tensor([[s, 0.0] for s in shifts])
    depth = torch.full((3,), DEPTH)
    loss = regularise(coarse_matches(torch.full((3,), 0.7)), fine_matches(points0, points1), depth, batch, LOSS)
    d = [abs(depth_of_shift(s) - DEPTH) / DEPTH for s in shifts]
    c = LOSS.REGULARISER_HUBER * max(d)
    assert d[1] < c < d[2]
    torch.testing.assert_close(loss, torch.tensor([0.0, d[1], (d[2] ** 2 + c**2) / (2 * c)]), atol=1e-4, rtol=1e-3)


def test_scene_unit_does_not_matter() -> None:
    batch, points0, points1 = turned_case()
    points1 = points1 + torch.tensor([0.7, -0.4], dtype=torch.float64)
    coarse, depth = coarse_matches(torch.full((4,), 0.5).double()), torch.full((4,), DEPTH).double()
    pose = batch.T_0to1.clone()
    pose[:, :3, 3] *= 1000
    loss = regularise(coarse, fine_matches(points0, points1), depth, batch, LOSS)
    scaled = regularise(coarse, fine_matches(points0, points1), 1000 * depth, replace(batch, T_0to1=pose), LOSS)
    assert float(loss.sum()) > 0.01
    torch.testing.assert_close(loss, scaled)


def test_filled_in_matches_weigh_one() -> None:
    batch, points0, points1 = turned_case()
    points1 = points1 + torch.tensor([0.5, 1.5], dtype=torch.float64)
    depth = torch.full((4,), DEPTH).double()
    losses = [
        regularise(coarse_matches(torch.full((4,), w).double()), fine_matches(points0, points1), depth, batch, LOSS)
        for w in (0.0, 1.0, 0.3)
    ]
    assert torch.equal(losses[0], losses[1])
    assert float((losses[0] - losses[2]).abs().max()) > 1e-4


def test_threshold_belongs_to_a_pair() -> None:
    batch = plane_pair(pairs=2, shift_px=SHIFT)
    points0 = torch.tensor([[30.0, 20.0], [40.0, 20.0]]).repeat(2, 1)
    points1 = points0 + torch.tensor([[SHIFT - 1, 0], [SHIFT - 0.3, 0], [SHIFT + 4, 0], [SHIFT + 2, 0]])
    coarse = matches([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], torch.full((4,), 0.5))
    depth = torch.full((4,), DEPTH)
    together = regularise(coarse, fine_matches(points0, points1), depth, batch, LOSS)
    one = plane_pair(shift_px=SHIFT)
    apart = [
        regularise(
            coarse_matches(torch.full((2,), 0.5)), fine_matches(points0[half], points1[half]), depth[half], one, LOSS
        )
        for half in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(together, torch.cat(apart))


@pytest.mark.parametrize("reason", ["unknown", "outlier", "parallax", "behind", "identity"])
def test_matches_that_cannot_tell_are_left_out_with_finite_gradients(reason: str) -> None:
    batch = plane_pair(shift_px=SHIFT)
    points0 = torch.tensor([[30.0, 20.0], [40.0, 20.0]])
    shift = torch.tensor([[SHIFT - 1, 0.0], [SHIFT - 1, 0.0]])
    depth = torch.full((2,), DEPTH)
    if reason == "unknown":
        depth[1] = 0
    elif reason == "outlier":
        shift[1, 0] = SHIFT / (2 + LOSS.REGULARISER_MAX_ERROR)
    elif reason == "parallax":
        shift[1, 0] = -0.5
        depth[1] = depth_of_shift(-0.6)
    elif reason == "behind":
        shift[1, 0] = 20.0
    else:
        batch = replace(batch, T_0to1=torch.eye(4)[None])
    leaf0, leaf1 = points0.clone().requires_grad_(), (points0 + shift).requires_grad_()
    confidence = torch.full((2,), 0.5, requires_grad=True)
    loss = regularise(coarse_matches(confidence), fine_matches(leaf0, leaf1), depth, batch, LOSS)
    assert len(loss) == (0 if reason == "identity" else 1)
    loss.sum().backward()
    for leaf in (leaf0, leaf1, confidence):
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())
        assert float(leaf.grad[1].abs().sum()) == 0
    assert leaf1.grad is not None
    assert (float(leaf1.grad[0].abs().sum()) > 0) == (reason != "identity")


def test_no_match_at_all_keeps_the_graph() -> None:
    points = torch.zeros(0, 2, requires_grad=True)
    empty = coarse_matches(torch.zeros(0))
    loss = regularise(empty, fine_matches(points, points), torch.zeros(0), plane_pair(), LOSS)
    assert loss.shape == (0,)
    loss.sum().backward()


def test_gradient_reaches_both_points_and_the_confidence() -> None:
    batch, points0, points1 = turned_case()
    leaf0, leaf1 = points0.requires_grad_(), (points1 + torch.tensor([0.4, 0.9])).requires_grad_()
    confidence = torch.full((4,), 0.4, dtype=torch.float64, requires_grad=True)
    depth = torch.full((4,), DEPTH, dtype=torch.float64)
    regularise(coarse_matches(confidence), fine_matches(leaf0, leaf1), depth, batch, LOSS).sum().backward()
    for leaf in (leaf0, leaf1, confidence):
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())
        assert bool((leaf.grad.abs() > 0).all())


def test_gradcheck() -> None:
    batch, points0, points1 = turned_case()
    config = LOSS.clone()
    config.REGULARISER_HUBER = 10.0  # c is a constant of the gradient, not of a finite difference: keep d below it
    depth = torch.full((4,), DEPTH, dtype=torch.float64)

    def loss(p0: Tensor, p1: Tensor, confidence: Tensor) -> Tensor:
        return regularise(coarse_matches(confidence), fine_matches(p0, p1), depth, batch, config)

    noisy = points1 + torch.tensor([0.4, 0.9], dtype=torch.float64)
    confidence = torch.tensor([0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(loss, tuple(t.requires_grad_() for t in (points0, noisy, confidence)))


def test_gradient_is_bounded_by_the_least_parallax() -> None:
    """At one degree a pixel moves the relative depth by about 1 / (f sin 1°); the loss multiplies by 1 / 0.2."""
    batch = replace(plane_pair(), T_0to1=lateral_pose(-1.9))
    points0 = torch.tensor([[30.0, 20.0], [34.0, 24.0]])
    points1 = (points0 + torch.tensor([[-1.8, 0.0], [-2.1, 0.0]])).requires_grad_()
    coarse = coarse_matches(torch.full((2,), 0.5))
    regularise(coarse, fine_matches(points0, points1), torch.full((2,), DEPTH), batch, LOSS).sum().backward()
    assert points1.grad is not None
    bound = (1 + LOSS.REGULARISER_MAX_ERROR) / (FOCAL * 0.01745) / LOSS.REGULARISER_HUBER
    assert 0 < float(points1.grad.abs().max()) < bound


def test_reversed_huber_by_hand() -> None:
    d = torch.tensor([0.0, 0.1, -0.2, 0.4, -0.4], requires_grad=True)
    loss = reversed_huber(d, torch.full((5,), 0.2))
    torch.testing.assert_close(loss, torch.tensor([0.0, 0.1, 0.2, 0.5, 0.5]))
    loss.sum().backward()
    assert d.grad is not None
    torch.testing.assert_close(d.grad, torch.tensor([0.0, 1.0, -1.0, 2.0, -2.0]))


def test_reversed_huber_with_threshold_zero() -> None:
    d = torch.zeros(2, requires_grad=True)
    loss = reversed_huber(d, torch.zeros(2))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert d.grad is not None
    assert d.grad.tolist() == [0.0, 0.0]
