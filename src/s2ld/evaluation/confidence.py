"""What the confidence of a match tells of its being right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from s2ld.errors import S2LDError
from s2ld.evaluation.cache import PairPrediction
from s2ld.evaluation.evaluate import threshold_name
from s2ld.evaluation.metrics import PRECISION_THRESHOLDS, epipolar_distances, posed_matches
from s2ld.types import FloatArray
from s2ld.viz.curves import draw_shares

CURVE_POINTS = 100
"""Of `PrecisionCurve`: its last point still rests on a hundredth of the matches."""


@dataclass(frozen=True)
class PrecisionCurve:
    """How precise those matches are whose confidence reaches a threshold; all pairs pooled."""

    confidence: FloatArray
    """(Q,) the thresholds, ascending."""
    kept: FloatArray
    """(Q,) share of the matches that reach them, in (0, 1]."""
    precisions: tuple[FloatArray, ...]
    """By `PRECISION_THRESHOLDS`: (Q,) share of the kept matches whose epipolar error is below, in [0, 1]."""


def precision_curve(predictions: Iterable[PairPrediction]) -> PrecisionCurve:
    """Measure precision against confidence, at thresholds that keep evenly spread shares of the matches.

    Epipolar errors are measured with pixel edges aligned, whatever the protocol's pixel frame.

    Raises:
        S2LDError: there is no match at all.
    """
    confidences: list[FloatArray] = [np.zeros(0)]
    errors: list[FloatArray] = [np.zeros(0)]
    for prediction in predictions:
        confidences.append(prediction.confidence)
        errors.append(epipolar_distances(posed_matches(prediction, "edge", "resized"), prediction.T_0to1))
    confidence, error = np.concatenate(confidences), np.concatenate(errors)
    total = len(confidence)
    if not total:
        raise S2LDError("there is no match to measure; lower MODEL.MATCH.THRESHOLD and predict again")
    order = np.argsort(confidence)
    ascending = confidence[order]
    thresholds = np.unique(ascending[total * np.arange(CURVE_POINTS) // CURVE_POINTS])
    first = np.searchsorted(ascending, thresholds)  # equal confidences are kept together
    precisions = []
    for limit in PRECISION_THRESHOLDS:
        right = np.cumsum((error[order] < limit)[::-1])[::-1]
        precisions.append(right[first] / (total - first))
    return PrecisionCurve(thresholds, (total - first) / total, tuple(precisions))


def draw_precision(curve: PrecisionCurve, title: str = "") -> Figure:
    """Draw precision, and the share of matches that are kept, over the confidence from which they are kept."""
    named = zip(PRECISION_THRESHOLDS, curve.precisions, strict=True)
    shares = {f"precision@{threshold_name(limit)}": values for limit, values in named}
    shares["matches kept"] = curve.kept
    return draw_shares(curve.confidence, shares, "confidence from which matches are kept", title)
