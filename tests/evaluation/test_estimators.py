"""The estimators on scenes of which the pose is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.evaluation.estimators import (
    ESTIMATORS,
    HomographyRansac,
    OpenCVRansac,
    PoseEstimator,
    build_estimators,
    build_homography_estimator,
    shuffled,
)
from s2ld.evaluation.metrics import homography_error, pose_error_degrees
from s2ld.geometry.two_view import PoseLibRansac

K0 = np.array([[700.0, 0, 320], [0, 720, 240], [0, 0, 1]])
K1 = np.array([[600.0, 0, 310], [0, 590, 250], [0, 0, 1]])
ALL = build_estimators(build_config([], ["EVAL.ESTIMATORS", str(list(ESTIMATORS))]).EVAL)
EACH = pytest.mark.parametrize("estimator", ALL, ids=lambda e: e.name)


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


def epipolar_feet(points0: np.ndarray, points1: np.ndarray, T: np.ndarray) -> np.ndarray:
    """The points of the true epipolar lines in image 1 that are nearest to `points1`."""
    cross = np.array([[0, -T[2, 3], T[1, 3]], [T[2, 3], 0, -T[0, 3]], [-T[1, 3], T[0, 3], 0]])
    F = np.linalg.inv(K1).T @ cross @ T[:3, :3] @ np.linalg.inv(K0)
    lines = np.c_[points0, np.ones(len(points0))] @ F.T
    lines /= np.linalg.norm(lines[:, :2], axis=1, keepdims=True)
    return points1 - lines[:, :2] * (np.c_[points1, np.ones(len(points1))] * lines).sum(1, keepdims=True)


@EACH
@pytest.mark.parametrize("seed", [0, 3])
def test_pose_is_found_among_outliers(estimator: PoseEstimator, seed: int) -> None:
    points0, points1, T = scene(400, 0.4, 0.2)
    pose = estimator(points0, points1, K0, K1, seed)
    assert pose is not None
    assert pose_error_degrees(pose, T) < 2.0
    assert np.linalg.det(pose.R) == pytest.approx(1)
    assert pose.t @ T[:3, 3] > 0  # cheirality fixes the sign
    assert 180 < pose.inliers.sum() < 290
    mine = np.hypot(*(points1 - epipolar_feet(points0, points1, T)).T)
    assert np.median(mine[pose.inliers]) < 0.5 < 5 < np.median(mine[~pose.inliers])  # they are the right rows


@EACH
def test_the_same_seed_gives_the_same_pose(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(100, 0.6, 0.5)
    one, two = (estimator(points0.astype(np.float32), points1, K0, K1, 7) for _ in range(2))
    assert one is not None
    assert two is not None
    assert np.array_equal(one.R, two.R)
    assert np.array_equal(one.t, two.t)


@EACH
def test_below_five_matches_there_is_no_pose(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(4, 0.0, 0.0)
    assert estimator(points0, points1, K0, K1, 0) is None
    assert estimator(points0[:0], points1[:0], K0, K1, 0) is None


@EACH
def test_five_matches_and_degenerate_ones_do_not_crash(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(5, 0.0, 0.0)
    found = estimator(points0, points1, K0, K1, 0)
    assert found is not None or estimator.name == "magsac"  # which needs more
    estimator(np.zeros((6, 2)), np.zeros((6, 2)), K0, K1, 0)
    line = np.stack([np.arange(20.0), np.arange(20.0)], 1)
    estimator(line, line, K0, K1, 0)


def lineage(points0: np.ndarray, points1: np.ndarray, A0: np.ndarray, A1: np.ndarray) -> tuple[np.ndarray, ...]:
    """Written once more, as the published numbers were made: R, t and the mask; one mask for all candidates."""
    rays = [(p - [K[0, 2], K[1, 2]]) / [K[0, 0], K[1, 1]] for p, K in ((points0, A0), (points1, A1))]
    mean = (A0[0, 0] + A1[1, 1] + A0[0, 0] + A1[1, 1]) / 4
    E, mask = cv2.findEssentialMat(*rays, np.eye(3), cv2.RANSAC, 0.99999, 0.5 / mean)
    best, most = None, 0
    for candidate in np.split(E, len(E) // 3):
        count, R, t, _ = cv2.recoverPose(candidate, *rays, np.eye(3), 1e9, mask=mask)
        if count > most:
            best, most = (R, t[:, 0], mask.ravel() > 0), count
    assert best is not None
    return best


@pytest.mark.parametrize("count", [300, 5])
def test_opencv_is_the_lineages_with_its_quirks(count: int) -> None:
    points0, points1, _ = scene(count, 0.3 if count > 5 else 0.0, 0.6)
    uneven0, uneven1 = K0.copy(), K1.copy()
    uneven0[1, 1], uneven1[0, 0] = 2000, 3000  # do not enter the mean
    pose = OpenCVRansac(0.5, 0.99999)(points0, points1, uneven0, uneven1, 0)
    assert pose is not None
    for mine, theirs in zip((pose.R, pose.t, pose.inliers), lineage(points0, points1, uneven0, uneven1), strict=True):
        assert np.array_equal(mine, theirs)
    assert "quirk of the lineage" in OpenCVRansac().settings
    assert "quirk" not in OpenCVRansac(lineage=False).settings


def test_the_corrected_form_counts_each_focal_length_and_weighs_candidates_alike() -> None:
    points0, points1, _ = scene(300, 0.3, 0.6)
    uneven0, uneven1 = np.diag([500.0, 1000, 1]), np.diag([250.0, 2000, 1])
    rays0, rays1 = (points0 - K0[:2, 2]) / K0[[0, 1], [0, 1]], (points1 - K1[:2, 2]) / K1[[0, 1], [0, 1]]
    scaled = [rays * np.diag(K)[:2] for rays, K in ((rays0, uneven0), (rays1, uneven1))]
    pose = OpenCVRansac(0.8, lineage=False)(*scaled, uneven0, uneven1, 0)
    threshold = 0.8 * (1 / 500 + 1 / 1000 + 1 / 250 + 1 / 2000) / 4
    again = (s / np.diag(K)[:2] for s, K in zip(scaled, (uneven0, uneven1), strict=True))
    _, mask = cv2.findEssentialMat(*again, np.eye(3), cv2.RANSAC, 0.99999, threshold)
    assert pose is not None
    assert 0 <= mask.sum() - pose.inliers.sum() < 10  # some are not in front of both cameras
    points0, points1, _ = scene(5, 0.0, 0.0)
    five = OpenCVRansac(lineage=False)(points0, points1, K0, K1, 0)
    assert five is not None
    assert five.inliers.all()


def test_another_seed_gives_opencv_the_matches_in_another_order() -> None:
    assert shuffled(4, 0).tolist() == [0, 1, 2, 3]
    orders = [shuffled(50, seed).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    points0, points1, _ = scene(100, 0.6, 0.5)
    found = [OpenCVRansac()(points0, points1, K0, K1, seed) for seed in range(4)]
    assert len({pose.R.tobytes() for pose in found if pose is not None}) > 1
    points0, points1, _ = plane(60, 0.4, 1.0)
    assert len({np.asarray(HomographyRansac()(points0, points1, seed)).tobytes() for seed in range(4)}) > 1


@EACH
def test_pixels_of_any_image_size_give_one_pose(estimator: PoseEstimator) -> None:
    points0, points1, _ = scene(200, 0.3, 0.3)
    double = np.diag([2.0, 2.0, 1.0])
    wide = replace(estimator, threshold=2 * estimator.threshold)  # type: ignore[type-var]
    one = estimator(points0, points1, K0, K1, 0)
    two = wide(2 * points0, 2 * points1, double @ K0, double @ K1, 0)
    assert one is not None
    assert np.allclose(one.R, two.R, atol=1e-6)


def test_settings_of_the_config_reach_the_estimators() -> None:
    thresholds = ["EVAL.OPENCV_THRESHOLD", "0.75", "EVAL.OPENCV_CONFIDENCE", "0.9", "EVAL.MAGSAC_THRESHOLD", "0.3"]
    config = build_config([], [*thresholds, "EVAL.ESTIMATORS", str(list(ESTIMATORS))])
    opencv, corrected, magsac, poselib = build_estimators(config.EVAL)
    assert opencv == OpenCVRansac(0.75, 0.9)
    assert corrected == OpenCVRansac(0.75, 0.9, "opencv_corrected", lineage=False)
    assert magsac == OpenCVRansac(0.3, 0.9, "magsac", lineage=False, method="USAC_MAGSAC")
    assert poselib == PoseLibRansac(1.0)
    assert [one.name for one in (opencv, corrected, magsac, poselib)] == list(ESTIMATORS)
    assert "0.75 px" in opencv.settings
    assert "USAC_MAGSAC" in magsac.settings
    assert "1 px" in poselib.settings
    assert [one.name for one in build_estimators(build_config().EVAL)] == ["opencv", "poselib"]
    for names, said in (("['ransac']", "EVAL.ESTIMATORS is 'ransac'"), ("['opencv', 'opencv']", "once")):
        with pytest.raises(S2LDError, match=said):
            build_estimators(build_config([], ["EVAL.ESTIMATORS", names]).EVAL)


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
