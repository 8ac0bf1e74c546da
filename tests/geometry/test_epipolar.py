from __future__ import annotations

import torch
from kornia.geometry.epipolar import symmetrical_epipolar_distance

from s2ld.geometry.camera import normalise, project
from s2ld.geometry.epipolar import essential, skew, symmetric_epipolar_distance


def _pixels(scene, sigma=0.0):
    generator = torch.Generator().manual_seed(0)
    points0, points1 = project(scene.X0, scene.K0)[0], project(scene.X1, scene.K1)[0]
    return points0, points1 + sigma * torch.randn(points1.shape, generator=generator, dtype=torch.float64)


def test_skew_is_the_cross_product(scene):
    torch.testing.assert_close((skew(scene.X0) @ scene.X1[..., None])[..., 0], torch.linalg.cross(scene.X0, scene.X1))


def test_true_matches_are_on_their_lines(scene):
    distance = symmetric_epipolar_distance(*_pixels(scene), essential(scene.T_0to1), scene.K0, scene.K1)
    assert bool((distance < 1e-24).all())


def test_agrees_with_kornia_at_any_scale_of_e(scene):
    points0, points1 = _pixels(scene, sigma=3.0)
    E = essential(scene.T_0to1)
    rays = [normalise(p, K)[None] for p, K in ((points0, scene.K0), (points1, scene.K1))]
    expected = symmetrical_epipolar_distance(*rays, E[None], squared=True)[0]
    for factor in (1.0, -1e-9, 1e9):
        distance = symmetric_epipolar_distance(points0, points1, factor * E, scene.K0, scene.K1)
        torch.testing.assert_close(distance, expected, rtol=1e-6, atol=1e-12)


def test_known_distance():
    """Sideways motion: epipolar lines are the rows, so both distances are the difference of the rows."""
    T = torch.eye(4, dtype=torch.float64)
    T[0, 3] = 2.0
    K = torch.diag(torch.tensor([100.0, 100.0, 1.0], dtype=torch.float64))
    points0, points1 = torch.tensor([[5.0, 7.0]]).double(), torch.tensor([[50.0, 10.0]]).double()
    distance = symmetric_epipolar_distance(points0, points1, essential(T), K, K)
    torch.testing.assert_close(distance, torch.tensor([2 * 0.03**2]).double())


def test_batch_and_one_e_a_match(scene):
    points0, points1 = _pixels(scene, sigma=1.0)
    E = essential(scene.T_0to1)
    single = symmetric_epipolar_distance(points0, points1, E, scene.K0, scene.K1)
    cameras = [m.expand(40, 3, 3) for m in (E, scene.K0, scene.K1)]
    torch.testing.assert_close(symmetric_epipolar_distance(points0, points1, *cameras), single)
    batched = symmetric_epipolar_distance(points0[None], points1[None], E[None], scene.K0[None], scene.K1[None])
    torch.testing.assert_close(batched[0], single)
    assert symmetric_epipolar_distance(points0[:0], points1[:0], E, scene.K0, scene.K1).shape == (0,)


def test_no_baseline_makes_no_match_right(scene):
    T = scene.T_0to1.clone()
    T[:3, 3] = 0
    points = [p.requires_grad_() for p in _pixels(scene)]
    distance = symmetric_epipolar_distance(*points, essential(T), scene.K0, scene.K1)
    assert bool(torch.isposinf(distance).all())
    gradients = torch.autograd.grad(distance.sum(), points)
    assert all(bool((g == 0).all()) for g in gradients)


def test_at_the_epipole_value_and_gradient_are_finite():
    """Forward motion: the epipole is the principal point."""
    T = torch.eye(4, dtype=torch.float64)
    T[2, 3] = -1.0
    K = torch.eye(3, dtype=torch.float64)
    points0 = torch.tensor([[0.0, 0.0], [0.1, 0.2]], dtype=torch.float64, requires_grad=True)
    points1 = torch.tensor([[0.3, 0.1], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    distance = symmetric_epipolar_distance(points0, points1, essential(T), K, K)
    assert distance.tolist() == [0.0, 0.0]
    gradients = torch.autograd.grad(distance.sum(), (points0, points1))
    assert all(bool(g.isfinite().all()) for g in gradients)


def test_gradcheck(scene):
    points = [p[:5].clone().requires_grad_() for p in _pixels(scene, sigma=20.0)]
    E = essential(scene.T_0to1).clone().requires_grad_()
    assert torch.autograd.gradcheck(symmetric_epipolar_distance, (*points, E, scene.K0, scene.K1))
