"""Which images are chosen, and between which depths, of points and cameras whose angles are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from planes import Array

from s2ld.sfm.depth.views import angle_weight, camera_centres, choose_sources, depth_range, triangulation_angles
from s2ld.sfm.mapping.model import SparseModel


def on_a_circle(degrees: Sequence[float], seen: Sequence[Sequence[int]], points: Array) -> SparseModel:
    """Cameras at distance 10 from the origin, which they look at; the angle between two is that at the origin."""
    poses = np.tile(np.eye(4), (len(degrees), 1, 1))
    for pose, angle in zip(poses, np.radians(degrees), strict=True):
        pose[:3, :3] = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
        pose[2, 3] = 10
    count = len(degrees)
    names, sizes = [str(number) for number in range(count)], np.full((count, 2), 100)
    return SparseModel(
        names, sizes, np.tile(np.eye(3), (count, 1, 1)), poses, points, [np.array(s, np.int64) for s in seen]
    )


def test_angles_and_centres() -> None:
    model = on_a_circle([0, 30, 90], [[0]] * 3, np.zeros((1, 3)))
    centres = camera_centres(model.poses)
    np.testing.assert_allclose(centres[0], [0, 0, -10], atol=1e-12)
    angles = [triangulation_angles(model.points, centres[0], centre)[0] for centre in centres]
    np.testing.assert_allclose(angles, [0, 30, 90], atol=1e-6)


def test_sources_are_neither_too_near_nor_too_far() -> None:
    cloud = np.random.default_rng(0).normal(0, 0.1, (50, 3))
    every = list(range(50))
    model = on_a_circle([0, 0.5, 2, 10, 45, 70, 180], [every] * 7, cloud)
    assert choose_sources(model, 0).tolist() == [3, 2, 4, 1], "70 and 180 degrees are of no use"
    assert choose_sources(model, 0, count=2).tolist() == [3, 2]
    assert angle_weight(np.array([0, 2.5, 5, 20, 40, 60, 90.0])).tolist() == [0, 0.5, 1, 1, 0.5, 0, 0]


def test_sources_share_points() -> None:
    cloud = np.random.default_rng(0).normal(0, 0.1, (60, 3))
    seen = [range(60), range(40), range(60), range(41, 60), []]
    model = on_a_circle([0, 10, -12, 12, 8], [list(s) for s in seen], cloud)
    assert choose_sources(model, 0, least_shared=20).tolist() == [2, 1], "19 points are too few"
    assert choose_sources(model, 0, least_shared=19).tolist() == [2, 1, 3]
    assert choose_sources(model, 4).tolist() == []


def test_equal_sources_come_in_order() -> None:
    model = on_a_circle([0, 10, -10, 10, -10], [list(range(30))] * 5, np.zeros((30, 3)))
    assert choose_sources(model, 0, count=3).tolist() == [1, 2, 3]


def test_many_points_are_thinned_evenly() -> None:
    """The half of 4000 points that lies at a bad angle counts nothing, however the points are ordered."""
    points = np.concatenate([np.zeros((2000, 3)), np.tile([0, 0, -9.99], (2000, 1))])
    model = on_a_circle([0, 10, 10], [range(4000), range(4000), range(1500)], points)
    assert choose_sources(model, 0).tolist() == [1, 2], "2000 good points beat 1500"


def test_depth_range_is_robust() -> None:
    depths = np.concatenate([np.linspace(5, 15, 1000), [-3, 0.001, 1e6]])
    model = on_a_circle([0], [range(1003)], np.stack([0 * depths, 0 * depths, depths - 10], 1))
    near, far = depth_range(model, 0, margin=0.2)
    assert near == pytest.approx(5 * 0.8, rel=0.03)
    assert far == pytest.approx(15 / 0.8, rel=0.03)
