"""Measures of matches, of estimated poses and of estimated homographies: plain functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.cache import PairPrediction, PairTruth
from s2ld.geometry.camera import PixelFrame, rescale_intrinsics, resized_to_image
from s2ld.geometry.epipolar import essential, symmetric_epipolar_distance
from s2ld.geometry.homography import apply_homography, corner_error
from s2ld.geometry.pose import pose_error
from s2ld.geometry.two_view import Pose
from s2ld.types import FloatArray

ThresholdUnit = Literal["resized", "image"]
"""Which px the thresholds of pose estimators count."""
AUC_THRESHOLDS = (5.0, 10.0, 20.0)
"""Degrees."""
PRECISION_THRESHOLDS = (1e-4, 5e-4)
"""Squared symmetric epipolar distance in normalised coordinates."""
CORNER_THRESHOLDS = (3.0, 5.0, 10.0)
"""Resized px, of the mean error of the four corners."""
MMA_THRESHOLDS = tuple(float(px) for px in range(1, 11))
"""Px of image 1 as given, not resized."""
ENDPOINT_THRESHOLDS = (1.0, 3.0, 5.0)
"""Resized px."""
REPEATABILITY_RADIUS = 3.0
"""Resized px. One keypoint an 8 px cell: points strewn at random would reach pi 3^2 / 8^2 = 44 %."""


@dataclass(frozen=True)
class PosedMatches:
    """Matches and cameras of a pair in the px that an estimator's thresholds count; float64."""

    points0: FloatArray
    """(M, 2)."""
    points1: FloatArray
    """(M, 2)."""
    K0: FloatArray
    """(3, 3)."""
    K1: FloatArray
    """(3, 3)."""


def has_pose(pair: PairPrediction) -> bool:
    """Return whether the true pose of a pair is known."""
    return bool(np.isfinite(pair.T_0to1).all())


def posed_matches(pair: PairPrediction, frame: PixelFrame, unit: ThresholdUnit) -> PosedMatches:
    """Take a prediction to the images' own frame, and express that in the unit of the thresholds.

    Args:
        pair: in resized px.
        frame: how points go back to the image (`resized_to_image`).
        unit: image px, or image px over the scale, which are as large as resized px.

    Raises:
        S2LDError: unknown unit.
    """
    if unit not in ("resized", "image"):
        raise S2LDError(f"EVAL.THRESHOLD_UNIT is {unit!r}; use resized or image")
    points, cameras = [], []
    for resized, K, scale in ((pair.points0, pair.K0, pair.scale0), (pair.points1, pair.K1, pair.scale1)):
        factor = torch.from_numpy(scale).double()
        image_points = resized_to_image(torch.from_numpy(resized).double(), factor, frame)
        image_K = rescale_intrinsics(torch.from_numpy(K).double(), 1 / factor)
        shrink = 1 / factor if unit == "resized" else torch.ones_like(factor)
        points.append((image_points * shrink).numpy())
        cameras.append((torch.cat([shrink, shrink.new_ones(1)])[:, None] * image_K).numpy())
    return PosedMatches(points[0], points[1], cameras[0], cameras[1])


def epipolar_distances(matches: PosedMatches, T_0to1: FloatArray) -> FloatArray:
    """Return (M,) squared symmetric epipolar distances by the true pose (4, 4), in normalised coordinates."""
    E = essential(torch.from_numpy(T_0to1).double())
    arrays = (matches.points0, matches.points1, matches.K0, matches.K1)
    points0, points1, K0, K1 = (torch.from_numpy(array) for array in arrays)
    return np.asarray(symmetric_epipolar_distance(points0, points1, E, K0, K1).numpy())


def share_below(values: FloatArray, threshold: float) -> float:
    """Return the share of `values` (M,) below `threshold`; 0 where there is none."""
    return float(np.mean(values < threshold)) if len(values) else 0.0


def pose_error_degrees(pose: Pose | None, T_0to1: FloatArray) -> float:
    """Return the larger of rotation and translation error (folded at 90), degrees; infinite without a pose."""
    return math.inf if pose is None else max(pose_error(T_0to1, pose.R, pose.t))


def pose_auc(errors: Sequence[float], thresholds: Sequence[float] = AUC_THRESHOLDS) -> list[float]:
    """Return the areas under the recall curve of the pose error up to each threshold, in [0, 1].

    As SuperGlue (Sarlin et al., CVPR 2020) and LoFTR define it: recall over error is linear between the sorted errors,
    with recall i / n at the i-th and 0 at 0, constant from the last error below the threshold up to the threshold. The
    trapezoids add up to the mean of max(0, 1 - error / threshold) and half a pair's share of the last error.

    Args:
        errors: degrees, infinite for no pose; at least one.
        thresholds: in the unit of the errors.
    """
    error = np.asarray(errors, np.float64)
    areas = []
    for threshold in thresholds:
        below = error[error < threshold]
        areas.append(float((np.sum(threshold - below) + below.max(initial=0.0) / 2) / (len(error) * threshold)))
    return areas


def homography_error(H: FloatArray | None, H_true: FloatArray, size: tuple[int, int]) -> float:
    """Return the mean distance between the corners of image 0 as two homographies (3, 3) map them; infinite for None.

    As SuperPoint (DeTone et al., 2018) and LoFTR measure it on HPatches. A corner lies outside of what both images show
    as a rule, so that errors of the matches count many times; pairs may even have a corner that the true homography
    takes close to infinity (about one in a hundred of the drawn homographies), and count as failed in practice.

    Args:
        H: the estimate, resized px of image 0 to those of image 1.
        H_true: the truth, likewise.
        size: width and height of image 0, resized px.
    """
    if H is None:
        return math.inf
    estimate, truth = (torch.from_numpy(np.asarray(matrix, np.float64)) for matrix in (H, H_true))
    return float(corner_error(estimate, truth, *size))


def corner_auc(errors: Sequence[float]) -> list[float]:
    """Return the areas under the recall curve of `homography_error` up to `CORNER_THRESHOLDS`, as `pose_auc` does."""
    return pose_auc(errors, CORNER_THRESHOLDS)


def reprojection_errors(pair: PairPrediction) -> FloatArray:
    """Return the distances (M,) of the points 1 of a pair of one plane from where the true homography takes points 0.

    Px of image 1 as given, so that MMA, the share of matches below a distance (D2-Net, Dusmanu et al., CVPR 2019), does
    not depend on the size that a matcher works at.

    Raises:
        ValueError: the pair has no homography.
    """
    if pair.homography is None:
        raise ValueError("the pair has no homography")
    H, points0 = (torch.from_numpy(np.asarray(array, np.float64)) for array in (pair.homography, pair.points0))
    return np.asarray(np.linalg.norm((apply_homography(H, points0).numpy() - pair.points1) * pair.scale1, axis=1))


def endpoint_errors(points1: FloatArray, truth: PairTruth) -> FloatArray:
    """Return the distances (Q,) of `points1` (M, 2) from the true places, of the matches whose depth is known.

    Resized px of image 1; infinite where the point is truly hidden or outside of image 1, so that any match is wrong.
    """
    distance = np.linalg.norm(points1.astype(np.float64) - truth.warped0, axis=1)
    return np.asarray(np.where(truth.valid, distance, np.inf)[truth.known])
