"""Homography or essential matrix of a pair from its matches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.evaluation.estimators import PoseLibRansac
from s2ld.geometry.epipolar import essential
from s2ld.types import FloatArray, Matches

_CONFIDENCE = 0.9999  # of the homography: probability that the best one was found
_ITERATIONS = 10000
_MIN_MATCHES = 4  # of a homography
_SEED = 0


@dataclass(frozen=True)
class TwoView:
    """A model of a pair and the matches that agree with it."""

    kind: str
    """homography | essential."""
    matrix: FloatArray | None
    """(3, 3): x1 ~ H x0 in image px, or x1' E x0 = 0 in normalised coordinates; None when none was found."""
    inliers: NDArray[np.bool_]
    """(M,)."""


def estimate_homography(matches: Matches, threshold: float) -> TwoView:
    """Fit a homography with MAGSAC++ (Barath et al., CVPR 2020); `threshold` is the error in image px of image 1."""
    if len(matches) < _MIN_MATCHES:
        return _none("homography", len(matches))
    found: tuple[Any, Any] = cv2.findHomography(
        matches.points0, matches.points1, cv2.USAC_MAGSAC, threshold, maxIters=_ITERATIONS, confidence=_CONFIDENCE
    )
    matrix, inliers = found
    if matrix is None or matrix.shape != (3, 3):
        return _none("homography", len(matches))
    return TwoView("homography", matrix, inliers.ravel().astype(bool))


def estimate_essential(matches: Matches, K0: FloatArray, K1: FloatArray, threshold: float) -> TwoView:
    """Fit an essential matrix with PoseLib's LO-RANSAC.

    Args:
        matches: points in image px.
        K0: (3, 3) intrinsics of image 0, image px.
        K1: (3, 3) intrinsics of image 1.
        threshold: distance to the epipolar line, image px.
    """
    pose = PoseLibRansac(threshold)(matches.points0, matches.points1, K0, K1, _SEED)
    if pose is None:
        return _none("essential", len(matches))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = pose.R, pose.t
    return TwoView("essential", essential(torch.from_numpy(T)).numpy(), pose.inliers)


def intrinsics_from_numbers(numbers: list[float]) -> tuple[FloatArray, FloatArray]:
    """Return (K0, K1) of "fx fy cx cy", one set for both cameras or one for each.

    Raises:
        S2LDError: another count, or a focal length that is not positive.
    """
    if len(numbers) not in (4, 8):
        raise S2LDError(f"--intrinsics takes fx fy cx cy once or twice (4 or 8 numbers), not {len(numbers)}")
    cameras = []
    for fx, fy, cx, cy in (numbers[:4], numbers[-4:]):
        if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
            raise S2LDError(
                f"--intrinsics {fx:g} {fy:g} {cx:g} {cy:g}: finite numbers, and focal lengths must be positive"
            )
        cameras.append(np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]))
    return cameras[0], cameras[1]


def _none(kind: str, count: int) -> TwoView:
    return TwoView(kind, None, np.zeros(count, bool))
