"""With which images one is matched, and between which depths, by the points that they see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s2ld.sfm.mapping.model import SparseModel

MOST_POINTS = 1000
"""Shared points whose angles are looked at."""
GOOD_ANGLES = (5.0, 20.0)
"""Triangulation angles that count in full, degrees: smaller ones give poor depth, larger ones other appearance."""
LARGEST_ANGLE = 60.0
"""Degrees; a 7 px window hardly looks alike beyond."""
PERCENTILES = (1.0, 99.0)
"""Of the depths of the points: a few are wrong."""


def choose_sources(model: SparseModel, image: int, count: int = 5, least_shared: int = 20) -> NDArray[np.int64]:
    """Return the images that `image` is best matched with.

    Each is worth the points that both see, weighted by their triangulation angle (`angle_weight`).

    Args:
        model: n images.
        image: row of the image.
        count: at most so many.
        least_shared: points that both must see.

    Returns:
        (k,) rows of the model, the best first, equal ones in order; k may be 0.
    """
    worth = np.zeros(len(model))
    seen = np.zeros(len(model.points), bool)
    seen[model.visible[image]] = True
    centres = camera_centres(model.poses)
    for other in range(len(model)):
        shared = model.visible[other][seen[model.visible[other]]]
        if other == image or len(shared) < least_shared:
            continue
        some = shared[:: -(-len(shared) // MOST_POINTS)]
        angles = triangulation_angles(model.points[some], centres[image], centres[other])
        worth[other] = angle_weight(angles).mean() * len(shared)
    order = np.argsort(-worth, kind="stable")[:count]
    return order[worth[order] > 0].astype(np.int64)


def angle_weight(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for `GOOD_ANGLES` (degrees), falling linearly to 0 at 0 and at `LARGEST_ANGLE`."""
    smallest, largest = GOOD_ANGLES
    return np.clip(np.minimum(angles / smallest, (LARGEST_ANGLE - angles) / (LARGEST_ANGLE - largest)), 0.0, 1.0)


def triangulation_angles(
    points: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the angles (P) in degrees at points (P, 3) between the rays to two camera centres (3)."""
    rays = first - points, second - points
    across = np.linalg.norm(np.cross(*rays), axis=1)
    return np.asarray(np.degrees(np.arctan2(across, (rays[0] * rays[1]).sum(1))), np.float64)


def camera_centres(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centres (n, 3) in the world of poses (n, 4, 4) world to camera."""
    return np.asarray(-np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3]), np.float64)


def seen_in_camera(model: SparseModel, image: int) -> NDArray[np.float64]:
    """Return the points (k, 3) that an image sees, in its camera frame, those behind it left out."""
    pose = model.poses[image]
    points = model.points[model.visible[image]] @ pose[:3, :3].T + pose[:3, 3]
    return np.asarray(points[points[:, 2] > 0], np.float64)


def depth_range(model: SparseModel, image: int, margin: float = 0.15) -> tuple[float, float]:
    """Return the least and largest z of what an image shows, by its points, which must not be none.

    Percentiles 1 and 99, and beyond them a relative `margin`: ``near (1 - margin)`` and ``far / (1 - margin)``.
    """
    near, far = np.percentile(seen_in_camera(model, image)[:, 2], PERCENTILES)
    return float(near * (1 - margin)), float(far / (1 - margin))
