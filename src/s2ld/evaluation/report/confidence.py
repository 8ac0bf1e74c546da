"""What the confidence of a match tells of its being right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from s2ld.errors import S2LDError
from s2ld.evaluation.match_errors import EPIPOLAR, REPROJECTION, error_kind, match_errors
from s2ld.evaluation.predictions.cache import PairPrediction
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
    precisions: Mapping[str, FloatArray]
    """By the name of a threshold (`ErrorKind`): (Q,) share of the kept matches whose error is below, in [0, 1]."""


def precision_curve(predictions: Iterable[PairPrediction]) -> PrecisionCurve:
    """Measure precision against confidence, at thresholds that keep evenly spread shares of the matches.

    Over the pairs with a pose (`EPIPOLAR`) or, where no pair has one, over those of one plane (`REPROJECTION`).

    Raises:
        S2LDError: there is no match at all, or nothing is known to measure them by.
    """
    measured: dict[str, list[tuple[FloatArray, FloatArray]]] = {EPIPOLAR.label: [], REPROJECTION.label: []}
    for prediction in predictions:
        if (kind := error_kind(prediction)) is not None and len(prediction.points0):
            measured[kind.label].append((prediction.confidence, match_errors(prediction, kind)))
    kind = EPIPOLAR if measured[EPIPOLAR.label] else REPROJECTION
    if not measured[kind.label]:
        raise S2LDError("there is no match to measure; lower MODEL.MATCH.THRESHOLD and predict again")
    confidence, error = (np.concatenate(arrays) for arrays in zip(*measured[kind.label], strict=True))
    total, order = len(confidence), np.argsort(confidence)
    ascending = confidence[order]
    thresholds = np.unique(ascending[total * np.arange(CURVE_POINTS) // CURVE_POINTS])
    first = np.searchsorted(ascending, thresholds)  # equal confidences are kept together
    precisions = {}
    for name, limit in kind.thresholds.items():
        right = np.cumsum((error[order] < limit)[::-1])[::-1]
        precisions[name] = right[first] / (total - first)
    return PrecisionCurve(thresholds, (total - first) / total, precisions)


def draw_precision(curve: PrecisionCurve, title: str = "") -> Figure:
    """Draw precision, and the share of matches that are kept, over the confidence from which they are kept."""
    shares = {**curve.precisions, "matches kept": curve.kept}
    return draw_shares(curve.confidence, shares, "confidence from which matches are kept", title)
