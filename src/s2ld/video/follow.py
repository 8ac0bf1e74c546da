"""A video in, a video with what was followed and a table of homographies out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from s2ld.data.images.reading import UInt8Image
from s2ld.files import make_folder
from s2ld.log import Progress, logger
from s2ld.matcher import Matcher
from s2ld.video.reading import Frame, Video
from s2ld.video.sightings import Finding, Sighting, find_first_frame, find_reference
from s2ld.video.tracker import Smoothing, Track, advance
from s2ld.video.writing import table_file, video_file
from s2ld.viz.tracks import draw_outline, draw_overlay, write_corner

_RECENT = 30  # frames over which the rate in the picture is measured


@dataclass(frozen=True)
class Following:
    """What is followed, how, and what is drawn."""

    reference: UInt8Image | None = None
    """(H, W, 3) RGB; None: the first frame, by steps from each frame to the next."""
    overlay: UInt8Image | None = None
    """(H, W, 3) RGB, drawn in the reference's place; None: its outline and the inliers."""
    finding: Finding = Finding()  # noqa: RUF009 (frozen)
    smoothing: Smoothing = Smoothing()  # noqa: RUF009 (frozen)
    jobs: int = 1
    """Frames that are worked on at a time."""
    frames: int | None = None
    """Most frames; None: all."""


@dataclass
class Followed:
    """What was done, so far."""

    frames: int = 0
    tracked: int = 0
    """Frames in which the reference was found."""
    seconds: float = 0.0
    """By the clock, reading and writing in them."""

    def __str__(self) -> str:
        rate = self.frames / self.seconds if self.seconds else 0.0
        return f"{self.tracked} of {self.frames} frames tracked, {rate:.1f} frames a second"


@dataclass(frozen=True)
class Seen:
    """A frame and the track after it."""

    sighting: Sighting
    track: Track


def follow(frames: Iterable[Frame], matcher: Matcher, following: Following) -> Generator[Seen, None, None]:
    """Follow a reference through frames, in their order; nothing is written.

    Raises:
        S2LDError: as `find_reference` does.
    """
    reference, track = following.reference, None
    common = (following.finding, following.jobs)
    if reference is None:
        sightings = find_first_frame(frames, matcher, *common)
    else:
        sightings = find_reference(frames, matcher, reference, *common)
    for sighting in sightings:
        size = _size(sighting.frame.image)
        track = track or Track(size if reference is None else _size(reference))
        seconds = sighting.frame.seconds
        track = advance(track, sighting.homography, sighting.inliers, seconds, size, following.smoothing)
        yield Seen(sighting, track)


def follow_video(video: Video, matcher: Matcher, following: Following, stem: Path, done: Followed) -> None:
    """Follow a reference and write `stem`.mp4 and `stem`.csv, which are whole however this ends.

    Args:
        video: the source; the frames of a camera are shown as long as they took.
        matcher: with rotation "none".
        following: what and how.
        stem: path without a suffix.
        done: counts what was done, for a caller that interrupts it too.

    Raises:
        S2LDError: as `Video`, `follow` and the writers do.
    """
    make_folder(stem.parent)
    total = min(filter(None, (video.count, following.frames)), default=None)
    seen = follow(islice(video, following.frames), matcher, following)
    before, start, ends = "tracked", time.monotonic(), deque([time.monotonic()], _RECENT + 1)
    mp4, csv = (stem.parent / f"{stem.name}{suffix}" for suffix in (".mp4", ".csv"))
    with (
        closing(seen),
        table_file(csv) as table,
        video_file(mp4, video.rate) as file,
        Progress(total=total, unit="frame") as bar,
    ):
        for one in seen:
            frame, track = one.sighting.frame, one.track
            table.write(frame.number, track)
            ends.append(time.monotonic())
            rate = (len(ends) - 1) / max(ends[-1] - ends[0], 1e-6)
            times = max(0, round(frame.seconds * video.rate) + 1 - file.frames) if video.camera else 1
            file.write(draw(one, following.overlay, rate), times)
            if track.state != before:
                what = "lost" if track.state == "lost" else "found again" if done.tracked else "found"
                logger.info("{} at {:.2f} s, frame {}", what, frame.seconds, frame.number)
            before = track.state
            done.frames, done.tracked = done.frames + 1, done.tracked + (track.state == "tracked")
            done.seconds = time.monotonic() - start
            bar.update()


def draw(seen: Seen, overlay: UInt8Image | None, rate: float) -> UInt8Image:
    """Return a frame, (H, W, 3) RGB, with the track and, in its corner, `rate` frames a second and the inliers."""
    image, track = seen.sighting.frame.image, seen.track
    if track.corners is not None:
        if overlay is not None:
            image = draw_overlay(image, overlay, track.corners)
        else:
            image = draw_outline(image, track.corners, seen.sighting.points)
    state = "lost" if track.state == "lost" else f"{track.inliers} inliers"
    return write_corner(image, f"{rate:.1f} frames/s  {state}")


def _size(image: UInt8Image) -> tuple[int, int]:
    return image.shape[1], image.shape[0]
