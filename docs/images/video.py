"""Draw docs/images/video.jpg: frames of a rendered video in which a picture is followed, lost and found again.

The pictures are those of scikit-image, public domain or CC0. From the repository's root:

    python docs/images/video.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np
import skimage.data

from s2ld import Matcher
from s2ld.data.images.reading import UInt8Image, write_image
from s2ld.video.follow import Following, follow
from s2ld.video.reading import Frame
from s2ld.viz.tracks import draw_outline, draw_overlay, write_corner

SIZE, REFERENCE = (480, 360), (450, 300)  # px
SHOWN = (0, 6, 12, 18)  # numbers of frames in the strip
HIDDEN = range(10, 15)
OVERLAID = 18  # from this frame on the overlay is drawn


def ship(name: str, size: tuple[int, int]) -> UInt8Image:
    """Return a picture of scikit-image at a size."""
    return np.asarray(cv2.resize(np.asarray(getattr(skimage.data, name)()), size, interpolation=cv2.INTER_AREA))


def frames() -> Iterator[Frame]:
    """Give frames of the picture as it tilts before another one, and behind nothing in those of `HIDDEN`."""
    behind, shown = ship("astronaut", SIZE), ship("coffee", REFERENCE)
    right, bottom = REFERENCE[0] - 1, REFERENCE[1] - 1
    ends = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)
    for number in range(max(SHOWN) + 1):
        a = 0.25 * number
        corners = np.array([[90, 70], [390, 70], [390, 290], [90, 290]])
        corners = corners + 45 * np.stack([np.sin(a + np.arange(4)), np.cos(2 * a / 3 + np.arange(4))], 1)
        image = behind.copy()
        if number not in HIDDEN:
            H = cv2.getPerspectiveTransform(ends, corners.astype(np.float32))
            image = np.asarray(cv2.warpPerspective(shown, H, SIZE, image, borderMode=cv2.BORDER_TRANSPARENT), np.uint8)
        yield Frame(number, number / 30, image)


def main(output: str = "docs/images/video.jpg") -> None:
    """Follow, draw and write the strip."""
    reference, overlay = ship("coffee", REFERENCE), ship("chelsea", REFERENCE)
    matcher = Matcher.from_pretrained("s2ld-lite", max_side=480, device="cpu")
    strip = []
    for seen in follow(frames(), matcher, Following(reference)):
        image, track = seen.sighting.frame.image, seen.track
        text = f"frame {seen.sighting.frame.number}  lost"
        if track.corners is not None:
            text = f"frame {seen.sighting.frame.number}  {track.inliers} inliers"
            on_top = seen.sighting.frame.number >= OVERLAID
            image = draw_overlay(image, overlay, track.corners) if on_top else image
            image = draw_outline(image, track.corners, None if on_top else seen.sighting.points)
        if seen.sighting.frame.number in SHOWN:
            strip.append(
                cv2.copyMakeBorder(write_corner(image, text), 0, 0, 0, 4, cv2.BORDER_CONSTANT, value=(255,) * 3)
            )
    write_image(
        np.asarray(cv2.resize(np.hstack(strip), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)), output, 80
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
