from __future__ import annotations

import math

import pytest
import torch

from s2ld.geometry.camera import OUTSIDE_PX
from s2ld.geometry.homography import apply_homography, plane_homography
from s2ld.geometry.warp import inside_view, sample_depth, warp_by_depth
from s2ld.types import ImageBatch, View

WIDTH, HEIGHT = 64, 48
K = torch.tensor([[60.0, 0, 31.0], [0, 62.0, 24.0], [0, 0, 1]], dtype=torch.float64)


def _view(depth: torch.Tensor | None, mask: torch.Tensor | None = None) -> View:
    image = torch.zeros(1, 1, HEIGHT, WIDTH)
    return View(ImageBatch(image, mask), torch.ones(1, 2), K[None], depth)


def _constant(value: float) -> torch.Tensor:
    return torch.full((1, HEIGHT, WIDTH), value, dtype=torch.float64)


def _grid() -> torch.Tensor:
    """Sub-pixel points all over the image, (1, P, 2)."""
    y, x = torch.meshgrid(torch.arange(2, HEIGHT - 2, 3.7), torch.arange(2, WIDTH - 2, 4.3), indexing="ij")
    return torch.stack([x, y], -1).reshape(1, -1, 2).double()


def _shift(x: float, z: float = 0.0) -> torch.Tensor:
    T = torch.eye(4, dtype=torch.float64)[None]
    T[0, 0, 3], T[0, 2, 3] = x, z
    return T


def test_sample_depth_takes_the_nearest_pixel():
    depth = torch.arange(1.0, 13.0).reshape(1, 3, 4)
    points = torch.tensor([[[0.0, 0.0], [1.4, 0.6], [1.6, 2.4], [-0.4, 0.0], [3.4, 2.4]]])
    assert sample_depth(depth, points).tolist() == [[1.0, 6.0, 11.0, 1.0, 12.0]]


def test_sample_depth_out_of_bounds_and_not_finite_points_are_unknown():
    depth = torch.ones(1, 3, 4)
    nan, inf = math.nan, math.inf
    outside = [[-0.6, 0], [0, -0.6], [3.6, 0], [0, 2.6], [nan, 0], [0, inf], [-1e30, 0], [1e30, 1e30], [-1, -1]]
    assert sample_depth(depth, torch.tensor([outside])).tolist() == [[0.0] * len(outside)]


def test_sample_depth_knows_only_finite_positive_depth():
    depth = torch.tensor([[[math.nan, math.inf, -2.0, 0.0, 3.0]]])
    points = torch.stack([torch.arange(5.0), torch.zeros(5)], -1)[None]
    assert sample_depth(depth, points).tolist() == [[0.0, 0.0, 0.0, 0.0, 3.0]]


def test_sample_depth_is_batched_and_takes_no_points():
    depth = torch.stack([torch.ones(3, 4), 2 * torch.ones(3, 4)])
    assert sample_depth(depth, torch.zeros(2, 1, 2)).tolist() == [[1.0], [2.0]]
    assert sample_depth(depth, torch.zeros(2, 0, 2)).shape == (2, 0)


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_plane_warps_by_its_homography(make_pose, tilt):
    T = make_pose([0.02, -0.05, 0.1], [0.3, -0.1, 0.2])[None]
    normal, distance = torch.tensor([tilt, 0.1, 1.0], dtype=torch.float64), torch.tensor(5.0, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(HEIGHT).double(), torch.arange(WIDTH).double(), indexing="ij")
    rays = torch.stack([(x - 31) / 60, (y - 24) / 62, torch.ones_like(x)], -1)
    points = torch.stack([x, y], -1).reshape(1, -1, 2)  # at the pixels, where the depth is exact
    warped = warp_by_depth(points, _view((distance / (rays @ normal))[None]), _view(None), T, 0.01)
    expected = apply_homography(plane_homography(K, K, T[0], normal, distance), points)
    torch.testing.assert_close(warped.points, expected)
    x1, y1 = expected.unbind(-1)
    inside = (x1 >= -0.5) & (x1 < WIDTH - 0.5) & (y1 >= -0.5) & (y1 < HEIGHT - 0.5)
    assert torch.equal(warped.valid, inside)
    assert bool(warped.known.all())
    assert 0 < int(warped.valid.sum()) < points.shape[1]


def test_unknown_depth_is_neither_known_nor_valid():
    depth = _constant(4.0)
    depth[:, :, :32] = 0
    points = _grid()
    for broken in (0.0, math.nan, math.inf, -3.0):
        depth[:, :, :32] = broken
        warped = warp_by_depth(points, _view(depth), _view(_constant(4.0)), _shift(0.1), 0.01)
        assert torch.equal(warped.known, points[..., 0] >= 31.5)
        assert not bool(warped.valid[~warped.known].any())
        assert bool((warped.points[~warped.known] == OUTSIDE_PX).all())
        assert bool((warped.z[~warped.known] == 0).all())
        assert bool(warped.valid[warped.known].all())


def test_no_depth_map_means_nothing_is_known():
    warped = warp_by_depth(_grid(), _view(None), _view(_constant(4.0)), _shift(0.1), 0.01)
    assert not bool(warped.known.any() | warped.valid.any())


def test_occluded_points_are_known_but_not_valid():
    """Something twice as near covers the right half of view 1."""
    depth1 = _constant(4.0)
    depth1[:, :, 32:] = 2.0
    warped = warp_by_depth(_grid(), _view(_constant(4.0)), _view(depth1), _shift(0.1), 0.05)
    assert bool(warped.known.all())
    assert torch.equal(warped.valid, warped.points[..., 0] < 31.5)


def test_tolerance_is_relative_and_unknown_depth_in_view_1_counts_as_visible():
    near_enough, too_far = _constant(4.0 / 1.04), _constant(4.0 / 1.06)
    for depth1, expected in ((near_enough, True), (too_far, False), (_constant(0.0), True), (None, True)):
        warped = warp_by_depth(_grid(), _view(_constant(4.0)), _view(depth1), _shift(0.0), 0.05)
        assert bool((warped.valid == expected).all())


def test_points_behind_camera_1_are_finite_and_not_valid():
    for z in (-4.0, -9.0):
        warped = warp_by_depth(_grid(), _view(_constant(4.0)), _view(None), _shift(0.0, z), 0.05)
        assert bool(warped.known.all())
        assert not bool(warped.valid.any())
        assert bool(warped.points.isfinite().all())
        assert bool((warped.z == 4.0 + z).all())


def test_padding_is_not_in_the_image():
    mask = torch.zeros(1, HEIGHT // 8, WIDTH // 8, dtype=torch.bool)
    mask[:, :4, :6] = True
    points = torch.tensor([[[47.4, 31.4], [47.6, 10.0], [10.0, 31.6], [0.0, 0.0], [-0.6, 0.0]]])
    assert inside_view(points, _view(None, mask)).tolist() == [[True, False, False, True, False]]
    assert inside_view(points, _view(None)).tolist() == [[True, True, True, True, False]]


def test_gradient_reaches_known_points_only_and_is_right():
    depth = _constant(4.0)
    depth[:, :, :32] = 0
    points = _grid().requires_grad_()
    T = _shift(0.3, -0.5)
    warped = warp_by_depth(points, _view(depth), _view(None), T, 0.05)
    (gradient,) = torch.autograd.grad(warped.points.sum(), points)
    assert bool((gradient[~warped.known] == 0).all())
    torch.testing.assert_close(gradient[warped.known], torch.full_like(gradient[warped.known], 4.0 / 3.5))


def test_not_finite_points_and_all_unknown_depth_have_zero_gradient():
    points = _grid()
    points[0, 0] = math.nan
    points.requires_grad_()
    for depth in (_constant(4.0), _constant(0.0)):
        T = _shift(0.1).requires_grad_()
        warped = warp_by_depth(points, _view(depth), _view(None), T, 0.05)
        assert not bool(warped.known[0, 0])
        gradient, gradient_pose = torch.autograd.grad(warped.points.sum() + warped.z.sum(), (points, T))
        assert bool(gradient.isfinite().all())
        assert bool(gradient_pose.isfinite().all())
        assert bool((gradient[~warped.known] == 0).all())


def test_float32_points_with_float64_depth_stay_float32():
    view = View(ImageBatch(torch.zeros(1, 1, HEIGHT, WIDTH)), torch.ones(1, 2), K[None].float(), _constant(4.0))
    warped = warp_by_depth(_grid().float(), view, view, _shift(0.1).float(), 0.05)
    assert warped.points.dtype == torch.float32
    assert warped.z.dtype == torch.float32
