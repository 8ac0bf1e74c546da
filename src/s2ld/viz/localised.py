"""A photograph with a model's points drawn in: do they lie where they should?"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.reading import UInt8Image, resize
from s2ld.types import FloatArray
from s2ld.viz.tracks import OUTLINE, POINT, draw_points, write_corner

LONGEST = 1200
"""px: longer side of the picture, at most."""
DIMMED = 0.6
"""Of the photograph's brightness, so that points are seen on it."""


def draw_localised(
    image: UInt8Image, projected: FloatArray, points: FloatArray, inliers: NDArray[np.bool_], text: str
) -> UInt8Image:
    """Return a picture (H, W, 3) RGB.

    Args:
        image: the photograph, (H, W, 3) RGB.
        projected: (P, 2) px, where the pose sees the model's points: white, the smallest.
        points: (M, 2) px, where points were found: sky blue those that agree with the pose, orange the others.
        inliers: (M,) which agree.
        text: a line at the upper left; ASCII alone.
    """
    scale = min(1.0, LONGEST / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = resize(image, size)[0]
    canvas: UInt8Image = np.asarray(small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB), np.uint8)
    canvas = np.rint(DIMMED * canvas).astype(np.uint8)
    for found, colour, width in (
        (projected, (255, 255, 255), 1 / 800),
        (points[~inliers], OUTLINE, 1 / 400),
        (points[inliers], POINT, 1 / 400),
    ):
        canvas = draw_points(canvas, (found + 0.5) * scale - 0.5, colour, width)
    return write_corner(canvas, text)
