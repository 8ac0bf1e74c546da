"""How wrong each match of a pair is, by what is known of the pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s2ld.evaluation.evaluate import threshold_name
from s2ld.evaluation.metrics import (
    PRECISION_THRESHOLDS,
    epipolar_distances,
    has_pose,
    posed_matches,
    reprojection_errors,
)
from s2ld.evaluation.predictions.cache import PairPrediction
from s2ld.types import FloatArray


@dataclass(frozen=True)
class ErrorKind:
    """A measure of matches."""

    label: str
    """Name and unit of `errors_in_px`."""
    thresholds: dict[str, float]
    """Below which a match counts as right, by the name of the share of such matches."""
    pair_error: str
    """How the pair's own error is written, with a place for the number."""


EPIPOLAR = ErrorKind(
    label="distance to the epipolar lines, px",
    thresholds={f"precision@{threshold_name(threshold)}": threshold for threshold in PRECISION_THRESHOLDS},
    pair_error="pose error {:.2f} degrees",
)
"""Of pairs with a pose: squared distance in normalised coordinates."""
REPROJECTION = ErrorKind(
    label="reprojection error, px",
    thresholds={f"within {threshold:g} px": threshold for threshold in (1.0, 3.0, 5.0)},
    pair_error="corner error {:.2f} px",
)
"""Of pairs of one plane without a pose: px of image 1 as given."""


def error_kind(prediction: PairPrediction) -> ErrorKind | None:
    """Return by what the matches of a pair are measured; None where nothing is known of the pair."""
    if has_pose(prediction):
        return EPIPOLAR
    return None if prediction.homography is None else REPROJECTION


def match_errors(prediction: PairPrediction, kind: ErrorKind) -> FloatArray:
    """Return the errors (M,) of a pair's matches as thresholds count them: px, or squared normalised distances.

    Pixel edges are aligned for the latter, whatever the protocol.
    """
    if kind is REPROJECTION:
        return reprojection_errors(prediction)
    return epipolar_distances(posed_matches(prediction, "edge", "resized"), prediction.T_0to1)


def errors_in_px(prediction: PairPrediction, kind: ErrorKind) -> FloatArray:
    """Return the errors (M,) of a pair's matches in px: reprojection errors of image 1 as given, or epipolar ones.

    These are the root mean square of the distances to the epipolar lines of both resized images, by the geometric mean
    of the focal lengths.
    """
    errors = match_errors(prediction, kind)
    if kind is REPROJECTION:
        return errors
    focal = np.prod([K[i, i] for K in (prediction.K0, prediction.K1) for i in (0, 1)]) ** 0.25
    return np.asarray(focal * np.sqrt(errors / 2))
