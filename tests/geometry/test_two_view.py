"""Homography, fundamental and essential matrix from matches of which a quarter is wrong."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.geometry.two_view import KINDS, TwoView
from s2ld.types import FloatArray, Matches

K = np.array([[800.0, 0.0, 320.0], [0.0, 820.0, 240.0], [0.0, 0.0, 1.0]])
WRONG = 100


def matches_of(points0: FloatArray, points1: FloatArray) -> Matches:
    one = np.ones(len(points0), np.float32)
    return Matches(points0.astype(np.float32), points1.astype(np.float32), one, one)


def project(points: FloatArray) -> FloatArray:
    return np.asarray((points @ K.T)[:, :2] / points[:, 2:])


def spoil(points: FloatArray) -> FloatArray:
    spoilt = points.copy()
    spoilt[:WRONG] += np.random.default_rng(1).uniform(20, 90, (WRONG, 2))
    return spoilt


def check(found: TwoView, expected: FloatArray) -> None:
    assert found.matrix is not None
    a, b = found.matrix / np.linalg.norm(found.matrix), expected / np.linalg.norm(expected)
    assert min(np.abs(a - b).max(), np.abs(a + b).max()) < 1e-3
    assert found.inliers[WRONG:].all()
    assert found.inliers[:WRONG].mean() < 0.1


def test_homography() -> None:
    points = np.random.default_rng(0).uniform(0, 500, (400, 2))
    H = np.array([[1.1, 0.1, 5.0], [0.0, 0.9, 3.0], [1e-4, 0.0, 1.0]])
    mapped = np.c_[points, np.ones(400)] @ H.T
    check(matches_of(points, spoil(mapped[:, :2] / mapped[:, 2:])).estimate("homography"), H)


@pytest.fixture(scope="module")
def two_views() -> tuple[Matches, FloatArray, FloatArray, FloatArray]:
    """Matches of a scene, rotation and direction of the second camera, and the essential matrix."""
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-2, 2, (400, 2)), rng.uniform(4, 8, 400)]
    R, t = cv2.Rodrigues(np.array([0.02, 0.3, 0.01]))[0], np.array([1.0, 0.1, 0.0])
    skew = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    matches = matches_of(project(points), spoil(project(points @ R.T + t)))
    return matches, R, t / np.linalg.norm(t), skew @ R


def test_essential_matrix_and_pose(two_views: tuple[Matches, FloatArray, FloatArray, FloatArray]) -> None:
    pytest.importorskip("poselib")
    matches, R, t, E = two_views
    found = matches.estimate("essential", 1.0, K)
    check(found, E)
    assert found.pose is not None
    assert np.allclose(found.pose.R, R, atol=1e-3)
    assert np.allclose(found.pose.t / np.linalg.norm(found.pose.t), t, atol=1e-3)
    assert repr(found) == f"TwoView(essential, {int(found.inliers.sum())} of 400 inliers)"
    other = matches.estimate("essential", 1.0, K, K @ np.diag([2.0, 2.0, 1.0]))
    assert other.inliers.sum() < found.inliers.sum()


def test_fundamental_matrix(two_views: tuple[Matches, FloatArray, FloatArray, FloatArray]) -> None:
    matches, _, _, E = two_views
    inverse = np.linalg.inv(K)
    check(matches.estimate("fundamental", 1.0), inverse.T @ E @ inverse)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 3, 40])
def test_where_there_is_no_model(kind: Any, count: int) -> None:
    """Too few matches, or all at one place."""
    if kind == "essential":
        pytest.importorskip("poselib")
    found = matches_of(np.zeros((count, 2)), np.zeros((count, 2))).estimate(kind, 1.0, K)
    assert found.inliers.shape == (count,)
    if count < 4:
        assert found.matrix is None
        assert repr(found) == f"TwoView({kind}, none found)"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("affine",), "no model 'affine'; use homography, fundamental, essential"),
        (("homography", 0.0), "must be positive"),
        (("homography", float("nan")), "must be positive"),
        (("essential",), "needs the intrinsics K0"),
        (("essential", 1.0, np.eye(2)), r"intrinsics are \(3, 3\)"),
        (("essential", 1.0, -K), "positive focal lengths"),
    ],
)
def test_what_makes_no_estimate_is_said(arguments: Any, words: str) -> None:
    with pytest.raises(S2LDError, match=words):
        matches_of(np.zeros((9, 2)), np.zeros((9, 2))).estimate(*arguments)


def test_a_missing_estimator_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2ld.extras.is_there", lambda module: False)
    with pytest.raises(S2LDError, match=r'poselib is missing: pip install "s2ld\[demo\]"'):
        matches_of(np.zeros((9, 2)), np.zeros((9, 2))).estimate("essential", 1.0, K)
