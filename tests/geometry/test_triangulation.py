from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from s2ld.geometry.triangulation import Triangulated, triangulate


def _noisy(rays: Tensor, sigma: float = 2e-3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return rays + sigma * torch.randn(rays.shape, generator=generator, dtype=rays.dtype)


def _weights(count: int) -> Tensor:
    return torch.linspace(0.05, 1.0, count, dtype=torch.float64)


def _slow(rays0: Tensor, rays1: Tensor, T: Tensor, weight: Tensor) -> Tensor:
    """The obvious form: the 4 x 3 system of each match by a library's least squares."""
    points = []
    for (x0, y0), (x1, y1), w in zip(rays0.tolist(), rays1.tolist(), weight.tolist(), strict=True):
        P = T[:3].numpy()
        rows = np.stack(
            [[1, 0, -x0, 0], [0, 1, -y0, 0], w * (x1 * P[2] - P[0]), w * (y1 * P[2] - P[1])], dtype=np.float64
        )
        points.append(np.linalg.lstsq(rows[:, :3], -rows[:, 3], rcond=None)[0])
    return torch.from_numpy(np.array(points))


def _finite_everywhere(rays0: Tensor, rays1: Tensor, T: Tensor, weight: Tensor) -> tuple[Triangulated, list[Tensor]]:
    """Triangulate, assert finite values and gradients, and return both."""
    inputs = [x.clone().requires_grad_() for x in (rays0, rays1, T, weight)]
    result = triangulate(*inputs)
    for value in (result.points, result.depth0, result.depth1, result.parallax):
        assert bool(value.isfinite().all())
    total = result.points.square().sum() + result.depth0.log1p().nan_to_num().sum() + result.depth1.sum()
    gradients = torch.autograd.grad(total, inputs) if total.requires_grad else [torch.zeros_like(x) for x in inputs]
    assert all(bool(g.isfinite().all()) for g in gradients)
    return result, list(gradients)


@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.3, 1.0, 50.0])
def test_exact_on_exact_data_whatever_the_weight(scene, weight):
    result = triangulate(scene.rays0, scene.rays1, scene.T_0to1, torch.full((40,), weight, dtype=torch.float64))
    torch.testing.assert_close(result.points, scene.X0, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(result.depth0, scene.X0[:, 2], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(result.depth1, scene.X1[:, 2], rtol=1e-11, atol=1e-11)
    assert bool(result.valid.all())


def test_float32_is_accurate(scene):
    inputs = [x.float() for x in (scene.rays0, scene.rays1, scene.T_0to1, _weights(40))]
    result = triangulate(*inputs)
    assert result.points.dtype == torch.float32
    torch.testing.assert_close(result.points, scene.X0.float(), rtol=1e-4, atol=1e-4)


def test_agrees_with_the_slow_weighted_least_squares(scene):
    rays0, rays1, weight = _noisy(scene.rays0, seed=1), _noisy(scene.rays1, seed=2), _weights(40)
    result = triangulate(rays0, rays1, scene.T_0to1, weight)
    torch.testing.assert_close(result.points, _slow(rays0, rays1, scene.T_0to1, weight), rtol=1e-9, atol=1e-9)


def test_agrees_with_opencv_on_exact_data(scene):
    projections = [np.eye(4)[:3], scene.T_0to1[:3].numpy()]
    points = cv2.triangulatePoints(*projections, scene.rays0.T.numpy().copy(), scene.rays1.T.numpy().copy())
    expected = torch.from_numpy(points[:3] / points[3:]).T
    result = triangulate(scene.rays0, scene.rays1, scene.T_0to1, torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(result.points, expected, rtol=1e-8, atol=1e-8)


def test_weight_zero_is_the_limit_of_small_weights(scene):
    rays1 = _noisy(scene.rays1)
    at_zero = triangulate(scene.rays0, rays1, scene.T_0to1, torch.zeros(40, dtype=torch.float64))
    near_zero = triangulate(scene.rays0, rays1, scene.T_0to1, torch.full((40,), 1e-6, dtype=torch.float64))
    torch.testing.assert_close(at_zero.points, near_zero.points, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(at_zero.points[:, :2] / at_zero.depth0[:, None], scene.rays0)


@pytest.mark.parametrize("offset", [0, 1])
def test_gradcheck(scene, offset):
    """offset 1: away from exact data, where the weights matter. Rays, pose and weights all count."""
    rays0, rays1 = _noisy(scene.rays0[:6], 0.01 * offset, 5), _noisy(scene.rays1[:6], 0.01 * offset, 6)
    inputs = [x.clone().requires_grad_() for x in (rays0, rays1, scene.T_0to1.expand(6, 4, 4), _weights(6))]

    def outputs(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        result = triangulate(*arguments)
        assert bool(result.valid.all())
        return result.points, result.depth1

    assert torch.autograd.gradcheck(outputs, inputs, eps=1e-6, atol=1e-6)


def test_gradient_of_the_weight_needs_disagreement(scene):
    for sigma, agree in ((0.0, True), (5e-3, False)):
        weight = _weights(40).requires_grad_()
        rays1 = _noisy(scene.rays1, sigma)
        (gradient,) = torch.autograd.grad(triangulate(scene.rays0, rays1, scene.T_0to1, weight).depth0.sum(), weight)
        assert bool((gradient.abs() < 1e-9).all()) == agree
        assert bool((gradient.abs() > 1e-9).all()) != agree


def test_weight_zero_still_moves_the_rays(scene):
    weight = torch.zeros(40, dtype=torch.float64)
    rays1 = _noisy(scene.rays1)
    _, (d_rays0, d_rays1, _, d_weight) = _finite_everywhere(scene.rays0, rays1, scene.T_0to1, weight)
    assert bool((d_rays0.abs().amax(-1) > 0).all())
    assert bool((d_rays1.abs().amax(-1) > 0).all())
    assert bool((d_weight == 0).all())


def test_scale_of_the_translation_is_the_scale_of_the_points(scene):
    T = scene.T_0to1.clone()
    T[:3, 3] *= 1e5
    result = triangulate(scene.rays0, scene.rays1, T, _weights(40))
    torch.testing.assert_close(result.points, scene.X0 * 1e5, rtol=1e-10, atol=1e-6)


def test_parallax_is_the_angle_at_the_point(scene):
    centre1 = -scene.T_0to1[:3, :3].T @ scene.T_0to1[:3, 3]
    cosine = torch.nn.functional.cosine_similarity(scene.X0, scene.X0 - centre1, dim=-1)
    result = triangulate(scene.rays0, scene.rays1, scene.T_0to1, _weights(40))
    torch.testing.assert_close(result.parallax, torch.rad2deg(torch.acos(cosine)), rtol=1e-7, atol=1e-7)
    assert not result.parallax.requires_grad


def test_min_parallax_masks_flat_triangles(scene):
    everything = triangulate(scene.rays0, scene.rays1, scene.T_0to1, _weights(40))
    bound = float(everything.parallax.median())
    result = triangulate(scene.rays0, scene.rays1, scene.T_0to1, _weights(40), min_parallax=bound)
    assert torch.equal(result.valid, everything.parallax >= bound)
    assert 0 < int(result.valid.sum()) < 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_parallel_rays_are_masked_and_carry_no_gradient(make_pose, dtype, weight):
    T = make_pose([0.1, 0.2, -0.1], [1.0, 0.0, 0.1])
    direction = torch.tensor([[0.1, -0.2, 1.0], [0.0, 0.0, 1.0], [0.5, 0.4, 1.0]], dtype=torch.float64)
    seen = direction @ T[:3, :3].T
    rays0, rays1 = direction[:, :2].to(dtype), (seen[:, :2] / seen[:, 2:]).to(dtype)
    result, gradients = _finite_everywhere(rays0, rays1, T.to(dtype), torch.full((3,), weight, dtype=dtype))
    assert not bool(result.valid.any())
    assert bool((result.depth0 != 0).all())
    assert all(bool((g == 0).all()) for g in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearly_parallel_rays_are_finite(dtype):
    T = torch.eye(4, dtype=dtype)
    T[0, 3] = 1.0
    angles = torch.logspace(-20, -1, 200, dtype=torch.float64).to(dtype)
    rays0 = torch.zeros(200, 2, dtype=dtype)
    rays1 = torch.stack([angles, torch.full_like(angles, 1e-4)], -1)
    result, _ = _finite_everywhere(rays0, rays1, T, torch.linspace(0, 1, 200, dtype=dtype))
    assert bool((result.parallax.diff() >= 0).all())
    flat = triangulate(rays0, rays1, T, torch.ones(200, dtype=dtype), min_parallax=1.0)
    assert torch.equal(flat.valid, result.parallax >= 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_behind_a_camera_are_masked(make_pose, dtype):
    """Row 0 behind both cameras, row 1 behind camera 1 only, row 2 in front of both."""
    T = make_pose([0.0, 2.0, 0.0], [1.0, 0.0, 4.0])
    in_front_of_both = T[:3, :3].T @ (torch.tensor([0.2, 0.1, 3.0], dtype=torch.float64) - T[:3, 3])
    X0 = torch.stack(
        [torch.tensor([0.5, 0.3, -9.0]).double(), torch.tensor([-0.2, 0.1, 30.0]).double(), in_front_of_both]
    )
    X1 = X0 @ T[:3, :3].T + T[:3, 3]
    in_front = (X0[:, 2] > 0) & (X1[:, 2] > 0)
    rays0, rays1 = X0[:, :2] / X0[:, 2:], X1[:, :2] / X1[:, 2:]
    arguments = [x.to(dtype) for x in (rays0, rays1, T.expand(3, 4, 4), torch.full((3,), 0.7))]
    result, gradients = _finite_everywhere(*arguments)
    assert torch.equal(result.valid, in_front)
    torch.testing.assert_close(result.points, X0.to(dtype), rtol=1e-3, atol=1e-3)
    for gradient in gradients:
        assert bool((gradient[~in_front] == 0).all())


def test_no_baseline_is_masked(scene):
    T = scene.T_0to1.clone()
    T[:3, 3] = 0.0
    result, _ = _finite_everywhere(scene.rays0, scene.rays1, T, _weights(40))
    assert not bool(result.valid.any())


def test_rows_with_nan_or_infinity_do_not_touch_the_others(scene):
    rays0, rays1, weight = scene.rays0[:4].clone(), scene.rays1[:4].clone(), _weights(4)
    rays0[0, 0], rays1[1, 1], weight[2] = float("nan"), float("inf"), float("nan")
    result, gradients = _finite_everywhere(rays0, rays1, scene.T_0to1.expand(4, 4, 4), weight)
    assert result.valid.tolist() == [False, False, False, True]
    torch.testing.assert_close(result.points[3], scene.X0[3])
    assert bool((gradients[0][:3] == 0).all())
    assert bool((gradients[0][3] != 0).any())


@pytest.mark.parametrize("count", [0, 1])
def test_no_match_and_one_match(scene, count):
    weight = _weights(40)[:count]
    result, _ = _finite_everywhere(scene.rays0[:count], scene.rays1[:count], scene.T_0to1, weight)
    assert result.points.shape == (count, 3)
    assert result.valid.shape == (count,)
    torch.testing.assert_close(result.points, scene.X0[:count])


def test_gradient_flows_under_autocast_at_full_precision(scene):
    inputs = [x.float() for x in (scene.rays0, scene.rays1, scene.T_0to1, _weights(40))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = triangulate(*inputs)
    torch.testing.assert_close(result.points, scene.X0.float(), rtol=1e-4, atol=1e-4)
