"""Frames that show a picture under known homographies before another one, drawn by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.reading import UInt8Image
from s2ld.video.reading import Frame

SIZE = (240, 184)
"""Width and height of the frames, px."""
REFERENCE = (216, 144)
"""Of the picture."""
RATE = 30.0


def picture() -> UInt8Image:
    """The reference, of scikit-image (CC0)."""
    return _ship("coffee", REFERENCE)


def homography(number: int) -> NDArray[np.float64]:
    """Reference px to px of frame `number`: a swaying, tilting picture, some 2 px a frame."""
    phase = 2 * np.pi * number / 60
    sway = np.array([12 * np.sin(phase), 8 * np.cos(phase)])
    tilt = 7 * np.stack([np.sin(phase + np.arange(4)), np.cos(2 * phase + np.arange(4))], 1)
    corners = np.array([[40, 30], [200, 30], [200, 150], [40, 150]]) + sway + tilt
    width, height = REFERENCE
    ends = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(ends, corners.astype(np.float32)))


def frames(count: int, hidden: range = range(0), every: int = 1) -> Iterator[Frame]:
    """Give frames; in those of `hidden` the picture is not there. `every`: of so many the first one."""
    behind, shown = _ship("astronaut", SIZE), picture()
    for number in range(0, count * every, every):
        image = behind.copy()
        if number not in hidden:
            H = homography(number)
            image = np.asarray(cv2.warpPerspective(shown, H, SIZE, image, borderMode=cv2.BORDER_TRANSPARENT), np.uint8)
        yield Frame(number, number / RATE, image)


def _ship(name: str, size: tuple[int, int]) -> UInt8Image:
    import skimage.data

    image = np.asarray(getattr(skimage.data, name)())
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
