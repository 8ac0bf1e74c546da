"""How many frames a second `s2ld track` does, and how far from the truth, on a rendered video."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from s2ld.benchmarks.outcome import Outcome
from s2ld.data.images.reading import UInt8Image
from s2ld.evaluation.shifts import pictures
from s2ld.geometry.homography import corner_error
from s2ld.pretrained import DEFAULT
from s2ld.types import FloatArray
from s2ld.video.follow import Followed, Following, follow_video
from s2ld.video.reading import Frame, Video
from s2ld.video.sightings import frame_matcher
from s2ld.video.tracker import corners_of
from s2ld.video.writing import video_file

SIZE = (480, 360)
"""Of the frames, width and height in px."""
LEAST = 6.0
"""Frames a second that are asked of Lite on two cores."""
RATE = 30.0
"""Frames a second of the rendered video."""
_WARM = 6  # frames before those that count


@dataclass(frozen=True)
class MovingPicture:
    """A video of a picture that sways and tilts before another one, with its true homographies."""

    size: tuple[int, int] = SIZE
    """(width, height) px of the frames; the picture has nine tenths of them as a reference."""
    sway: float = 1 / 30
    """How far each corner moves, of the frames' width."""
    period: float = 90
    """Frames after which it is where it was."""

    @property
    def reference(self) -> UInt8Image:
        """(H, W, 3) RGB: scikit-image's coffee (CC0); raises `S2LDError` where that is not installed."""
        return _ship("coffee", _part(self.size, 0.9))

    def homography(self, number: int) -> FloatArray:
        """Return (3, 3): reference px to px of a frame."""
        phase = 2 * np.pi * number / self.period + np.arange(4)
        place = corners_of(_part(self.size, 0.66)) + np.multiply(self.size, 0.17)
        corners = place + self.sway * self.size[0] * np.stack([np.sin(phase), np.cos(2 * phase)], 1)
        start = corners_of(_part(self.size, 0.9))
        return np.asarray(cv2.getPerspectiveTransform(start.astype(np.float32), corners.astype(np.float32)))

    def frames(self, count: int, hidden: range = range(0)) -> Iterator[Frame]:
        """Give frames; in those of `hidden` only what is behind the picture is seen."""
        behind, picture = _ship("astronaut", self.size), self.reference
        for number in range(count):
            image = behind.copy()
            if number not in hidden:
                H = self.homography(number)
                cv2.warpPerspective(picture, H, self.size, image, borderMode=cv2.BORDER_TRANSPARENT)
            yield Frame(number, number / RATE, image)


def measure(
    frames: int,
    jobs: int,
    threads: int,
    resize: int = SIZE[0],
    precision: str = "auto",
    moving: MovingPicture | None = None,
) -> list[Outcome]:
    """A picture that sways before another one, 480x360 px, as an .mp4: `s2ld track --reference` with Lite on the CPU.

    By the clock and in CPU seconds: reading, matching, drawing and writing, after 6 frames that do not count. The
    error of the homographies in the table is that of the reference's corners, mean of the four, px of the frames.

    Args:
        frames: that are timed.
        jobs: frames that are matched at a time.
        threads: of torch, shared by them.
        resize: longer side at which images are matched, px.
        precision: fp32, bf16 or auto.
        moving: what is filmed; None: a `MovingPicture`.

    Raises:
        S2LDError: scikit-image, which ships the pictures, is not installed.
    """
    torch.set_num_threads(threads)
    moving = moving or MovingPicture()
    matcher = frame_matcher(DEFAULT, None, resize, "cpu", precision)
    following = Following(moving.reference, jobs=jobs)
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        with video_file(film, RATE) as file:
            for frame in moving.frames(frames):
                file.write(frame.image)
        with Video(film) as video:
            follow_video(video, matcher, replace(following, frames=_WARM), Path(folder) / "warm", Followed())
        with Video(film) as video:
            done, start = Followed(), (time.perf_counter(), time.process_time())
            follow_video(video, matcher, following, Path(folder) / "timed", done)
            wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        errors = corner_errors(Path(folder) / "timed.csv", moving)
    load = f"load average of the last minute: {os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else ""
    return [
        Outcome("frames a second, by the clock", done.frames / wall, "", LEAST, True, load),
        Outcome("CPU time a frame", cpu / done.frames, "s"),
        Outcome("frames in which it is tracked", done.tracked / done.frames, "", 1.0, True),
        Outcome("corner error, mean", float(np.nanmean(errors)), "px"),
        Outcome("corner error, largest", float(np.nanmax(errors)), "px"),
    ]


def corner_errors(table: Path, moving: MovingPicture) -> FloatArray:
    """Return how far the homographies of a table are from the truth, (T,) px of the frames; NaN where it is lost."""
    rows = np.loadtxt(table, delimiter=",", skiprows=1, usecols=range(11), ndmin=2)
    width, height = _part(moving.size, 0.9)
    found = torch.from_numpy(rows[:, 2:].reshape(-1, 3, 3))
    true = torch.from_numpy(np.stack([moving.homography(int(number)) for number in rows[:, 0]]))
    errors = corner_error(found, true, width, height).numpy()
    return np.where(np.isfinite(errors), errors, np.nan)


def _part(size: tuple[int, int], share: float) -> tuple[int, int]:
    return round(size[0] * share), round(size[1] * share)


def _ship(name: str, size: tuple[int, int]) -> UInt8Image:
    return np.asarray(cv2.resize(pictures([name])[0], size, interpolation=cv2.INTER_AREA), np.uint8)
