"""Homography and essential matrix from matches of which a quarter is wrong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from s2ld.cli.match.two_view import TwoView, estimate_essential, estimate_homography
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
    check(estimate_homography(matches_of(points, spoil(mapped[:, :2] / mapped[:, 2:])), 2.0), H)


def test_essential_matrix() -> None:
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-2, 2, (400, 2)), rng.uniform(4, 8, 400)]
    R, t = cv2.Rodrigues(np.array([0.02, 0.3, 0.01]))[0], np.array([1.0, 0.1, 0.0])
    skew = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    matches = matches_of(project(points), spoil(project(points @ R.T + t)))
    check(estimate_essential(matches, K, K, 1.0), skew @ R)


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_matches_give_no_model(count: int) -> None:
    matches = matches_of(np.zeros((count, 2)), np.zeros((count, 2)))
    for found in (estimate_homography(matches, 1.0), estimate_essential(matches, K, K, 1.0)):
        assert found.matrix is None
        assert found.inliers.shape == (count,)
