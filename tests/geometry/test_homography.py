from __future__ import annotations

import math

import cv2
import pytest
import torch

from s2ld.geometry.camera import OUTSIDE_PX, project
from s2ld.geometry.homography import apply_homography, corner_error, plane_homography


def _points_of_plane(normal: torch.Tensor, distance: float, X: torch.Tensor) -> torch.Tensor:
    """Slide each point along its viewing ray on to the plane."""
    return X * (distance / (X @ normal))[:, None]


def test_plane_homography_agrees_with_projection(scene):
    normal, distance = torch.tensor([0.2, -0.3, 2.0], dtype=torch.float64), 14.0
    X0 = _points_of_plane(normal, distance, scene.X0)
    X1 = X0 @ scene.T_0to1[:3, :3].T + scene.T_0to1[:3, 3]
    H = plane_homography(scene.K0, scene.K1, scene.T_0to1, normal, torch.tensor(distance, dtype=torch.float64))
    torch.testing.assert_close(apply_homography(H, project(X0, scene.K0)[0]), project(X1, scene.K1)[0])


def test_plane_homography_is_batched(scene):
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, 1.0]], dtype=torch.float64)
    distances = torch.tensor([5.0, 7.0], dtype=torch.float64)
    both = plane_homography(scene.K0, scene.K1, scene.T_0to1, normals, distances)
    assert both.shape == (2, 3, 3)
    torch.testing.assert_close(both[1], plane_homography(scene.K0, scene.K1, scene.T_0to1, normals[1], distances[1]))


def test_apply_homography_agrees_with_opencv(scene):
    H = torch.tensor([[1.1, 0.02, 5.0], [-0.03, 0.9, 8.0], [1e-4, -2e-4, 1.0]], dtype=torch.float64)
    points = project(scene.X0, scene.K0)[0]
    expected = torch.from_numpy(cv2.perspectiveTransform(points.numpy()[None], H.numpy())[0])
    for factor in (1.0, -3.0, 1e-7):
        torch.testing.assert_close(apply_homography(factor * H, points), expected)
    torch.testing.assert_close(apply_homography(H.expand(40, 3, 3), points), expected)


def test_points_at_infinity_are_finite_with_finite_gradient():
    H = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.1, 0, -1]], dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[10.0, 3.0], [0.0, 3.0]], dtype=torch.float64, requires_grad=True)
    mapped = apply_homography(H, points)
    assert mapped.tolist() == [[OUTSIDE_PX, OUTSIDE_PX], [0.0, -3.0]]
    gradient_H, gradient_points = torch.autograd.grad(mapped.sum(), (H, points))
    assert bool(gradient_H.isfinite().all())
    assert gradient_points[0].tolist() == [0.0, 0.0]


def test_gradcheck(scene):
    points = project(scene.X0[:4], scene.K0)[0].requires_grad_()
    H = torch.tensor([[1.1, 0.02, 5.0], [-0.03, 0.9, 8.0], [1e-4, -2e-4, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(apply_homography, (H, points), rtol=1e-4)


def test_corner_error_of_a_shift_and_of_a_zoom():
    shift = torch.eye(3, dtype=torch.float64)
    shift[:2, 2] = torch.tensor([3.0, 4.0])
    assert float(corner_error(shift, torch.eye(3).double(), 64, 48)) == pytest.approx(5.0)
    zoom = torch.diag(torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))
    expected = (0 + 63 + math.hypot(63, 47) + 47) / 4
    assert float(corner_error(zoom, torch.eye(3).double(), 64, 48)) == pytest.approx(expected)


def test_corner_error_batches_either_side_and_knows_failure():
    estimates = torch.eye(3).repeat(3, 1, 1)
    estimates[1, 0, 2], estimates[2, 0, 0] = 2.0, float("nan")
    assert corner_error(estimates, torch.eye(3), 10, 10).tolist() == [0.0, 2.0, math.inf]
    assert corner_error(torch.eye(3), estimates[:2], 10, 10).tolist() == [0.0, 2.0]
