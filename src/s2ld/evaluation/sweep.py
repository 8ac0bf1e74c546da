"""Pose AUC over the estimators' thresholds: how much a number owes to the threshold that it was measured at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.figure import Figure

from s2ld.errors import S2LDError
from s2ld.evaluation.evaluate import evaluate
from s2ld.evaluation.metrics import AUC_THRESHOLDS
from s2ld.evaluation.predictions.cache import PairPrediction
from s2ld.evaluation.protocol import EvaluationSettings
from s2ld.evaluation.report.tables import align
from s2ld.viz.curves import draw_shares


@dataclass(frozen=True)
class Sweep:
    """Areas of each estimator at each threshold."""

    thresholds: tuple[float, ...]
    """Px of the protocol's unit, ascending."""
    areas: dict[str, tuple[tuple[float, ...], ...]]
    """By estimator, by threshold, by `AUC_THRESHOLDS`; per cent, means over repeats."""


def sweep_thresholds(
    predictions: Iterable[PairPrediction],
    settings: EvaluationSettings,
    thresholds: Sequence[float],
    total: int | None = None,
    jobs: int = 1,
) -> Sweep:
    """Measure the pose AUC of each estimator of the settings at each threshold (px of the settings' unit).

    Args:
        predictions: of at least one pair, e.g. `read_cache`.
        settings: of the benchmark; everything but the thresholds is kept.
        thresholds: above 0.
        total: number of pairs, for the progress bar.
        jobs: processes.

    Raises:
        S2LDError: a threshold is not above 0; no pair has a true pose; what `evaluate` says.
    """
    ascending = tuple(sorted(set(thresholds)))
    if not ascending or ascending[0] <= 0:
        raise S2LDError(f"a sweep needs thresholds above 0 px, not {list(thresholds)}")
    names = {(one.name, px): f"{one.name} at {px:g} px" for one in settings.estimators for px in ascending}
    estimators = tuple(
        replace(one, threshold=px, name=names[one.name, px])  # type: ignore[type-var]  # every estimator is a dataclass
        for one in settings.estimators
        for px in ascending
    )
    varied = replace(settings, estimators=estimators, resamples=0)
    numbers = evaluate((replace(p, truth=None, homography=None) for p in predictions), varied, total, jobs).numbers
    if not any(name.endswith("/failed") for name in numbers):
        raise S2LDError("no pair has a true pose, so that there is nothing to sweep; leave --sweep out")
    return Sweep(
        ascending,
        {
            one.name: tuple(
                tuple(numbers[f"{names[one.name, px]}/auc@{angle:g}"] for angle in AUC_THRESHOLDS) for px in ascending
            )
            for one in settings.estimators
        },
    )


def sweep_table(sweep: Sweep) -> str:
    """Return the areas as a table for the terminal, a line for each estimator and threshold."""
    rows = [["sweep", "px", *(f"AUC@{angle:g}" for angle in AUC_THRESHOLDS)]]
    for name, by_threshold in sweep.areas.items():
        for px, areas in zip(sweep.thresholds, by_threshold, strict=True):
            rows.append([name, f"{px:g}", *(f"{area:.2f}" for area in areas)])
    return "\n".join(align(rows))


def draw_sweep(sweep: Sweep, title: str = "") -> Figure:
    """Draw the areas over the threshold, a line for each estimator and angle."""
    lines = {
        f"{name}: AUC@{angle:g}": np.array([areas[i] for areas in by_threshold]) / 100
        for name, by_threshold in sweep.areas.items()
        for i, angle in enumerate(AUC_THRESHOLDS)
    }
    label, strokes = "threshold of the estimator, px", ("-", "--", ":")
    return draw_shares(np.array(sweep.thresholds), lines, label, title, "AUC, %", strokes)
