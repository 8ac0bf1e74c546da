"""A frame of a video with what was found in it: an outline or a picture in its place, points, and a line of text."""

from __future__ import annotations

import cv2
import numpy as np

from s2ld.data.images.reading import UInt8Image
from s2ld.types import FloatArray

OUTLINE, POINT = (230, 159, 0), (86, 180, 233)
"""Orange and sky blue of Okabe and Ito, RGB, which colour-blind people tell apart."""
_SHIFT = 4  # bits behind the point in which OpenCV takes places to draw at
_FAR = 1e5  # px beyond which lines are cut, so that their ends fit into OpenCV's integers
_LINE = 1 / 240  # of the frame's shorter side: width of the outline


def draw_outline(image: UInt8Image, corners: FloatArray, points: FloatArray | None = None) -> UInt8Image:
    """Return a copy of a frame with an outline and, under it, points.

    Args:
        image: (H, W, 3) RGB.
        corners: (K, 2) px, in order; what lies outside is cut off.
        points: (M, 2) px.
    """
    canvas = image.copy()
    width = max(1, round(min(image.shape[:2]) * _LINE))
    if points is not None:
        canvas = draw_points(canvas, points, POINT, _LINE)
    cv2.polylines(canvas, [_fixed(corners)], True, OUTLINE, 2 * width, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_points(image: UInt8Image, points: FloatArray, colour: tuple[int, int, int], width: float) -> UInt8Image:
    """Return a copy of an image (H, W, 3) RGB with points (M, 2) px; `width` is the radius, of the shorter side."""
    canvas = image.copy()
    radius = max(1, round(min(image.shape[:2]) * width))
    for x, y in _fixed(points):
        cv2.circle(canvas, (int(x), int(y)), radius << _SHIFT, colour, -1, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_overlay(image: UInt8Image, overlay: UInt8Image, corners: FloatArray) -> UInt8Image:
    """Return a copy of a frame (H, W, 3) RGB with a picture (h, w, 3) in the place of an outline (4, 2) px.

    The picture is stretched to the outline, its upper left corner at the first of `corners`; its edges are blended.
    """
    height, width = overlay.shape[:2]
    ends = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    matrix = cv2.getPerspectiveTransform(ends, corners.astype(np.float32))
    size = image.shape[1], image.shape[0]
    picture = cv2.warpPerspective(overlay, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, size)[..., None]
    return np.asarray(np.rint(image + share * (picture.astype(np.float32) - image)), np.uint8)


def write_corner(image: UInt8Image, text: str) -> UInt8Image:
    """Return a copy of a frame (H, W, 3) RGB with a line of text at its upper left, on a dark ground; ASCII alone."""
    canvas = image.copy()
    size = max(0.4, min(image.shape[:2]) / 800)
    thick = max(1, round(1.5 * size))
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
    pad = height // 2
    box = canvas[: height + below + 2 * pad, : width + 2 * pad]
    box[:] = box // 3
    place = pad, pad + height
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thick, cv2.LINE_AA)
    return canvas


def _fixed(points: FloatArray) -> FloatArray:
    """Return points (P, 2) px as OpenCV draws them."""
    return np.asarray(np.rint(np.clip(points, -_FAR, _FAR) * (1 << _SHIFT)), np.int32)
