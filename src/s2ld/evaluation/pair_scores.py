"""Scores of one pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s2ld.evaluation.metrics import (
    MMA_THRESHOLDS,
    PRECISION_THRESHOLDS,
    REPEATABILITY_RADIUS,
    endpoint_errors,
    epipolar_distances,
    has_pose,
    homography_error,
    pose_error_degrees,
    posed_matches,
    reprojection_errors,
    share_below,
)
from s2ld.evaluation.predictions.cache import PairPrediction
from s2ld.evaluation.protocol import EvaluationSettings
from s2ld.types import FloatArray


@dataclass(frozen=True)
class PoseOutcome:
    """What one estimator made of one pair, by repeat."""

    errors: tuple[float, ...]
    """Degrees, infinite without a pose."""
    inliers: tuple[int, ...]
    """Matches that it kept, 0 without a pose."""

    @property
    def error(self) -> float:
        """The median over repeats, degrees."""
        return float(np.median(self.errors))


@dataclass(frozen=True)
class PairScores:
    """Scores of one pair; shares are in [0, 1], and 0 where there is no match."""

    names: tuple[str, str]
    source: str
    matches: int
    poses: dict[str, PoseOutcome] | None
    """By estimator; None where the true pose is not known."""
    precisions: tuple[float, ...] | None
    """By `PRECISION_THRESHOLDS`; None where the true pose is not known."""
    endpoint: FloatArray | None
    """End-point errors of the matches with known depth (`endpoint_errors`), resized px; None without depth."""
    repeatability: float | None
    """None without depth or without a keypoint that is visible in both images."""
    corner_errors: tuple[float, ...] | None
    """By repeat, of the estimated homography (`homography_error`), infinite without one; None unless the pair shows one
    plane."""
    mma: tuple[float, ...] | None
    """By `MMA_THRESHOLDS`; None unless the pair shows one plane."""

    @property
    def corner_error(self) -> float | None:
        """The median over repeats, resized px."""
        return None if self.corner_errors is None else float(np.median(self.corner_errors))


def evaluate_pair(prediction: PairPrediction, settings: EvaluationSettings) -> PairScores:
    """Score one pair.

    Args:
        prediction: of a matcher.
        settings: of the benchmark; repeat r of an estimator gets the seed of the settings + r.

    Raises:
        S2LDError: unknown pixel frame or unit of thresholds.
    """
    poses, precisions = _by_pose(prediction, settings) if has_pose(prediction) else (None, None)
    endpoint, repeatability, corners, mma = None, None, None, None
    if prediction.truth is not None:
        endpoint = endpoint_errors(prediction.points1, prediction.truth)
        nearest = prediction.truth.keypoint_distance
        repeatability = share_below(nearest, REPEATABILITY_RADIUS) if len(nearest) else None
    if prediction.homography is not None:
        estimates = (settings.homography(prediction.points0, prediction.points1, seed) for seed in settings.seeds)
        corners = tuple(homography_error(H, prediction.homography, prediction.sizes[0]) for H in estimates)
        distances = reprojection_errors(prediction)
        mma = tuple(share_below(distances, threshold) for threshold in MMA_THRESHOLDS)
    return PairScores(
        prediction.names,
        prediction.source,
        len(prediction.points0),
        poses,
        precisions,
        endpoint,
        repeatability,
        corners,
        mma,
    )


def _by_pose(
    prediction: PairPrediction, settings: EvaluationSettings
) -> tuple[dict[str, PoseOutcome], tuple[float, ...]]:
    matches = posed_matches(prediction, settings.frame, settings.unit)
    outcomes = {}
    for estimator in settings.estimators:
        poses = [estimator(matches.points0, matches.points1, matches.K0, matches.K1, seed) for seed in settings.seeds]
        errors = tuple(pose_error_degrees(pose, prediction.T_0to1) for pose in poses)
        kept = tuple(0 if pose is None else int(pose.inliers.sum()) for pose in poses)
        outcomes[estimator.name] = PoseOutcome(errors, kept)
    distances = epipolar_distances(matches, prediction.T_0to1)
    return outcomes, tuple(share_below(distances, threshold) for threshold in PRECISION_THRESHOLDS)
