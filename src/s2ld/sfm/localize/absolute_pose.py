"""The pose of a photograph by points of a model that were found in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from s2ld.sfm.mapping.colmap import load_pycolmap

AGREEING_PX = 2.0
"""px as the network sees them: measurements of one point this near to the surest are averaged with it."""
LEAST_POINTS = 4
"""Below which no pose is sought."""
Focal = Literal["known", "rough", "unknown"]
TRIALS = 10_000
"""Of RANSAC, at most."""


@dataclass(frozen=True)
class Sightings:
    """Points of a model and where they are in a photograph; the same one may be found more than once."""

    points: NDArray[np.float64]
    """(M, 2) image px, pixel centres at integers."""
    numbers: NDArray[np.int64]
    """(M,) COLMAP's numbers of the 3D points."""
    confidence: NDArray[np.float64]
    """(M,) in (0, 1]."""

    @classmethod
    def joined(cls, parts: Sequence[Sightings]) -> Sightings:
        """Return all sightings of several, which may be none."""
        if not parts:
            return cls(np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def once(self, radius: float) -> Sightings:
        """Return each 3D point once: the mean of those sightings that lie within `radius` px of its surest one."""
        order = np.lexsort((-self.confidence, self.numbers))
        points, numbers, confidence = self.points[order], self.numbers[order], self.confidence[order]
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        group = np.repeat(np.arange(len(first)), np.diff(first, append=len(numbers)))
        near = np.linalg.norm(points - points[first][group], axis=1) <= radius
        weight = confidence * near
        total = np.bincount(group, weight, len(first))
        mean = [np.bincount(group, weight * axis, len(first)) / total for axis in points.T]
        return Sightings(np.stack(mean, 1).reshape(-1, 2), numbers[first], confidence[first])


@dataclass(frozen=True)
class Pose:
    """Where a photograph was taken."""

    matrix: NDArray[np.float64]
    """(4, 4) world to camera, unit of length: the model's."""
    camera: Any
    """`pycolmap.Camera`, with the focal length that was found where it was not known."""
    inliers: NDArray[np.bool_]
    """(M,) of the sightings."""


def estimate_pose(
    sightings: Sightings, model: Any, camera: Any, focal: Focal, max_error: float, seed: int = 0
) -> Pose | None:
    """Return the pose by LO-RANSAC with a refinement of all inliers, both pycolmap's; None where it finds none.

    Args:
        sightings: of points of the model, each once.
        model: `pycolmap.Reconstruction`.
        camera: `pycolmap.Camera` to begin with; it is not changed.
        focal: whether its focal length is "known" and stays, "rough" and is refined, or "unknown".
        max_error: px of the photograph, above which a sighting is no inlier.
        seed: of RANSAC.

    Raises:
        S2LDError: no pycolmap.
    """
    pycolmap = load_pycolmap()
    if len(sightings.points) < LEAST_POINTS:
        return None
    options, refinement = pycolmap.AbsolutePoseEstimationOptions(), pycolmap.AbsolutePoseRefinementOptions()
    options.estimate_focal_length, refinement.refine_focal_length = focal == "unknown", focal != "known"
    options.ransac.max_error, options.ransac.random_seed, options.ransac.max_num_trials = max_error, seed, TRIALS
    options.ransac.min_inlier_ratio = 0.01
    places = np.array([model.points3D[number].xyz for number in sightings.numbers.tolist()])
    own = pycolmap.Camera(camera.todict())
    pixels = sightings.points + 0.5  # COLMAP counts from a pixel's corner
    found = pycolmap.estimate_and_refine_absolute_pose(pixels, places, own, options, refinement)
    if found is None:
        return None
    matrix = np.eye(4)
    matrix[:3] = found["cam_from_world"].matrix()
    return Pose(matrix, own, np.asarray(found["inlier_mask"], bool))
