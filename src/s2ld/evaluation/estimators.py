"""Robust estimators: of the relative pose, behind one small interface, and of the homography of a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import poselib
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.types import FloatArray

MIN_MATCHES = 5
"""Below this the five-point problem has no solution."""
MIN_HOMOGRAPHY_MATCHES = 4
"""Below this a homography has no solution."""
INFINITELY_FAR = 1e9
"""Of `recoverPose`, in baselines: points beyond it would not count as in front of both cameras."""


@dataclass(frozen=True)
class Pose:
    """An estimated relative pose, x1 ~ R x0 + t."""

    R: FloatArray
    """(3, 3)."""
    t: FloatArray
    """(3,) direction, its length is arbitrary."""
    inliers: NDArray[np.bool_]
    """(M,)."""


class Estimator(Protocol):
    """Estimates something from matches."""

    @property
    def name(self) -> str:
        """Short name, the key of its numbers in results."""
        ...

    @property
    def settings(self) -> str:
        """Everything that its numbers depend on, for the printed protocol."""
        ...


class PoseEstimator(Estimator, Protocol):
    """Estimates a relative pose from matches."""

    def __call__(
        self, points0: FloatArray, points1: FloatArray, K0: FloatArray, K1: FloatArray, seed: int
    ) -> Pose | None:
        """Return the pose, or None when there is none.

        Args:
            points0: (M, 2) px of image 0.
            points1: (M, 2) px of image 1.
            K0: (3, 3) intrinsics in the px of `points0`; thresholds are in these px too.
            K1: (3, 3) intrinsics in the px of `points1`.
            seed: of the sampling; the same seed and matches give the same pose.
        """
        ...


@dataclass(frozen=True)
class OpenCVRansac:
    """The protocol of SuperGlue, LoFTR and S2LD: five-point RANSAC on normalised points, then the cheirality check.

    A quirk of it is kept since published numbers rest on it: the threshold is divided by a mean focal length that
    averages K0[0, 0] and K1[1, 1] only.
    """

    threshold: float = 0.5
    confidence: float = 0.99999
    name: str = "opencv"

    @property
    def settings(self) -> str:
        """See `PoseEstimator`."""
        return (
            f"OpenCV {cv2.__version__} findEssentialMat RANSAC, {self.threshold:g} px over the mean of K0[0,0] "
            f"and K1[1,1], confidence {self.confidence:g}, recoverPose"
        )

    def __call__(
        self, points0: FloatArray, points1: FloatArray, K0: FloatArray, K1: FloatArray, seed: int
    ) -> Pose | None:
        """See `PoseEstimator`."""
        if len(points0) < MIN_MATCHES:
            return None
        rays0, rays1 = _pinhole_rays(points0, K0), _pinhole_rays(points1, K1)
        threshold = self.threshold / float(np.mean([K0[0, 0], K1[1, 1]]))
        cv2.setRNGSeed(seed)
        found: tuple[Any, Any] = cv2.findEssentialMat(
            rays0, rays1, np.eye(3), method=cv2.RANSAC, prob=self.confidence, threshold=threshold
        )
        E, mask = found
        if E is None:
            return None
        best, most = None, 0
        for candidate in E.reshape(-1, 3, 3):  # five matches may give several, stacked
            # recoverPose takes out of the mask what is not in front of both cameras
            recovered: tuple[Any, ...] = cv2.recoverPose(
                candidate, rays0, rays1, np.eye(3), INFINITELY_FAR, mask=mask.copy()
            )
            count, R, t, inliers = recovered[:4]
            if count > most:
                best, most = Pose(R, t[:, 0], inliers.ravel() > 0), count
        return best


@dataclass(frozen=True)
class PoseLibRansac:
    """PoseLib's LO-RANSAC (Larsson and contributors): five-point solver and non-linear refinement."""

    threshold: float = 1.0
    name: str = "poselib"

    @property
    def settings(self) -> str:
        """See `PoseEstimator`."""
        return f"PoseLib {poselib.__version__} estimate_relative_pose, {self.threshold:g} px"

    def __call__(
        self, points0: FloatArray, points1: FloatArray, K0: FloatArray, K1: FloatArray, seed: int
    ) -> Pose | None:
        """See `PoseEstimator`."""
        if len(points0) < MIN_MATCHES:
            return None
        pose, info = poselib.estimate_relative_pose(
            np.asarray(points0, np.float64),
            np.asarray(points1, np.float64),
            _pinhole_camera(K0),
            _pinhole_camera(K1),
            {"max_epipolar_error": self.threshold, "seed": seed},
            {},
        )
        if info["num_inliers"] < MIN_MATCHES:
            return None
        return Pose(np.array(pose.R), np.array(pose.t), np.array(info["inliers"], bool))


@dataclass(frozen=True)
class HomographyRansac:
    """OpenCV's RANSAC over four matches, as in the HPatches protocol of SuperPoint, SuperGlue and LoFTR."""

    threshold: float = 3.0
    confidence: float = 0.99999
    name: str = "homography"

    @property
    def settings(self) -> str:
        """See `Estimator`."""
        return (
            f"OpenCV {cv2.__version__} findHomography RANSAC, {self.threshold:g} resized px, confidence "
            f"{self.confidence:g}"
        )

    def __call__(self, points0: FloatArray, points1: FloatArray, seed: int) -> FloatArray | None:
        """Return the homography (3, 3) from image 0 to image 1, or None when there is none.

        Args:
            points0: (M, 2) resized px of image 0.
            points1: (M, 2) resized px of image 1, which the threshold counts.
            seed: of the sampling; the same seed and matches give the same homography.
        """
        if len(points0) < MIN_HOMOGRAPHY_MATCHES:
            return None
        cv2.setRNGSeed(seed)
        H, _ = cv2.findHomography(
            np.asarray(points0, np.float64),
            np.asarray(points1, np.float64),
            cv2.RANSAC,
            self.threshold,
            confidence=self.confidence,
        )
        return None if H is None else np.asarray(H, np.float64)


def build_estimators(config: CN) -> list[PoseEstimator]:
    """Return the estimators with the thresholds of the EVAL node of a config."""
    return [
        OpenCVRansac(float(config.OPENCV_THRESHOLD), float(config.OPENCV_CONFIDENCE)),
        PoseLibRansac(float(config.POSELIB_THRESHOLD)),
    ]


def build_homography_estimator(config: CN) -> HomographyRansac:
    """Return the estimator of homographies with the settings of the EVAL node of a config."""
    return HomographyRansac(float(config.HOMOGRAPHY_THRESHOLD), float(config.OPENCV_CONFIDENCE))


def _pinhole_rays(points: FloatArray, K: FloatArray) -> FloatArray:
    """Return (M, 2) normalised points; skew is ignored, as the protocol does."""
    return np.asarray((np.asarray(points, np.float64) - K[[0, 1], [2, 2]]) / K[[0, 1], [0, 1]])


def _pinhole_camera(K: FloatArray) -> dict[str, object]:
    params = [float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])]
    return {"model": "PINHOLE", "width": 0, "height": 0, "params": params}  # the size is not used
