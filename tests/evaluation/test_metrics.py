"""Measures by hand; `test_agreement.py` holds them against a slow reference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.evaluation.metrics import (
    corner_auc,
    endpoint_errors,
    homography_error,
    pose_auc,
    pose_error_degrees,
    posed_matches,
    reprojection_errors,
    share_below,
)
from s2ld.evaluation.predictions.cache import PairPrediction, PairTruth
from s2ld.geometry.two_view import Pose


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def motion(rng: np.random.Generator) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = rotation(rng.normal(size=3), rng.uniform(5, 40))
    T[:3, 3] = rng.normal(size=3)
    return T


def test_auc_by_hand() -> None:
    # one pair at 2 degrees: a triangle up to 2, then full recall up to 5
    assert pose_auc([2.0], [5.0]) == pytest.approx([(2 / 2 + 3) / 5], abs=1e-12)
    # an error just at the threshold is not below it
    assert pose_auc([5.0], [5.0]) == [0.0]
    # two of four pairs: (0, 0) (1, 1/4) (3, 2/4), constant to 10
    assert pose_auc([3.0, 1.0, 20.0, math.inf], [10.0]) == pytest.approx([(0.125 + 0.75 + 3.5) / 10], abs=1e-12)


def test_corner_auc_by_hand() -> None:
    assert corner_auc([0.0, 0.0]) == [1.0, 1.0, 1.0]
    # 5 px is below neither 3 nor 5; a triangle up to 5, then full recall up to 10
    assert corner_auc([5.0]) == pytest.approx([0, 0, (5 / 2 + 5) / 10], abs=1e-12)
    # half of the pairs at 1 px: (0, 0) (1, 1/2), constant from there
    assert corner_auc([math.inf, 1.0]) == pytest.approx([(0.25 + 1) / 3, (0.25 + 2) / 5, (0.25 + 4.5) / 10], abs=1e-12)


def test_homography_error_by_hand() -> None:
    H = np.array([[1.1, 0.02, 5.0], [-0.03, 0.9, 8.0], [1e-4, -2e-4, 1.0]])
    shift, zoom = np.eye(3), np.diag([2.0, 2.0, 1.0])
    shift[:2, 2] = 3, 4
    assert homography_error(-3 * H, H.astype(np.float32), (320, 240)) == pytest.approx(0, abs=1e-4)  # any scale
    assert homography_error(shift @ H, H, (320, 240)) == pytest.approx(5)
    corners = (0 + 319 + math.hypot(319, 239) + 239) / 4  # of 320 x 240 px, as a zoom by 2 moves them
    assert homography_error(zoom, np.eye(3), (320, 240)) == pytest.approx(corners)
    assert homography_error(None, H, (320, 240)) == math.inf


def test_no_pose_is_infinitely_wrong_and_the_sign_of_a_baseline_does_not_count() -> None:
    assert pose_error_degrees(None, np.eye(4)) == math.inf
    T = motion(np.random.default_rng(2))
    flipped = Pose(T[:3, :3], -T[:3, 3], np.ones(5, bool))
    assert pose_error_degrees(flipped, T) == pytest.approx(0, abs=1e-6)


def test_reprojection_counts_px_of_the_image_as_given() -> None:
    points = np.array([[10.0, 20.0], [0.0, 0.0]], np.float32)
    shifted = replace(prediction(points, (3.0, 3.0)), scale1=np.array([2.0, 1.5], np.float32))
    H = np.eye(3)
    H[:2, 2] = 3, 4  # resized px, hence 6 and 6 px of image 1
    assert reprojection_errors(replace(shifted, homography=H)) == pytest.approx(math.sqrt(72))
    with pytest.raises(ValueError, match="no homography"):
        reprojection_errors(shifted)


def test_share_below_counts_and_takes_none_for_zero() -> None:
    assert share_below(np.array([1e-5, 2e-4, 1e-4, 1.0]), 1e-4) == 0.25
    assert share_below(np.zeros(0), 1e-4) == 0.0


def prediction(points: np.ndarray, scale: tuple[float, float]) -> PairPrediction:
    K = np.array([[300.0, 0, 159.5], [0, 310, 119.5], [0, 0, 1]], np.float32)
    size = (320, 240)
    ones, scales = np.ones(len(points), np.float32), np.array(scale, np.float32)
    T = np.eye(4, dtype=np.float32)
    return PairPrediction(("a", "b"), (size, size), points, points, ones, ones, K, K, scales, np.ones(2, "f4"), T)


@pytest.mark.parametrize("frame", ["edge", "lineage"])
def test_frame_and_unit_of_matches(frame: str) -> None:
    points = np.array([[10.0, 20.0], [0.0, 0.0]], np.float32)
    result = posed_matches(prediction(points, (2.0, 3.0)), frame, "image")  # type: ignore[arg-type]
    expected = [[20.5, 61.0], [0.5, 1.0]] if frame == "edge" else [[20, 60], [0, 0]]
    assert result.points0 == pytest.approx(np.array(expected))
    assert result.points1 == pytest.approx(points)
    small = posed_matches(prediction(points, (2.0, 3.0)), frame, "resized")  # type: ignore[arg-type]
    assert small.points0 == pytest.approx(np.array(expected) / (2, 3))
    assert np.allclose(small.K0, [[300, 0, 319.5 / 2], [0, 310, 359.5 / 3], [0, 0, 1]])
    with pytest.raises(S2LDError, match=r"EVAL\.THRESHOLD_UNIT"):
        posed_matches(prediction(points, (2.0, 3.0)), frame, "feet")  # type: ignore[arg-type]
    # the camera is that of the photograph, whose centre (640 x 720 px) is at 319.5, 359.5
    assert np.allclose(result.K0, [[600, 0, 319.5], [0, 930, 359.5], [0, 0, 1]])


def test_endpoint_errors_by_hand() -> None:
    truth = PairTruth(
        np.array([[3.0, 4.0], [1.0, 1.0], [9.0, 9.0]], np.float32),
        np.array([True, True, False]),
        np.array([True, False, False]),
        np.zeros(0, np.float32),
    )
    errors = endpoint_errors(np.zeros((3, 2), np.float32), truth)
    assert errors.tolist() == [5.0, math.inf]  # known and visible, known and hidden; the unknown one says nothing
