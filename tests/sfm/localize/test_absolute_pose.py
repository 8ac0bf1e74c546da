"""Sightings joined by hand-made numbers, and poses of a synthetic camera."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from s2ld.sfm.localize.absolute_pose import Sightings, estimate_pose

pycolmap = pytest.importorskip("pycolmap")


def test_each_point_once() -> None:
    points = np.array([[0.0, 0], [10, 10], [1, 0], [50, 50]])
    seen = Sightings(points, np.array([7, 3, 7, 7]), np.array([0.6, 0.9, 0.2, 0.5]))
    once = seen.once(2.0)
    assert once.numbers.tolist() == [3, 7]
    np.testing.assert_allclose(once.points, [[10, 10], [0.25, 0]])  # (50, 50) is too far from the surest
    assert once.confidence.tolist() == [0.9, 0.6]


def test_none_at_all() -> None:
    nothing = Sightings.joined([])
    assert len(nothing.once(1.0).points) == 0
    both = Sightings.joined([nothing, Sightings(np.ones((2, 2)), np.array([1, 2]), np.ones(2))])
    assert both.numbers.tolist() == [1, 2]
    assert estimate_pose(both, SimpleNamespace(points3D={}), None, "known", 1.0) is None


@pytest.mark.parametrize(("focal", "start"), [("known", 500.0), ("rough", 505.0), ("unknown", 900.0)])
def test_the_pose_of_a_camera(focal: str, start: float) -> None:
    random = np.random.default_rng(0)
    world = random.uniform([-2, -2, 4], [2, 2, 8], (200, 3))
    R, t = cv2.Rodrigues(np.array([0.1, -0.3, 0.05]))[0], np.array([0.3, -0.2, 0.5])
    local = world @ R.T + t
    pixels = 500 * local[:, :2] / local[:, 2:] + [319.5, 239.5]  # pixel centres at integers
    pixels += random.normal(0, 0.2, pixels.shape)
    pixels[:60] = random.uniform(0, 480, (60, 2))
    model = SimpleNamespace(points3D={i + 5: SimpleNamespace(xyz=xyz) for i, xyz in enumerate(world)})
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", start, 640, 480)
    pose = estimate_pose(Sightings(pixels, np.arange(200) + 5, np.ones(200)), model, camera, focal, 2.0)
    assert pose is not None
    assert pose.inliers[60:].all()
    assert pose.inliers[:60].mean() < 0.1
    assert camera.focal_length == start
    assert pose.camera.focal_length == pytest.approx(500, rel=0.01 if focal != "known" else 1e-9)
    tolerance = 0.01 if focal == "known" else 0.1
    np.testing.assert_allclose(pose.matrix[:3, :3], R, atol=0.003)
    np.testing.assert_allclose(pose.matrix[:3, 3], t, atol=tolerance)
