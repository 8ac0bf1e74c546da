"""The frames of a video's file or of a camera."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from s2ld.data.images.decoders import quiet_decoders
from s2ld.data.images.image_files import PHOTO_SUFFIXES, check_size
from s2ld.data.images.reading import UInt8Image
from s2ld.errors import S2LDError
from s2ld.files import printable
from s2ld.log import logger

DEFAULT_RATE = 30.0
"""Frames a second where a source tells none, as many cameras do, or what nobody films with."""
_RATES = (1.0, 1000.0)  # believed, frames a second
_MISSING = 0.02  # share of the declared frames that may be missing at the end: some containers only estimate them


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    number: int
    """From 0."""
    seconds: float
    """Since the first frame."""
    image: UInt8Image
    """(H, W, 3) RGB, upright."""


class Video:
    """The frames of a source in their order; a context manager that closes it.

    Args:
        source: a file, or the number of a camera as a whole number or its digits, where no file has that name.

    Raises:
        S2LDError: no such file or camera, or nothing that can be decoded.
    """

    def __init__(self, source: str | Path | int) -> None:
        text = str(source)
        self.camera = isinstance(source, int) or (text.isdecimal() and not Path(text).exists())
        self.name = f"camera {text}" if self.camera else printable(text)
        """For messages."""
        if not self.camera:
            _check_file(Path(text), self.name)
        with quiet_decoders():
            capture = cv2.VideoCapture(int(text)) if self.camera else cv2.VideoCapture(text, cv2.CAP_FFMPEG)
        self._capture = capture
        if not capture.isOpened():
            raise S2LDError(
                f"{self.name}: there is no such camera, or another program has it; give another number, or a file"
                if self.camera
                else f"{self.name}: not a video that can be decoded; is the file complete?"
            )
        if self.camera:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not one that waited
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if _RATES[0] <= rate <= _RATES[1] else DEFAULT_RATE
        """Frames a second."""
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(count) if not self.camera and math.isfinite(count) and count > 0 else None
        """Frames that the file declares, often exact; None where it does not tell."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames, once; those of a file have the size of the first. One that breaks off is told.

        Raises:
            S2LDError: there is no frame, or a camera changes their size.
        """
        number, size, start = 0, (0, 0), time.monotonic()
        before = -math.inf
        while (image := self._read()) is not None:
            now = (image.shape[1], image.shape[0])
            if number == 0:
                check_size(*now, self.name)
                size = now
            if now != size:
                raise S2LDError(
                    f"{self.name}: frame {number} has {now[0]} x {now[1]} px, those before it {size[0]} x {size[1]}; "
                    "start again"
                )
            seconds = time.monotonic() - start if self.camera else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if not (math.isfinite(seconds) and seconds > before):  # a container without times
                seconds = before + 1 / self.rate if number else 0.0
            before = seconds
            yield Frame(number, seconds, image)
            number += 1
        if number == 0:
            remedy = "is another program using it?" if self.camera else "is the file complete?"
            raise S2LDError(f"{self.name}: not one frame can be read from it; {remedy}")
        if self.camera:
            logger.warning("{} gives no more frames", self.name)
        elif self.count is not None and number < (1 - _MISSING) * self.count - 1:
            logger.warning("{} ends after {} of {} frames; is the file complete?", self.name, number, self.count)

    def _read(self) -> UInt8Image | None:
        try:
            with quiet_decoders():
                done, image = self._capture.read()
        except cv2.error:
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8) if done else None


def _check_file(path: Path, name: str) -> None:
    """Refuse what OpenCV would take for a video of one frame, or say nothing of."""
    if not path.is_file():
        raise S2LDError(f"{name}: no such video; check the path, or give the number of a camera")
    if path.suffix.lower() in PHOTO_SUFFIXES:
        raise S2LDError(f"{name}: a picture, not a video; s2ld match takes pictures")
