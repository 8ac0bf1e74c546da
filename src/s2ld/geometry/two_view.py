"""A model of two views fitted to matches of which some are wrong: homography, fundamental or essential matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.geometry.epipolar import essential
from s2ld.types import FloatArray

Kind = Literal["homography", "fundamental", "essential"]
KINDS: tuple[Kind, ...] = get_args(Kind)
THRESHOLD = 2.0
"""Default error of an inlier, px."""
MIN_MATCHES = 5
"""Below this the five-point problem has no solution."""
_LEAST = {"homography": 4, "fundamental": 8}  # matches; fewer do not determine one model
_CONFIDENCE = 0.9999  # probability that the best model was found
_ITERATIONS = 10000
_SEED = 0


@dataclass(frozen=True)
class Pose:
    """An estimated relative pose, x1 ~ R x0 + t."""

    R: FloatArray
    """(3, 3)."""
    t: FloatArray
    """(3,) direction, its length is arbitrary."""
    inliers: NDArray[np.bool_]
    """(M,)."""


@dataclass(frozen=True)
class TwoView:
    """A model of a pair and the matches that agree with it."""

    kind: Kind
    """homography | fundamental | essential."""
    matrix: FloatArray | None
    """(3, 3): x1 ~ H x0 or x1' F x0 = 0 in image px, x1' E x0 = 0 in normalised coordinates; None: none was found."""
    inliers: NDArray[np.bool_]
    """(M,)."""
    pose: Pose | None = None
    """Of the second camera against the first, with the essential matrix."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what an .npz of matches holds of a model: `inliers`, and the matrix, NaN for none, under its kind."""
        return {"inliers": self.inliers, self.kind: np.full((3, 3), np.nan) if self.matrix is None else self.matrix}

    def __repr__(self) -> str:
        found = "none found" if self.matrix is None else f"{int(self.inliers.sum())} of {len(self.inliers)} inliers"
        return f"TwoView({self.kind}, {found})"


@dataclass(frozen=True)
class PoseLibRansac:
    """PoseLib's LO-RANSAC (Larsson and contributors): five-point solver and non-linear refinement."""

    threshold: float = 1.0
    confidence: float = 0.9999
    name: str = "poselib"

    @property
    def settings(self) -> str:
        """See `s2ld.evaluation.estimators.Estimator`."""
        import poselib

        return (
            f"PoseLib {poselib.__version__} estimate_relative_pose, {self.threshold:g} px, "
            f"confidence {self.confidence:g}"
        )

    def __call__(
        self, points0: FloatArray, points1: FloatArray, K0: FloatArray, K1: FloatArray, seed: int
    ) -> Pose | None:
        """See `s2ld.evaluation.estimators.PoseEstimator`."""
        if len(points0) < MIN_MATCHES:
            return None
        import poselib

        pose, info = poselib.estimate_relative_pose(
            np.asarray(points0, np.float64),
            np.asarray(points1, np.float64),
            _pinhole_camera(K0),
            _pinhole_camera(K1),
            {"max_epipolar_error": self.threshold, "success_prob": self.confidence, "seed": seed},
            {},
        )
        if info["num_inliers"] < MIN_MATCHES:
            return None
        return Pose(np.array(pose.R), np.array(pose.t), np.array(info["inliers"], bool))


def estimate(
    points0: FloatArray,
    points1: FloatArray,
    kind: Kind,
    threshold: float = THRESHOLD,
    K0: FloatArray | None = None,
    K1: FloatArray | None = None,
) -> TwoView:
    """Fit a model to matches; the same matches give the same model.

    Homography and fundamental matrix are fitted by MAGSAC++ (Barath et al., CVPR 2020; OpenCV), the essential matrix by
    PoseLib's LO-RANSAC, which is an extra.

    Args:
        points0: (M, 2) image px of image 0.
        points1: (M, 2) image px of image 1.
        kind: homography | fundamental | essential.
        threshold: error of an inlier, image px: in image 1, or from the epipolar line.
        K0: (3, 3) intrinsics of image 0, for the essential matrix alone.
        K1: (3, 3) of image 1; None: those of image 0.

    Raises:
        S2LDError: an unknown kind, a threshold that is not positive, intrinsics that are missing or no such matrices,
            or PoseLib is not installed.
    """
    if kind not in KINDS:
        raise S2LDError(f"there is no model {kind!r}; use {', '.join(KINDS)}")
    if not 0 < threshold < np.inf:
        raise S2LDError(f"the threshold of an inlier must be positive, in px, not {threshold!r}")
    if kind == "essential":
        return _essential(points0, points1, threshold, _checked(K0), _checked(K0 if K1 is None else K1))
    if len(points0) < _LEAST[kind]:
        return _none(kind, len(points0))
    fit = cv2.findHomography if kind == "homography" else cv2.findFundamentalMat
    found: tuple[Any, Any] = fit(
        points0, points1, cv2.USAC_MAGSAC, threshold, maxIters=_ITERATIONS, confidence=_CONFIDENCE
    )
    matrix, inliers = found
    if matrix is None or matrix.shape != (3, 3):
        return _none(kind, len(points0))
    return TwoView(kind, matrix, inliers.ravel().astype(bool))


def _essential(points0: FloatArray, points1: FloatArray, threshold: float, K0: FloatArray, K1: FloatArray) -> TwoView:
    need("demo", "poselib")
    pose = PoseLibRansac(threshold)(points0, points1, K0, K1, _SEED)
    if pose is None:
        return _none("essential", len(points0))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = pose.R, pose.t
    return TwoView("essential", essential(torch.from_numpy(T)).numpy(), pose.inliers, pose)


def _checked(K: FloatArray | None) -> FloatArray:
    if K is None:
        raise S2LDError("an essential matrix needs the intrinsics K0, (3, 3) in px of the images; or fit 'fundamental'")
    K = np.asarray(K, np.float64)
    if K.shape != (3, 3) or not np.isfinite(K).all() or not (K[0, 0] > 0 and K[1, 1] > 0):
        raise S2LDError(f"intrinsics are (3, 3) in px with positive focal lengths, not {K.tolist()}")
    return K


def _none(kind: Kind, count: int) -> TwoView:
    return TwoView(kind, None, np.zeros(count, bool))


def _pinhole_camera(K: FloatArray) -> dict[str, object]:
    params = [float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])]
    return {"model": "PINHOLE", "width": 0, "height": 0, "params": params}  # the size is not used
