"""Draw docs/images/video.jpg: frames of a rendered video in which a picture is followed, lost and found again.

The pictures are those of scikit-image, public domain or CC0. From the repository's root:

    python docs/images/video.py
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import skimage.data

from s2ld import Matcher
from s2ld.benchmarks.tracking import MovingPicture
from s2ld.data.images.reading import write_image
from s2ld.video.follow import Following, follow
from s2ld.viz.tracks import draw_outline, draw_overlay, write_corner

MOVING = MovingPicture(sway=0.1, period=25)
SHOWN = (0, 6, 12, 18)  # numbers of frames in the strip
HIDDEN = range(10, 15)
OVERLAID = 18  # from this frame on the overlay is drawn


def main(output: str = "docs/images/video.jpg") -> None:
    """Follow, draw and write the strip."""
    overlay = np.asarray(skimage.data.chelsea())
    matcher = Matcher.from_pretrained("s2ld-lite", max_side=480, device="cpu")
    strip = []
    for seen in follow(MOVING.frames(max(SHOWN) + 1, HIDDEN), matcher, Following(MOVING.reference)):
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
