"""The estimators on scenes of which the pose is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from s2ld.config import build_config
from s2ld.evaluation.estimators import (
    HomographyRansac,
    OpenCVRansac,
    PoseEstimator,
    PoseLibRansac,
    build_estimators,
    build_homography_estimator,
)
from s2ld.evaluation.metrics import homography_error, pose_error_degrees

K0 = np.array([[700.0, 0, 320], [0, 720, 240], [0, 0, 1]])
K1 = np.array([[600.0, 0, 310], [0, 590, 250], [0, 0, 1]])
BOTH = pytest.mark.parametrize("estimator", [OpenCVRansac(), PoseLibRansac()], ids=lambda e: e.name)


def scene(count: int, outliers: float, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.radians([4.0, -18.0, 6.0]))[0]
    T[:3, 3] = [0.9, 0.1, 0.2]
    X0 = np.stack([rng.uniform(-1.5, 1.5, count), rng.uniform(-1, 1, count), rng.uniform(3, 7, count)], 1)
    X1 = X0 @ T[:3, :3].T + T[:3, 3]
    points0, points1 = ((X @ K.T)[:, :2] / X[:, 2:] for X, K in ((X0, K0), (X1, K1)))
    points0, points1 = points0 + rng.normal(0, noise, (count, 2)), points1 + rng.normal(0, noise, (count, 2))
    wrong = rng.random(count) < outliers
    points1[wrong] = rng.uniform(0, 600, (int(wrong.sum()), 2))
    return points0, points1, T


@BOTH
def test_pose_is_found_among_outliers(estimator: PoseEstimator) -> None:
    points0, points1, T = scene(400, 0.4, 0.2)
    pose = estimator(points0, points1, K0, K1, 0)
    assert pose is not None
    assert pose_error_degrees(pose, T) < 2.0
    assert np.linalg.det(pose.R) == pytest.approx(1)
    assert pose.t @ T[:3, 3] > 0  # cheirality fixes the sign
    assert 180 < pose.inliers.sum() < 280


@BOTH
def test_the_same_seed_gives_the_same_pose(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(100, 0.6, 0.5)
    one, two = (estimator(points0.astype(np.float32), points1, K0, K1, 7) for _ in range(2))
    assert one is not None
    assert two is not None
    assert np.array_equal(one.R, two.R)
    assert np.array_equal(one.t, two.t)


@BOTH
def test_below_five_matches_there_is_no_pose(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(4, 0.0, 0.0)
    assert estimator(points0, points1, K0, K1, 0) is None
    assert estimator(points0[:0], points1[:0], K0, K1, 0) is None


@BOTH
def test_five_matches_and_degenerate_ones_do_not_crash(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(5, 0.0, 0.0)
    assert estimator(points0, points1, K0, K1, 0) is not None
    estimator(np.zeros((6, 2)), np.zeros((6, 2)), K0, K1, 0)
    line = np.stack([np.arange(20.0), np.arange(20.0)], 1)
    estimator(line, line, K0, K1, 0)


def test_opencv_threshold_is_divided_by_the_focal_lengths_of_the_lineage() -> None:
    """Written once more, as the published numbers were made."""
    points0, points1, _ = scene(300, 0.3, 0.6)
    uneven0, uneven1 = K0.copy(), K1.copy()
    uneven0[1, 1], uneven1[0, 0] = 2000, 3000  # do not enter the mean
    pose = OpenCVRansac(0.5, 0.99999)(points0, points1, uneven0, uneven1, 5)
    rays = [(p - [K[0, 2], K[1, 2]]) / [K[0, 0], K[1, 1]] for p, K in ((points0, uneven0), (points1, uneven1))]
    mean = (uneven0[0, 0] + uneven1[1, 1] + uneven0[0, 0] + uneven1[1, 1]) / 4
    cv2.setRNGSeed(5)
    E, mask = cv2.findEssentialMat(*rays, np.eye(3), cv2.RANSAC, 0.99999, 0.5 / mean)
    assert E.shape == (3, 3)
    _, R, t, mask = cv2.recoverPose(E, *rays, np.eye(3), 1e9, mask=mask)
    assert pose is not None
    assert np.array_equal(pose.R, R)
    assert np.array_equal(pose.t, t[:, 0])
    assert np.array_equal(pose.inliers, mask.ravel() > 0)


@BOTH
def test_pixels_of_any_image_size_give_one_pose(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(200, 0.3, 0.3)
    double = np.diag([2.0, 2.0, 1.0])
    wide = type(estimator)(threshold=2 * estimator.threshold)  # type: ignore[attr-defined, call-arg]
    one = estimator(points0, points1, K0, K1, 0)
    two = wide(2 * points0, 2 * points1, double @ K0, double @ K1, 0)
    assert one is not None
    assert np.allclose(one.R, two.R, atol=1e-6)


def test_settings_of_the_config_reach_the_estimators() -> None:
    config = build_config([], ["EVAL.OPENCV_THRESHOLD", "0.75", "EVAL.OPENCV_CONFIDENCE", "0.9"])
    opencv, poselib = build_estimators(config.EVAL)
    assert opencv == OpenCVRansac(0.75, 0.9)
    assert poselib == PoseLibRansac(1.0)
    assert "0.75 px" in opencv.settings
    assert "1 px" in poselib.settings


def plane(count: int, outliers: float, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matches by a known homography, some of them wrong."""
    rng = np.random.default_rng(0)
    H = np.array([[0.9, -0.2, 40.0], [0.15, 1.1, -20.0], [2e-4, -1e-4, 1.0]])
    points0 = rng.uniform((0, 0), (320, 240), (count, 2))
    points1 = cv2.perspectiveTransform(points0[None], H)[0] + rng.normal(0, noise, (count, 2))
    wrong = rng.random(count) < outliers
    points1[wrong] = rng.uniform(0, 300, (int(wrong.sum()), 2))
    return points0, points1, H


def test_homography_is_found_among_outliers() -> None:
    points0, points1, H = plane(400, 0.5, 0.3)
    one, two = (HomographyRansac()(points0.astype(np.float32), points1, 3) for _ in range(2))
    assert homography_error(one, H, (320, 240)) < 0.5
    assert one is not None
    assert np.array_equal(one, two)  # type: ignore[arg-type]


def test_what_gives_no_homography_does_not_crash() -> None:
    points0, points1, H = plane(4, 0.0, 0.0)
    assert homography_error(HomographyRansac()(points0, points1, 0), H, (320, 240)) < 1e-3
    assert HomographyRansac()(points0[:3], points1[:3], 0) is None
    line = np.stack([np.arange(20.0), np.arange(20.0)], 1)
    for same in (np.zeros((6, 2)), line):
        assert homography_error(HomographyRansac()(same, same, 0), H, (320, 240)) > 10


def test_threshold_of_the_homography_counts_and_comes_from_the_config() -> None:
    points0, points1, H = plane(200, 0.0, 0.0)
    points1[::3] += (4, 0)  # a third are 4 px off: neither fit nor enter the refinement below 4 px
    config = build_config([], ["EVAL.HOMOGRAPHY_THRESHOLD", "2.5", "EVAL.OPENCV_CONFIDENCE", "0.9"])
    estimator = build_homography_estimator(config.EVAL)
    assert estimator == HomographyRansac(2.5, 0.9)
    assert "2.5 resized px" in estimator.settings
    assert homography_error(HomographyRansac(1.0)(points0, points1, 0), H, (320, 240)) < 1e-3
    assert homography_error(HomographyRansac(8.0)(points0, points1, 0), H, (320, 240)) > 0.5
