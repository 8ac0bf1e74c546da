"""Whether a confidence is a probability: of matches of confidence p, is the share p right?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from s2ld.evaluation.match_errors import EPIPOLAR, REPROJECTION, error_kind, match_errors
from s2ld.evaluation.predictions.cache import PairPrediction
from s2ld.types import FloatArray
from s2ld.viz.curves import draw_against_diagonal

BINS = 15
RIGHT_PX = 3.0  # resized px (REPROJECTION: px of image 1 as given)
_TRUTH = f"within {RIGHT_PX:g} px of the warped keypoint"
_LIMITS = {EPIPOLAR.label: 1e-4, REPROJECTION.label: RIGHT_PX}
_MEANINGS = {
    _TRUTH: _TRUTH,
    EPIPOLAR.label: "squared epipolar distance below 1e-4",
    REPROJECTION.label: f"reprojection error below {RIGHT_PX:g} px",
}


@dataclass(frozen=True)
class Reliability:
    """Confidence and share of right matches in bins of equal width over [0, 1]; empty bins are left out."""

    confidence: FloatArray
    """(B,) mean in the bin, ascending."""
    right: FloatArray
    """(B,) share of right ones, in [0, 1]."""
    share: FloatArray
    """(B,) share of all matches that are in the bin."""
    meaning: str = ""
    """What counts as right."""

    @property
    def error(self) -> float:
        """The expected calibration error (Naeini et al., AAAI 2015), in [0, 1]: mean gap, weighted by the matches."""
        return float((self.share * np.abs(self.confidence - self.right)).sum())


def reliability(confidence: FloatArray, right: NDArray[np.bool_], bins: int = BINS, meaning: str = "") -> Reliability:
    """Sort matches into bins by their confidence.

    Args:
        confidence: (M,) in [0, 1], M at least 1.
        right: (M,).
        bins: number of bins over [0, 1].
        meaning: what counts as right, for the picture.
    """
    which = np.minimum((np.asarray(confidence, np.float64) * bins).astype(np.int64), bins - 1)
    count = np.bincount(which, minlength=bins)
    full = count > 0
    mean, good = (np.bincount(which, values, minlength=bins)[full] / count[full] for values in (confidence, right))
    return Reliability(mean, good, count[full] / len(which), meaning)


def match_reliability(predictions: Iterable[PairPrediction]) -> Reliability | None:
    """Return the reliability of all matches together; None where nothing is known of any, or a confidence exceeds 1.

    Right is what lies near the keypoint warped by depth, of the pairs that have depth; where no pair has any, what lies
    near the epipolar line or, without a pose, near the place of a homography.
    """
    measured: dict[str, list[tuple[FloatArray, NDArray[np.bool_]]]] = {}
    for prediction in predictions:
        truth, kind = prediction.truth, error_kind(prediction)
        if truth is not None:
            error = np.linalg.norm(prediction.points1 - truth.warped0, axis=1)
            right = truth.valid & (error < RIGHT_PX)
            measured.setdefault(_TRUTH, []).append((prediction.confidence[truth.known], right[truth.known]))
        elif kind is not None:
            right = match_errors(prediction, kind) < _LIMITS[kind.label]
            measured.setdefault(kind.label, []).append((prediction.confidence, right))
    for name, meaning in _MEANINGS.items():
        if name in measured:
            confidence, right = (np.concatenate(arrays) for arrays in zip(*measured[name], strict=True))
            usable = len(right) and confidence.min() >= 0 and confidence.max() <= 1
            return reliability(confidence, right, meaning=meaning) if usable else None
    return None


def draw_reliability(measured: Reliability, title: str = "") -> Figure:
    """Draw the share of right matches over the confidence, beside the diagonal that a probability has."""
    label = f"calibration error {measured.error:.3f}"
    text = "\n".join(part for part in (title, f"right: {measured.meaning}" if measured.meaning else "") if part)
    return draw_against_diagonal(measured.confidence, measured.right, measured.share, label, text)
