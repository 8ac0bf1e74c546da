"""Robust estimators: of the relative pose, behind one small interface, and of the homography of a plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.geometry.two_view import MIN_MATCHES, Pose, PoseLibRansac
from s2ld.types import FloatArray

MIN_HOMOGRAPHY_MATCHES = 4
"""Below this a homography has no solution."""
INFINITELY_FAR = 1e9
"""Of `recoverPose`, in baselines: points beyond it would not count as in front of both cameras."""


class Estimator(Protocol):
    """Estimates something from matches."""

    @property
    def name(self) -> str:
        """Short name, the key of its numbers in results."""
        ...

    @property
    def threshold(self) -> float:
        """Largest error of an inlier, px."""
        ...

    @property
    def confidence(self) -> float:
        """Probability of having seen a sample without outliers at which it stops, in (0, 1)."""
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


def shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """Return the order (count,) in which OpenCV gets the matches: as they are for seed 0, drawn by any other seed.

    OpenCV's robust estimators seed themselves and do not heed `cv2.setRNGSeed`: their luck lies in the order.
    """
    return np.random.default_rng(seed).permutation(count) if seed else np.arange(count)


@dataclass(frozen=True)
class OpenCVRansac:
    """Five-point RANSAC of OpenCV on normalised points, then the cheirality check.

    With `lineage` exactly as SuperGlue, LoFTR and S2LD call it, since published numbers rest on it. That has two
    quirks: the threshold is divided by a mean focal length that averages K0[0, 0] and K1[1, 1] only, and the cheirality
    check of each candidate (there are several where there are just five matches) begins with what the one before left.
    Without `lineage` candidates are alike, and a threshold of 1 px is the mean of 1 / fx0, 1 / fy0, 1 / fx1 and
    1 / fy1 of the normalised plane, as in PoseLib: each px is what it is in its own image, also where a telephoto lens
    meets a wide one.
    """

    threshold: float = 0.5
    confidence: float = 0.99999
    name: str = "opencv"
    lineage: bool = True
    method: str = "RANSAC"
    """Name of OpenCV's constant: RANSAC or USAC_MAGSAC (MAGSAC++, Barath et al., CVPR 2020)."""

    @property
    def settings(self) -> str:
        """See `Estimator`."""
        focal = "the mean of K0[0,0] and K1[1,1] only (quirk of the lineage)" if self.lineage else "each focal length"
        form = "LoFTR's exact form, " if self.lineage else ""
        return (
            f"{form}OpenCV {cv2.__version__} findEssentialMat {self.method}, {self.threshold:g} px over {focal}, "
            f"confidence {self.confidence:g}, recoverPose"
        )

    def __call__(
        self, points0: FloatArray, points1: FloatArray, K0: FloatArray, K1: FloatArray, seed: int
    ) -> Pose | None:
        """See `PoseEstimator`."""
        if len(points0) < MIN_MATCHES:
            return None
        order = shuffled(len(points0), seed)
        rays0, rays1 = _pinhole_rays(points0, K0)[order], _pinhole_rays(points1, K1)[order]
        focals = np.array([K0[0, 0], K1[1, 1]] if self.lineage else [K0[0, 0], K0[1, 1], K1[0, 0], K1[1, 1]])
        per_px = 1 / np.mean(focals) if self.lineage else np.mean(1 / focals)
        found: tuple[Any, Any] = cv2.findEssentialMat(
            rays0,
            rays1,
            np.eye(3),
            method=getattr(cv2, self.method),
            prob=self.confidence,
            threshold=self.threshold * float(per_px),
        )
        E, mask = found
        if E is None:
            return None
        best, most = None, 0
        for candidate in E.reshape(-1, 3, 3):
            mask = mask if self.lineage else found[1].copy()
            # recoverPose takes out of the mask what is not in front of both cameras
            recovered: tuple[Any, ...] = cv2.recoverPose(candidate, rays0, rays1, np.eye(3), INFINITELY_FAR, mask=mask)
            count, R, t, _ = recovered[:4]
            if count > most:
                inliers = np.zeros(len(order), bool)
                inliers[order] = mask.ravel() > 0
                best, most = Pose(R, t[:, 0], inliers), count
        return best


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
        order = shuffled(len(points0), seed)
        H, _ = cv2.findHomography(
            np.asarray(points0, np.float64)[order],
            np.asarray(points1, np.float64)[order],
            cv2.RANSAC,
            self.threshold,
            confidence=self.confidence,
        )
        return None if H is None else np.asarray(H, np.float64)


def build_estimators(config: CN) -> list[PoseEstimator]:
    """Return the estimators of EVAL.ESTIMATORS with the settings of the EVAL node of a config.

    Raises:
        S2LDError: one is named twice.
    """
    if len(set(config.ESTIMATORS)) < len(config.ESTIMATORS):
        raise S2LDError(f"EVAL.ESTIMATORS is {list(config.ESTIMATORS)}; name each estimator once")
    return [ESTIMATORS[name](config) for name in config.ESTIMATORS]


def build_homography_estimator(config: CN) -> HomographyRansac:
    """Return the estimator of homographies with the settings of the EVAL node of a config."""
    return HomographyRansac(float(config.HOMOGRAPHY_THRESHOLD), float(config.OPENCV_CONFIDENCE))


def _opencv(config: CN, lineage: bool) -> OpenCVRansac:
    name = "opencv" if lineage else "opencv_corrected"
    return OpenCVRansac(float(config.OPENCV_THRESHOLD), float(config.OPENCV_CONFIDENCE), name, lineage)


def _magsac(config: CN) -> OpenCVRansac:
    threshold, confidence = float(config.MAGSAC_THRESHOLD), float(config.OPENCV_CONFIDENCE)
    return OpenCVRansac(threshold, confidence, "magsac", lineage=False, method="USAC_MAGSAC")


def _poselib(config: CN) -> PoseLibRansac:
    return PoseLibRansac(float(config.POSELIB_THRESHOLD))


ESTIMATORS: dict[str, Callable[[CN], PoseEstimator]] = {
    "opencv": lambda config: _opencv(config, lineage=True),
    "opencv_corrected": lambda config: _opencv(config, lineage=False),
    "magsac": _magsac,
    "poselib": _poselib,
}
"""What builds an estimator of the name from the EVAL node of a config."""


def _pinhole_rays(points: FloatArray, K: FloatArray) -> FloatArray:
    """Return (M, 2) normalised points; skew is ignored, as the protocol does."""
    return np.asarray((np.asarray(points, np.float64) - K[[0, 1], [2, 2]]) / K[[0, 1], [0, 1]])
