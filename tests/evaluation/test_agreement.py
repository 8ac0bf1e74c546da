"""The package's measures agree with the slow reference to 1e-6."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import slow_reference as slow

from s2ld.evaluation.evaluate import Scores, evaluate
from s2ld.evaluation.intervals import Bootstrap
from s2ld.evaluation.metrics import (
    AUC_THRESHOLDS,
    CORNER_THRESHOLDS,
    MMA_THRESHOLDS,
    PRECISION_THRESHOLDS,
    epipolar_distances,
    has_pose,
    homography_error,
    pose_auc,
    pose_error_degrees,
    posed_matches,
    reprojection_errors,
    share_below,
)
from s2ld.evaluation.predictions.cache import PairPrediction
from s2ld.evaluation.protocol import EvaluationSettings
from s2ld.geometry.two_view import Pose

NEAR = 1e-6


def rotation(rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Through a unit quaternion."""
    x, y, z = (axis := rng.normal(size=3)) * math.sin(math.radians(degrees) / 2) / np.linalg.norm(axis)
    w = math.cos(math.radians(degrees) / 2)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def motion(rng: np.random.Generator, degrees: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation(rng, degrees), rng.normal(size=3)
    return T


class Replay:
    """An "estimator" whose error is known: it turns the true rotation by what the first point says."""

    name, settings, threshold, confidence = "replay", "none", 0.0, 0.0

    def __init__(self, truth: dict[float, tuple[np.ndarray, np.ndarray] | None]) -> None:
        self._truth = truth

    def __call__(self, points0: np.ndarray, *others: Any) -> Pose | None:
        answer = self._truth[round(float(points0[0, 0]), 3)] if len(points0) else None
        return None if answer is None else Pose(*answer, np.arange(len(points0)) % 2 == 0)


def pair(rng: np.random.Generator, count: int, posed: bool = True, plane: bool = False) -> PairPrediction:
    """Matches that are true but for noise of several sizes, at sizes and cameras that differ between the images."""
    T = motion(rng, rng.uniform(5, 60))
    K0 = np.array([[rng.uniform(300, 500), rng.normal(), 160], [0, rng.uniform(300, 500), 120], [0, 0, 1]])
    K1 = np.array([[rng.uniform(500, 900), 0, 200], [0, rng.uniform(500, 900), 150], [0, 0, 1]])
    H = np.eye(3) + rng.normal(size=(3, 3)) * np.array([[0.1, 0.1, 20], [0.1, 0.1, 20], [1e-4, 1e-4, 0]])
    points0 = rng.uniform(0, 300, (count, 2))
    noise = rng.normal(size=(count, 2)) * 10 ** rng.uniform(-2, 1.5, (count, 1))
    if plane:
        points1 = np.array([slow.mapped(H.tolist(), p) for p in points0.tolist()]).reshape(-1, 2) + noise
    else:
        X = np.array([slow.apply(slow.inverse(K0.tolist()), [*p, 1.0]) for p in points0.tolist()]).reshape(-1, 3)
        X = (X * rng.uniform(3, 9, (count, 1))) @ T[:3, :3].T + T[:3, 3]
        points1 = (X @ K1.T)[:, :2] / X[:, 2:] + noise if count else np.zeros((0, 2))
    ones = np.ones(count, np.float32)
    prediction = PairPrediction(
        ("a", "b"), ((320, 240), (400, 304)), points0.astype("f4"), points1.astype("f4"), ones, ones,
        K0.astype("f4"), K1.astype("f4"), np.array([2.5, 2.25], "f4"), np.array([1.5, 1.625], "f4"),
        T if posed else np.full((4, 4), np.nan),  # float64: rounded rotations are no rotations, and angles ambiguous
    )  # fmt: skip
    return replace(prediction, homography=H.astype("f4")) if plane else prediction


ERRORS = {
    "one": [1.0],
    "one failure": [math.inf],
    "nearly all failures": [math.inf, math.inf, 3.0],
    "exactly at the thresholds": [5.0, 10.0, 20.0, 3.0],
    "just beside": [math.nextafter(5.0, 0), math.nextafter(5.0, 9), math.nextafter(10.0, 0)],
    "ties": [2.0, 2.0, 2.0, 7.0, 7.0, math.inf],
    "zeros": [0.0, 0.0, 7.0],
    "uniform": list(np.random.default_rng(0).uniform(0, 30, 200)),
    "skewed": [*np.random.default_rng(1).exponential(4, 150), *[math.inf] * 9],
}


@pytest.mark.parametrize("errors", ERRORS.values(), ids=ERRORS)
def test_area_under_recall(errors: list[float]) -> None:
    for thresholds in (AUC_THRESHOLDS, CORNER_THRESHOLDS):
        expected = [slow.recall_area(errors, threshold) for threshold in thresholds]
        assert pose_auc(errors, thresholds) == pytest.approx(expected, abs=NEAR)


def test_pose_errors() -> None:
    rng = np.random.default_rng(2)
    for degrees in (0.0, 1e-4, 0.1, 5, 60, 120, 179.9):
        for _ in range(10):
            T, R, t = motion(rng, 30), rotation(rng, degrees), rng.normal(size=3)
            R = R @ T[:3, :3]
            pose = Pose(R, t, np.ones(5, bool))
            assert pose_error_degrees(pose, T) == pytest.approx(slow.pose_error(T.tolist(), R.tolist(), t), abs=NEAR)
    still = np.eye(4)
    for truth, t in ((T, np.zeros(3)), (still, rng.normal(size=3)), (T, -T[:3, 3])):
        pose = Pose(truth[:3, :3], t, np.ones(5, bool))
        expected = slow.pose_error(truth.tolist(), truth[:3, :3].tolist(), t.tolist())
        assert pose_error_degrees(pose, truth) == pytest.approx(expected, abs=NEAR)


@pytest.mark.parametrize("frame", ["edge", "lineage"])
@pytest.mark.parametrize("unit", ["resized", "image"])
def test_epipolar_distances(frame: Any, unit: Any) -> None:
    rng = np.random.default_rng(3)
    prediction = pair(rng, 200)
    fast = epipolar_distances(posed_matches(prediction, frame, unit), prediction.T_0to1)
    assert fast == pytest.approx(slow_distances(prediction, frame), rel=NEAR, abs=NEAR**2)
    none = pair(rng, 0)
    assert epipolar_distances(posed_matches(none, frame, unit), none.T_0to1).shape == (0,)


def slow_distances(prediction: PairPrediction, frame: str) -> list[float]:
    """Between image px, from which the unit of thresholds must not matter."""
    scales = (prediction.scale0.tolist(), prediction.scale1.tolist())
    K0, K1 = (slow.image_intrinsics(K.tolist(), s) for K, s in zip((prediction.K0, prediction.K1), scales, strict=True))
    points = zip(prediction.points0.tolist(), prediction.points1.tolist(), strict=True)
    return [
        slow.epipolar_distance(
            slow.to_image(p0, scales[0], frame), slow.to_image(p1, scales[1], frame), K0, K1, prediction.T_0to1.tolist()
        )
        for p0, p1 in points
    ]


def test_shares_with_values_exactly_at_the_threshold() -> None:
    rng = np.random.default_rng(4)
    for values in ([], [1.0], [1.0, 2.0, 2.0, math.inf], rng.integers(0, 4, 50).astype(float).tolist()):
        for threshold in (0.0, 1.0, 2.0, 3.5):
            assert share_below(np.array(values), threshold) == pytest.approx(slow.share(values, threshold), abs=NEAR)


def test_errors_of_homographies() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        prediction = pair(rng, 40, plane=True)
        assert prediction.homography is not None
        truth = prediction.homography.astype(float)
        H = truth * (1 + 0.01 * rng.normal(size=(3, 3))) * rng.choice([-3.0, 0.2])
        expected = slow.corner_error(H.tolist(), truth.tolist(), 320, 240)
        assert homography_error(H, truth, (320, 240)) == pytest.approx(expected, rel=NEAR, abs=NEAR)
        distances = [
            slow.reprojection_error(truth.tolist(), p0, p1, prediction.scale1.tolist())
            for p0, p1 in zip(prediction.points0.tolist(), prediction.points1.tolist(), strict=True)
        ]
        assert reprojection_errors(prediction) == pytest.approx(distances, rel=NEAR, abs=NEAR)
    assert homography_error(None, truth, (320, 240)) == slow.corner_error(None, truth.tolist(), 320, 240) == math.inf
    assert reprojection_errors(pair(rng, 0, plane=True)).shape == (0,)


@pytest.mark.parametrize("pairs", [1, 2, 37])
def test_bootstrap(pairs: int) -> None:
    rng = np.random.default_rng(6)
    errors = rng.exponential(6, (2, pairs)).round(1)  # ties
    errors[:, ::9] = math.inf
    draws = np.random.default_rng(11).integers(pairs, size=(120, pairs))
    bootstrap = Bootstrap(120, 11)
    for threshold in AUC_THRESHOLDS:

        def area(chosen: list[int], threshold: float = threshold) -> float:
            return slow.mean([slow.recall_area([row[i] for i in chosen], threshold) for row in errors.tolist()])

        assert bootstrap.of_areas(errors, threshold) == pytest.approx(slow.interval(area, draws), abs=NEAR)
    shares = rng.random(pairs).tolist()
    expected = slow.interval(lambda chosen: slow.mean([shares[i] for i in chosen]), draws)
    assert bootstrap.of_mean(shares) == pytest.approx(expected, abs=NEAR)


def test_an_evaluation_from_end_to_end() -> None:
    """Pairs with and without pose, plane and matches; the estimator's poses are known."""
    rng = np.random.default_rng(7)
    pairs = [pair(rng, count, posed, plane) for count, posed, plane in CASES]
    answers: dict[float, tuple[np.ndarray, np.ndarray] | None] = {}
    expected_errors = []
    for number, prediction in enumerate(pairs):
        if not has_pose(prediction):
            continue
        T = prediction.T_0to1.astype(float)
        answer = None if number % 5 == 4 or not len(prediction.points0) else (rotation(rng, 8.0) @ T[:3, :3], T[:3, 3])
        if len(prediction.points0):
            first = posed_matches(prediction, "edge", "resized").points0[0, 0]
            answers[round(float(first), 3)] = answer
        found = math.inf if answer is None else slow.pose_error(T.tolist(), answer[0].tolist(), answer[1].tolist())
        expected_errors.append(found)
    settings = EvaluationSettings((Replay(answers),), resamples=50, seed=3)
    scores = evaluate(pairs, settings)
    draws = np.random.default_rng(3).integers(len(expected_errors), size=(50, len(expected_errors)))
    for angle in AUC_THRESHOLDS:
        check(scores, f"replay/auc@{angle:g}", slow.recall_area(expected_errors, angle))
        low, high = slow.interval(lambda c, a=angle: slow.recall_area([expected_errors[i] for i in c], a), draws)  # type: ignore[misc]
        check(scores, f"replay/auc@{angle:g}/low", low)
        check(scores, f"replay/auc@{angle:g}/high", high)
    posed = [prediction for prediction in pairs if has_pose(prediction)]
    for threshold, name in zip(PRECISION_THRESHOLDS, ("1e-4", "5e-4"), strict=True):
        shares = [slow.share(slow_distances(prediction, "edge"), threshold) for prediction in posed]
        check(scores, f"precision@{name}", slow.mean(shares))
    check(scores, "MMA@5E-4", slow.mean(shares))
    planes = [prediction for prediction in pairs if prediction.homography is not None]
    for px in MMA_THRESHOLDS:
        shares = [slow.share(slow_reprojections(prediction), px) for prediction in planes]
        check(scores, f"mma@{px:g}px", slow.mean(shares))
    inliers = [0 if math.isinf(e) else (len(p.points0) + 1) // 2 for e, p in zip(expected_errors, posed, strict=True)]
    assert scores.numbers["replay/inliers"] == pytest.approx(slow.mean(inliers), abs=NEAR)
    ratios = [count / max(len(prediction.points0), 1) for count, prediction in zip(inliers, posed, strict=True)]
    check(scores, "replay/inlier_ratio", slow.mean(ratios))
    check(scores, "replay/failed", slow.mean([math.isinf(error) for error in expected_errors]))
    assert scores.numbers["pairs"] == len(pairs) > scores.numbers["pairs_with_pose"] == len(posed)


CASES = [(30, True, False)] * 7 + [(25, False, True)] * 4 + [(0, True, False), (0, False, True), (12, True, True)]
"""Matches, known pose, one plane."""


def slow_reprojections(prediction: PairPrediction) -> list[float]:
    assert prediction.homography is not None
    H, scale1 = prediction.homography.tolist(), prediction.scale1.tolist()
    points = zip(prediction.points0.tolist(), prediction.points1.tolist(), strict=True)
    return [slow.reprojection_error(H, p0, p1, scale1) for p0, p1 in points]


def check(scores: Scores, name: str, share: float) -> None:
    """Numbers are in per cent, the reference's in [0, 1]."""
    assert scores.numbers[name] == pytest.approx(100 * share, abs=NEAR), name
