"""What tracking leaves behind: a video and a table, both good whenever it stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from s2ld.data.images.decoders import quiet_decoders
from s2ld.data.images.reading import UInt8Image
from s2ld.errors import S2LDError
from s2ld.video.tracker import Track

COLUMNS = ("frame", "time", *(f"h{row}{column}" for row in range(3) for column in range(3)), "inliers", "state")
"""Of the table: the frame's number from 0, s, homography row by row, NaN where it is lost, and tracked or lost."""


class VideoFile:
    """An .mp4 file of one frame rate (MPEG-4 part 2), made by `video_file`; frames without sound."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.frames = 0
        """Written so far."""
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: UInt8Image, times: int = 1) -> None:
        """Append (H, W, 3) RGB, all of one size of at least 2 x 2 px; of an odd side the last row is cut off.

        Raises:
            S2LDError: the file cannot be written.
        """
        with quiet_decoders():
            if self._writer is None:
                size = image.shape[1], image.shape[0]
                self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, size)
            if not self._writer.isOpened():
                raise _unwritable(self.path)
            picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            for _ in range(times):
                self._writer.write(picture)
        self.frames += times

    def close(self) -> None:
        """End the file; OpenCV says nothing of a full disk, so that its frames are counted.

        Raises:
            S2LDError: not all frames are in it.
        """
        if self._writer is None:
            return
        with quiet_decoders():
            self._writer.release()
            written = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
            count = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
            written.release()
        if count < self.frames:
            raise _unwritable(self.path)


@contextmanager
def video_file(path: Path, rate: float) -> Iterator[VideoFile]:
    """Give a `VideoFile` beside `path` that takes its place at the end, however the block ends; none without a frame.

    Args:
        path: ends in .mp4; its folder is there.
        rate: frames a second.

    Raises:
        S2LDError: the file cannot be written.
    """
    part = path.with_name(f"{path.stem}.part.mp4")
    part.unlink(missing_ok=True)
    video = VideoFile(part, rate)
    try:
        yield video
    finally:
        try:
            video.close()
            if video.frames:
                os.replace(part, path)
        except OSError as error:
            raise _unwritable(path) from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


class Table:
    """A .csv file of homographies, a whole line for each frame as it comes; a context of `table_file`."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._line(COLUMNS)

    def write(self, number: int, track: Track) -> None:
        """Append a line.

        Raises:
            S2LDError: the disk is full.
        """
        matrix = np.full(9, np.nan) if track.homography is None else track.homography.ravel()
        entries = [f"{value:.9g}" for value in matrix]
        self._line([str(number), f"{track.seconds:.4f}", *entries, str(track.inliers), track.state])

    def _line(self, cells: tuple[str, ...] | list[str]) -> None:
        try:
            self._file.write(",".join(cells) + "\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._path) from error


@contextmanager
def table_file(path: Path) -> Iterator[Table]:
    """Open a `Table`.

    Raises:
        S2LDError: the file cannot be written.
    """
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path) from error
    try:
        yield Table(path, file)
    finally:
        with suppress(OSError):  # what could not be written was said
            file.close()


def _unwritable(path: Path) -> S2LDError:
    return S2LDError(f"{path}: cannot write this file; is the disk full, or the frame below 2 x 2 px?")
