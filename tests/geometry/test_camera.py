from __future__ import annotations

import pytest
import torch

from s2ld.errors import S2LDError
from s2ld.geometry.camera import (
    OUTSIDE_PX,
    image_to_resized,
    inverse_intrinsics,
    normalise,
    project,
    rescale_intrinsics,
    resized_to_image,
    unproject,
)


def _matrix_projection(X, K):
    homogeneous = X @ K.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def test_inverse_intrinsics(scene):
    K = torch.stack([scene.K0, scene.K1])
    torch.testing.assert_close(inverse_intrinsics(K), torch.linalg.inv(K))


def test_project_normalise_unproject(scene):
    points, z = project(scene.X0, scene.K0)
    torch.testing.assert_close(points, _matrix_projection(scene.X0, scene.K0))
    assert torch.equal(z, scene.X0[:, 2])
    torch.testing.assert_close(normalise(points, scene.K0), scene.rays0)
    torch.testing.assert_close(unproject(points, z, scene.K0), scene.X0)


def test_batched_and_one_camera_a_point(scene):
    X, K = torch.stack([scene.X0, scene.X1]), torch.stack([scene.K0, scene.K1])
    points, z = project(X, K)
    torch.testing.assert_close(points[1], _matrix_projection(scene.X1, scene.K1))
    flat_K = K.repeat_interleave(40, 0)
    flat_points, _ = project(X.flatten(0, 1), flat_K)
    torch.testing.assert_close(flat_points, points.flatten(0, 1))
    torch.testing.assert_close(unproject(flat_points, z.flatten(), flat_K), X.flatten(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_project_is_safe_behind_and_at_the_camera(scene, dtype):
    nan, inf = float("nan"), float("inf")
    rows = [[0, 0, 0], [1, 1, 0], [1, 2, -3], [0, 0, -1], [1, 0, 1e-30], [nan, 0, 1], [-inf, 0, 1], [1, 2, 4]]
    X = torch.tensor(rows, dtype=dtype, requires_grad=True)
    points, _ = project(X, scene.K0.to(dtype))
    assert bool(points.isfinite().all())
    assert bool((points[:-1] == OUTSIDE_PX).all())
    torch.testing.assert_close(points[-1:], _matrix_projection(X[-1:], scene.K0.to(dtype)))
    (gradient,) = torch.autograd.grad(points.sum(), X)
    assert bool((gradient[:-1] == 0).all())
    assert bool(gradient[-1].isfinite().all())
    assert bool((gradient[-1] != 0).all())


def test_a_tiny_scene_is_still_in_front(scene):
    points, _ = project(scene.X0 * 1e-12, scene.K0)
    torch.testing.assert_close(points, _matrix_projection(scene.X0, scene.K0))


def test_gradcheck(scene):
    X = scene.X0[:4].clone().requires_grad_()
    K = scene.K0.clone().requires_grad_()
    assert torch.autograd.gradcheck(project, (X, K))
    points, depth = (
        _matrix_projection(scene.X0[:4], scene.K0).requires_grad_(),
        scene.X0[:4, 2].clone().requires_grad_(),
    )
    assert torch.autograd.gradcheck(unproject, (points, depth, K))


def test_rescaled_intrinsics_agree_with_rescaled_points(scene):
    scale = torch.tensor([2.5, 1.6], dtype=torch.float64)
    in_image, _ = project(scene.X0, scene.K0)
    in_resized, _ = project(scene.X0, rescale_intrinsics(scene.K0, scale))
    torch.testing.assert_close(resized_to_image(in_resized, scale, "edge"), in_image)
    torch.testing.assert_close(image_to_resized(in_image, scale, "edge"), in_resized)


def test_edge_frame_maps_edges_to_edges_and_lineage_scales():
    scale = torch.tensor([4.0, 2.0])
    corners = torch.tensor([[-0.5, -0.5], [9.5, 7.5]])  # outer edges of a 10 x 8 image
    assert resized_to_image(corners, scale, "edge").tolist() == [[-0.5, -0.5], [39.5, 15.5]]
    assert resized_to_image(torch.tensor([[3.0, 5.0]]), scale, "lineage").tolist() == [[12.0, 10.0]]
    assert image_to_resized(torch.tensor([[12.0, 10.0]]), scale, "lineage").tolist() == [[3.0, 5.0]]


def test_scale_of_a_set_and_of_each_point():
    points = torch.ones(2, 3, 2)
    scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    by_set = resized_to_image(points, scale, "lineage")
    assert by_set[1, 2].tolist() == [3.0, 4.0]
    by_point = resized_to_image(points[:, 0], scale, "lineage")
    assert by_point.tolist() == scale.tolist()


def test_unknown_frame_is_named():
    with pytest.raises(S2LDError, match=r"EVAL\.PIXEL_FRAME"):
        resized_to_image(torch.zeros(1, 2), torch.ones(2), "centre")
