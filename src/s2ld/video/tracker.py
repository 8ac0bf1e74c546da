"""From what matching says of each frame to a steady outline: judged, smoothed, lost and found; no state but its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from s2ld.types import FloatArray

State = Literal["tracked", "lost"]
REST = 1.0
"""Hz: cutoff frequency of the smoothing for corners that rest."""
SPEED = 2.0
"""Hz: cutoff frequency of their speed's own smoothing."""
LEAST_AREA = 0.001
"""Of the frame's area: an outline below it counts as none."""


@dataclass(frozen=True)
class Smoothing:
    """The 1 € filter (Casiez, Roussel and Vogel, CHI 2012) on the four corners of the reference as they lie in frames.

    With x the measured and s the smoothed corners (4, 2) px, v their speed px/s, dt the seconds since the last frame::

        a(f) = 1 / (1 + 1 / (2 pi f dt))
        v <- v + a(SPEED) ((x - s) / dt - v)        (x - s) / dt where there is no v yet
        f  = REST + |v| / (2 pi lag)                |v|: root of the mean square over the corners
        s <- s + a(f) (x - s)

    Corners at a steady speed u fall behind by u / (2 pi f), which is less than `lag`. Corners are smoothed, and not the
    entries of the matrix, because those have no common unit and their size depends on where the origin lies.
    """

    lag: float = 0.5
    """px by which corners may fall behind; 0: no smoothing."""

    def step(
        self, smoothed: FloatArray, speed: FloatArray | None, measured: FloatArray, dt: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return the next smoothed corners and speed, (4, 2) each; `dt` s is positive, no `speed` is known at first."""
        now = (measured - smoothed) / dt
        speed = now if speed is None else speed + _share(SPEED, dt) * (now - speed)
        if self.lag == 0:
            return measured, speed
        mean = float(np.sqrt((speed**2).sum(1).mean()))
        cutoff = REST + mean / (2 * math.pi * self.lag)
        return smoothed + _share(cutoff, dt) * (measured - smoothed), speed


@dataclass(frozen=True)
class Track:
    """Where the reference is, as far as it is known after a frame."""

    size: tuple[int, int]
    """(width, height) px of the reference."""
    seconds: float = 0.0
    """Of the frame."""
    corners: FloatArray | None = None
    """(4, 2) float64 frame px: the reference's corners, clockwise from the upper left; None: lost."""
    speed: FloatArray | None = None
    """(4, 2) px/s of the corners; None: not known yet."""
    inliers: int = 0

    @property
    def state(self) -> State:
        """Whether the reference is seen."""
        return "lost" if self.corners is None else "tracked"

    @property
    def homography(self) -> FloatArray | None:
        """(3, 3) float64, reference px to frame px, that takes the reference's corners to `corners`; None: lost."""
        if self.corners is None:
            return None
        return np.asarray(
            cv2.getPerspectiveTransform(corners_of(self.size).astype(np.float32), self.corners.astype(np.float32))
        )


def advance(
    track: Track,
    homography: FloatArray | None,
    inliers: int,
    seconds: float,
    frame_size: tuple[int, int],
    smoothing: Smoothing,
) -> Track:
    """Return the track after a frame.

    Args:
        track: after the frame before, or `Track(size)` at the start.
        homography: (3, 3) as measured, reference px to frame px; None: none was found.
        inliers: matches that agree with it.
        seconds: of the frame, after those of the track, but for the first one.
        frame_size: (width, height) px.
        smoothing: of the corners; it begins anew where the reference was lost.
    """
    measured = None if homography is None else outline(homography, track.size)
    if measured is None or not is_plausible(measured, frame_size):
        return Track(track.size, seconds)
    if track.corners is None:
        return Track(track.size, seconds, measured, None, inliers)
    corners, speed = smoothing.step(track.corners, track.speed, measured, seconds - track.seconds)
    return Track(track.size, seconds, corners, speed, inliers)


def corners_of(size: tuple[int, int]) -> FloatArray:
    """Return the centres of the corner pixels of an image of (width, height) px: (4, 2) float64, clockwise."""
    right, bottom = size[0] - 1.0, size[1] - 1.0
    return np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])


def outline(homography: FloatArray, size: tuple[int, int]) -> FloatArray | None:
    """Return the corners of an image of (width, height) px as a homography maps them, (4, 2) float64.

    None where it is not finite or takes a part of the image through infinity.
    """
    mapped = np.column_stack([corners_of(size), np.ones(4)]) @ np.asarray(homography, np.float64).T
    w = mapped[:, 2] * np.sign(mapped[0, 2])
    if not np.isfinite(mapped).all() or not (w > 1e-9 * np.abs(mapped).max()).all():
        return None
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def is_plausible(corners: FloatArray, frame_size: tuple[int, int]) -> bool:
    """Tell whether an outline (4, 2) px can be that of a flat picture: convex, not mirrored, not tiny."""
    sides = np.roll(corners, -1, 0) - corners
    turns = sides[:, 0] * np.roll(sides[:, 1], -1) - sides[:, 1] * np.roll(sides[:, 0], -1)
    area = 0.5 * float((corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1)).sum())
    return bool((turns > 0).all()) and area >= LEAST_AREA * frame_size[0] * frame_size[1]


def _share(frequency: float, dt: float) -> float:
    """Return the share of what is new that a low pass with a cutoff `frequency` Hz takes after `dt` s."""
    return 1 / (1 + 1 / (2 * math.pi * frequency * dt))
