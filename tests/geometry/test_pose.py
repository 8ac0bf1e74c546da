from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from s2ld.geometry.pose import invert_pose, pose_error, relative_pose, rotation_angle, transform, translation_angle


def test_invert_and_relative_pose(scene, make_pose):
    T0, T1 = scene.T_0to1, make_pose([0.5, 0.1, -0.9], [-2.0, 0.4, 1.0])
    torch.testing.assert_close(invert_pose(torch.stack([T0, T1])), torch.linalg.inv(torch.stack([T0, T1])))
    torch.testing.assert_close(relative_pose(T0, T1), T1 @ torch.linalg.inv(T0))


def test_transform(scene):
    torch.testing.assert_close(transform(scene.T_0to1, scene.X0), scene.X1)
    torch.testing.assert_close(transform(scene.T_0to1.expand(40, 4, 4), scene.X0), scene.X1)
    assert transform(scene.T_0to1, scene.X0[:0]).shape == (0, 3)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 0.3, 45.0, 90.0, 179.9, 180.0])
def test_rotation_angle(make_pose, degrees):
    axis = np.array([0.48, -0.6, 0.64]) * math.radians(degrees)
    R_a = make_pose([0.3, 0.2, 0.1], [0.0, 0.0, 0.0])[:3, :3]
    R_b = R_a @ make_pose(axis.tolist(), [0.0, 0.0, 0.0])[:3, :3]
    assert float(rotation_angle(R_a, R_b)) == pytest.approx(degrees, abs=1e-9)
    assert float(rotation_angle(R_b, R_a)) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize(("degrees", "expected"), [(0, 0), (1e-6, 1e-6), (60, 60), (90, 90), (120, 60), (180, 0)])
def test_translation_angle_folds_at_90(degrees, expected):
    angle = math.radians(degrees)
    t_a = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
    t_b = torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)
    assert float(translation_angle(t_a, 5 * t_b)) == pytest.approx(expected, abs=1e-12)


def test_angles_are_batched(make_pose):
    R = torch.stack([make_pose([0, 0, a], [0, 0, 0])[:3, :3] for a in (0.0, 0.1, 0.2)])
    torch.testing.assert_close(rotation_angle(R[:1], R), torch.rad2deg(torch.tensor([0.0, 0.1, 0.2]).double()))
    assert translation_angle(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)


def test_pose_error(make_pose):
    truth = make_pose([0.0, 0.0, 0.0], [1.0, 0.0, 0.0]).numpy()
    estimate = make_pose([0.0, math.radians(3), 0.0], [-math.cos(0.1), math.sin(0.1), 0.0]).numpy()
    rotation, translation = pose_error(truth, estimate[:3, :3], estimate[:3, 3:])
    assert rotation == pytest.approx(3.0)
    assert translation == pytest.approx(math.degrees(0.1))


def test_pose_error_without_a_baseline_or_an_estimate(make_pose):
    still, moving = make_pose([0, 0, 0.1], [0, 0, 0]).numpy(), make_pose([0, 0, 0.1], [0, 1, 0]).numpy()
    assert pose_error(still, moving[:3, :3], moving[:3, 3])[1] == 0.0
    assert pose_error(moving, still[:3, :3], still[:3, 3])[1] == 90.0
    assert pose_error(moving, np.full((3, 3), np.nan), moving[:3, 3]) == (math.inf, math.inf)
    assert all(type(e) is float for e in pose_error(moving.astype(np.float32), moving[:3, :3], moving[:3, 3]))
