"""Second step of an evaluation: scores of the predictions in a cache."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from s2ld.errors import S2LDError
from s2ld.evaluation.intervals import Bootstrap
from s2ld.evaluation.metrics import (
    AUC_THRESHOLDS,
    CORNER_THRESHOLDS,
    ENDPOINT_THRESHOLDS,
    MMA_THRESHOLDS,
    PRECISION_THRESHOLDS,
    pose_auc,
    share_below,
)
from s2ld.evaluation.pair_scores import PairScores, evaluate_pair
from s2ld.evaluation.predictions.cache import PairPrediction
from s2ld.evaluation.predictions.parallel import ordered_map
from s2ld.evaluation.protocol import EvaluationSettings
from s2ld.log import Progress
from s2ld.types import FloatArray

LOW, HIGH, SPREAD = "/low", "/high", "/spread"
"""After the name of a number: the ends of its 95 % interval, and its standard deviation over repeats."""
KINDS = ("illumination", "viewpoint")
"""Of pairs of one plane (HPatches), as the end of the name of their source: MMA is told for each."""
LINEAGE_PRECISION, LINEAGE_THRESHOLD = "MMA@5E-4", 5e-4
"""What the paper's table calls the precision at this squared epipolar distance, one of `PRECISION_THRESHOLDS`."""


@dataclass(frozen=True)
class Scores:
    """Scores of each pair and over all pairs."""

    pairs: tuple[PairScores, ...]
    numbers: dict[str, float]
    """See `summarise`."""


def evaluate(
    predictions: Iterable[PairPrediction], settings: EvaluationSettings, total: int | None = None, jobs: int = 1
) -> Scores:
    """Score predictions.

    Args:
        predictions: of at least one pair, e.g. `read_cache`.
        settings: of the benchmark.
        total: number of pairs, for the progress bar.
        jobs: processes; the numbers do not depend on it.

    Raises:
        S2LDError: there is no prediction, or a process was killed.
    """
    scored = ordered_map(partial(evaluate_pair, settings=settings), predictions, jobs)
    pairs = tuple(Progress(scored, desc="evaluate", unit="pair", total=total))
    if not pairs:
        raise S2LDError("there is no pair to evaluate; let the data source or --limit give at least one")
    return Scores(pairs, summarise(pairs, settings))


def summarise(pairs: Sequence[PairScores], settings: EvaluationSettings) -> dict[str, float]:
    """Return the scores over all pairs as named numbers: shares and areas in per cent, the rest in its unit.

    Names: ``pairs``, ``matches``; of pairs with a true pose ``precision@1e-4``, ``ESTIMATOR/auc@5``,
    ``ESTIMATOR/failed``, ``ESTIMATOR/inliers``, ``ESTIMATOR/inlier_ratio`` ...; with depth ``endpoint/median_px``,
    ``endpoint/mean_px``, ``endpoint/within_1px`` ..., ``endpoint/repeatability``; of pairs of one plane
    ``corner/auc@3px`` ..., ``corner/no_homography``, ``mma@1px`` ..., ``mma/viewpoint@1px`` .... What is absent from
    all pairs is absent here. Areas and failures are means over repeats; `LOW`, `HIGH` and `SPREAD` go after a name.
    """
    bootstrap = Bootstrap(settings.resamples, settings.seed)
    numbers = {"pairs": float(len(pairs)), **_mean("matches", [pair.matches for pair in pairs], bootstrap)}
    numbers |= _pose_numbers(pairs, bootstrap)
    numbers |= _endpoint_numbers(pairs)
    return numbers | _plane_numbers(pairs, bootstrap)


def _pose_numbers(pairs: Sequence[PairScores], bootstrap: Bootstrap) -> dict[str, float]:
    posed = [(pair, pair.poses, pair.precisions) for pair in pairs if pair.poses is not None and pair.precisions]
    if not posed:
        return {}
    numbers = {"pairs_with_pose": float(len(posed))} if len(posed) < len(pairs) else {}
    for i, threshold in enumerate(PRECISION_THRESHOLDS):
        shares = [100 * precisions[i] for _, _, precisions in posed]
        numbers |= _mean(f"precision@{threshold_name(threshold)}", shares, bootstrap)
        if threshold == LINEAGE_THRESHOLD:
            numbers |= _mean(LINEAGE_PRECISION, shares, bootstrap)
    for name in posed[0][1]:
        outcomes = [poses[name] for _, poses, _ in posed]
        errors = np.array([outcome.errors for outcome in outcomes]).T
        numbers |= _areas(f"{name}/auc@", "", errors, AUC_THRESHOLDS, bootstrap)
        numbers[f"{name}/failed"] = 100 * float(np.mean(np.isinf(errors)))
        inliers = np.array([outcome.inliers for outcome in outcomes])
        matches = np.array([[max(pair.matches, 1)] for pair, _, _ in posed])
        numbers[f"{name}/inliers"] = float(np.mean(inliers))
        numbers[f"{name}/inlier_ratio"] = 100 * float(np.mean(inliers / matches))
    return numbers


def _endpoint_numbers(pairs: Sequence[PairScores]) -> dict[str, float]:
    errors = [pair.endpoint for pair in pairs if pair.endpoint is not None]
    if not errors:
        return {}
    pooled = np.concatenate(errors)
    visible = pooled[np.isfinite(pooled)]
    repeatabilities = [pair.repeatability for pair in pairs if pair.repeatability is not None]
    numbers = {
        "endpoint/median_px": float(np.median(visible)) if len(visible) else math.nan,
        "endpoint/mean_px": float(np.mean(visible)) if len(visible) else math.nan,
    }
    for threshold in ENDPOINT_THRESHOLDS:
        numbers[f"endpoint/within_{threshold:g}px"] = 100 * share_below(pooled, threshold)
    numbers["endpoint/repeatability"] = 100 * float(np.mean(repeatabilities)) if repeatabilities else math.nan
    return numbers


def _plane_numbers(pairs: Sequence[PairScores], bootstrap: Bootstrap) -> dict[str, float]:
    planes = [(pair.source, pair.corner_errors, pair.mma) for pair in pairs if pair.corner_errors and pair.mma]
    if not planes:
        return {}
    errors = np.array([corners for _, corners, _ in planes]).T
    numbers = _areas("corner/auc@", "px", errors, CORNER_THRESHOLDS, bootstrap)
    numbers["corner/no_homography"] = 100 * float(np.mean(np.isinf(errors)))
    for kind in ("", *KINDS):
        curves = [mma for source, _, mma in planes if source.endswith(kind)]
        for i, threshold in enumerate(MMA_THRESHOLDS if curves else ()):
            name = f"mma/{kind}" if kind else "mma"
            numbers |= _mean(f"{name}@{threshold:g}px", [100 * curve[i] for curve in curves], bootstrap)
    return numbers


def _mean(name: str, values: Sequence[float], bootstrap: Bootstrap) -> dict[str, float]:
    numbers = {name: float(np.mean(values))}
    if bootstrap.resamples:
        numbers[f"{name}{LOW}"], numbers[f"{name}{HIGH}"] = bootstrap.of_mean(values)
    return numbers


def _areas(
    prefix: str, suffix: str, errors: FloatArray, thresholds: Sequence[float], bootstrap: Bootstrap
) -> dict[str, float]:
    """Return the areas of `errors` (R, n), in per cent, as means over the R repeats."""
    numbers: dict[str, float] = {}
    for threshold in thresholds:
        name = f"{prefix}{threshold:g}{suffix}"
        areas = [100 * pose_auc(repeat, [threshold])[0] for repeat in errors]
        numbers[name] = float(np.mean(areas))
        if len(areas) > 1:
            numbers[f"{name}{SPREAD}"] = float(np.std(areas, ddof=1))
        if bootstrap.resamples:
            low, high = bootstrap.of_areas(errors, threshold)
            numbers[f"{name}{LOW}"], numbers[f"{name}{HIGH}"] = 100 * low, 100 * high
    return numbers


def threshold_name(threshold: float) -> str:
    """Return "5e-4" for 0.0005."""
    mantissa, exponent = f"{threshold:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
