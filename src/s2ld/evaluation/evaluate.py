"""Second step of an evaluation: scores of the predictions in a cache."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from s2ld.errors import S2LDError
from s2ld.evaluation.cache import PairPrediction
from s2ld.evaluation.estimators import HomographyRansac, PoseEstimator
from s2ld.evaluation.metrics import (
    AUC_THRESHOLDS,
    CORNER_THRESHOLDS,
    ENDPOINT_THRESHOLDS,
    PRECISION_THRESHOLDS,
    REPEATABILITY_RADIUS,
    ThresholdUnit,
    corner_auc,
    endpoint_errors,
    epipolar_distances,
    homography_error,
    pose_auc,
    pose_error_degrees,
    posed_matches,
    share_below,
)
from s2ld.geometry.camera import PixelFrame
from s2ld.types import FloatArray

HOMOGRAPHY = HomographyRansac()
"""The protocol of LoFTR."""


@dataclass(frozen=True)
class PairScores:
    """Scores of one pair."""

    names: tuple[str, str]
    matches: int
    pose_errors: dict[str, float]
    """By estimator: degrees, infinite without a pose."""
    precisions: tuple[float, ...]
    """By `PRECISION_THRESHOLDS`, in [0, 1]; 0 without a match."""
    endpoint: FloatArray | None
    """End-point errors of the matches with known depth (`endpoint_errors`), resized px; None without depth."""
    repeatability: float | None
    """Share in [0, 1]; None without depth or without a keypoint that is visible in both images."""
    corner_error: float | None
    """Of the estimated homography (`homography_error`), infinite without one; None unless the pair shows one plane."""


@dataclass(frozen=True)
class PoseScores:
    """Scores of one estimator over all pairs."""

    auc: tuple[float, ...]
    """By `AUC_THRESHOLDS`, in [0, 1]."""
    failed: float
    """Share of pairs without a pose."""


@dataclass(frozen=True)
class EndpointScores:
    """Scores against depth, over all matches whose depth is known."""

    median: float
    """Resized px, of the matches whose true place is visible; NaN when there is none."""
    mean: float
    within: tuple[float, ...]
    """By `ENDPOINT_THRESHOLDS`: share of the matches with known depth that are so near, in [0, 1]."""
    repeatability: float
    """Mean over pairs; NaN when no pair has one."""


@dataclass(frozen=True)
class CornerScores:
    """Scores of the estimated homographies, over the pairs of one plane."""

    auc: tuple[float, ...]
    """By `CORNER_THRESHOLDS`, in [0, 1]."""
    failed: float
    """Share of pairs without a homography."""


@dataclass(frozen=True)
class Scores:
    """Scores over all pairs."""

    pairs: tuple[PairScores, ...]
    poses: dict[str, PoseScores]
    """By estimator."""
    precisions: tuple[float, ...]
    """Mean over pairs, by `PRECISION_THRESHOLDS`."""
    matches: float
    """Mean number a pair."""
    endpoint: EndpointScores | None
    """None where no pair has depth."""
    corners: CornerScores | None
    """None where no pair shows one plane."""


def evaluate(
    predictions: Iterable[PairPrediction],
    estimators: Sequence[PoseEstimator],
    frame: PixelFrame,
    unit: ThresholdUnit,
    seed: int,
    total: int | None = None,
    homography: HomographyRansac = HOMOGRAPHY,
) -> Scores:
    """Score predictions.

    Args:
        predictions: of at least one pair, e.g. `read_cache`.
        estimators: of the pose.
        frame: how points go from resized to image px.
        unit: of the estimators' thresholds.
        seed: of the estimators, the same for each pair.
        total: number of pairs, for the progress bar.
        homography: estimator for pairs of one plane, in resized px whatever the unit.

    Raises:
        S2LDError: there is no prediction.
    """
    progress = tqdm(predictions, desc="evaluate", unit="pair", total=total)
    pairs = tuple(evaluate_pair(prediction, estimators, frame, unit, seed, homography) for prediction in progress)
    if not pairs:
        raise S2LDError("there is no pair to evaluate; let the data source or --limit give at least one")
    poses = {}
    for estimator in estimators:
        errors = [pair.pose_errors[estimator.name] for pair in pairs]
        poses[estimator.name] = PoseScores(tuple(pose_auc(errors)), float(np.mean(np.isinf(errors))))
    precisions = np.mean([pair.precisions for pair in pairs], axis=0)
    return Scores(
        pairs,
        poses,
        tuple(float(value) for value in precisions),
        float(np.mean([pair.matches for pair in pairs])),
        _endpoint_scores(pairs),
        _corner_scores(pairs),
    )


def evaluate_pair(
    prediction: PairPrediction,
    estimators: Sequence[PoseEstimator],
    frame: PixelFrame,
    unit: ThresholdUnit,
    seed: int,
    homography: HomographyRansac = HOMOGRAPHY,
) -> PairScores:
    """Score one pair; arguments as in `evaluate`."""
    matches = posed_matches(prediction, frame, unit)
    distances = epipolar_distances(matches, prediction.T_0to1)
    errors = {
        estimator.name: pose_error_degrees(
            estimator(matches.points0, matches.points1, matches.K0, matches.K1, seed), prediction.T_0to1
        )
        for estimator in estimators
    }
    endpoint, repeatability = None, None
    if prediction.truth is not None:
        endpoint = endpoint_errors(prediction.points1, prediction.truth)
        nearest = prediction.truth.keypoint_distance
        repeatability = share_below(nearest, REPEATABILITY_RADIUS) if len(nearest) else None
    corner = None
    if prediction.homography is not None:
        estimate = homography(prediction.points0, prediction.points1, seed)
        corner = homography_error(estimate, prediction.homography, prediction.sizes[0])
    return PairScores(
        prediction.names,
        len(distances),
        errors,
        tuple(share_below(distances, threshold) for threshold in PRECISION_THRESHOLDS),
        endpoint,
        repeatability,
        corner,
    )


def _endpoint_scores(pairs: Sequence[PairScores]) -> EndpointScores | None:
    errors = [pair.endpoint for pair in pairs if pair.endpoint is not None]
    if not errors:
        return None
    pooled = np.concatenate(errors)
    visible = pooled[np.isfinite(pooled)]
    repeatabilities = [pair.repeatability for pair in pairs if pair.repeatability is not None]
    return EndpointScores(
        float(np.median(visible)) if len(visible) else math.nan,
        float(np.mean(visible)) if len(visible) else math.nan,
        tuple(share_below(pooled, threshold) for threshold in ENDPOINT_THRESHOLDS),
        float(np.mean(repeatabilities)) if repeatabilities else math.nan,
    )


def _corner_scores(pairs: Sequence[PairScores]) -> CornerScores | None:
    errors = [pair.corner_error for pair in pairs if pair.corner_error is not None]
    return CornerScores(tuple(corner_auc(errors)), float(np.mean(np.isinf(errors)))) if errors else None


def as_numbers(scores: Scores) -> dict[str, float]:
    """Return the scores over all pairs as named numbers: shares and areas in per cent, the rest in its unit.

    Names: ``pairs``, ``matches``, ``precision@1e-4``, ``ESTIMATOR/auc@5``, ``ESTIMATOR/failed`` ..., and with depth
    ``endpoint/median_px``, ``endpoint/mean_px``, ``endpoint/within_1px`` ..., ``endpoint/repeatability``, and with
    pairs of one plane ``corner/auc@3px`` ..., ``corner/no_homography``.
    """
    numbers: dict[str, float] = {"pairs": len(scores.pairs), "matches": scores.matches}
    for threshold, value in zip(PRECISION_THRESHOLDS, scores.precisions, strict=True):
        numbers[f"precision@{threshold_name(threshold)}"] = 100 * value
    for name, pose in scores.poses.items():
        for threshold, value in zip(AUC_THRESHOLDS, pose.auc, strict=True):
            numbers[f"{name}/auc@{threshold:g}"] = 100 * value
        numbers[f"{name}/failed"] = 100 * pose.failed
    if scores.endpoint is not None:
        numbers["endpoint/median_px"] = scores.endpoint.median
        numbers["endpoint/mean_px"] = scores.endpoint.mean
        for threshold, value in zip(ENDPOINT_THRESHOLDS, scores.endpoint.within, strict=True):
            numbers[f"endpoint/within_{threshold:g}px"] = 100 * value
        numbers["endpoint/repeatability"] = 100 * scores.endpoint.repeatability
    if scores.corners is not None:
        for threshold, value in zip(CORNER_THRESHOLDS, scores.corners.auc, strict=True):
            numbers[f"corner/auc@{threshold:g}px"] = 100 * value
        numbers["corner/no_homography"] = 100 * scores.corners.failed
    return numbers


def threshold_name(threshold: float) -> str:
    """Return "5e-4" for 0.0005."""
    mantissa, exponent = f"{threshold:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
