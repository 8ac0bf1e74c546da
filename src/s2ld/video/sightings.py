"""Where a reference lies in each frame of a video, frame by frame: features and matches, several frames at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from s2ld.data.images.reading import UInt8Image
from s2ld.matcher import Matcher
from s2ld.models.checkpoint import load_model
from s2ld.pretrained import resolve
from s2ld.types import Extracted, FloatArray
from s2ld.video.reading import Frame

CANDIDATES = 500
"""Matches of a frame that are judged, the most confident ones: more take time and make the homography no better."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sighting:
    """What matching says of one frame, before anybody judges it."""

    frame: Frame
    homography: FloatArray | None
    """(3, 3) float64, reference px to frame px; None: there is none."""
    points: FloatArray
    """(M, 2) float32 frame px of the inliers."""

    @property
    def inliers(self) -> int:
        """How many matches agree with the homography."""
        return len(self.points)


@dataclass(frozen=True)
class Finding:
    """How a homography is fitted to matches."""

    threshold: float = 2.0
    """Error of an inlier, px of the resized frames."""
    least: int = 15
    """Inliers below which a homography counts as none: unrelated pictures can agree by chance."""


@dataclass(frozen=True)
class _View:
    frame: Frame
    extracted: Extracted


def frame_matcher(
    weight: str | Path,
    threshold: float | None = None,
    max_side: int | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
) -> Matcher:
    """Return a matcher as `Matcher.from_pretrained` does, quicker for `CANDIDATES` where its weights have a consensus.

    Raises:
        S2LDError: as there.
    """
    model, _ = load_model(resolve(weight), model_overrides=("MODEL.CONSENSUS.CANDIDATES", str(CANDIDATES)))
    return Matcher(model, threshold, max_side, device, precision=precision)


def find_reference(
    frames: Iterable[Frame], matcher: Matcher, reference: UInt8Image, finding: Finding, jobs: int = 1
) -> Iterator[Sighting]:
    """Match each frame to a reference, whose features are extracted once; the order is that of the frames.

    Args:
        frames: of one size.
        matcher: with rotation "none".
        reference: (H, W) grey or (H, W, 3) RGB.
        finding: how homographies are fitted.
        jobs: frames that are worked on at a time, by as many threads.

    Raises:
        S2LDError: as `Matcher.extract` does.
    """
    extracted = matcher.extract(reference)
    with _pool(jobs) as pool:
        views = _ahead(pool, lambda frame: _View(frame, matcher.extract(frame.image)), frames, jobs)
        yield from _ahead(pool, lambda view: _sight(matcher, extracted, view, finding), views, jobs)


def find_first_frame(frames: Iterable[Frame], matcher: Matcher, finding: Finding, jobs: int = 1) -> Iterator[Sighting]:
    """Match each frame to the one before it: homographies of the first frame, each the product of all steps until then.

    A frame in which nothing was found is passed over: the ones after it are matched to the last in which something was.
    Errors of the steps add up. Arguments and errors are those of `find_reference`.
    """

    def step_between(pair: tuple[_View, _View]) -> tuple[_View, _View, Sighting]:
        return *pair, _sight(matcher, pair[0].extracted, pair[1], finding)

    with _pool(jobs) as pool:
        views = _ahead(pool, lambda frame: _View(frame, matcher.extract(frame.image)), frames, jobs)
        last: _View | None = None
        chain = np.eye(3)
        for before, view, step in _ahead(pool, step_between, pairwise(_first_twice(views)), jobs):
            if last is not None and last is not before:  # which was lost
                step = _sight(matcher, last.extracted, view, finding)
            if step.homography is None:
                last = last or before
                yield step
                continue
            if last is not None:  # else it is the first frame beside itself
                chain = step.homography @ chain
                chain = chain / np.linalg.norm(chain)
            last = view
            yield Sighting(step.frame, chain, step.points)


def _sight(matcher: Matcher, reference: Extracted, view: _View, finding: Finding) -> Sighting:
    matches = matcher.match(reference, view.extracted)
    resized = max(view.extracted.scale)  # frame px per resized px
    model = matches.estimate("homography", finding.threshold * resized)
    points = matches.points1[model.inliers]
    found = model.matrix is not None and len(points) >= finding.least
    return Sighting(view.frame, model.matrix if found else None, points if found else points[:0])


def _first_twice(views: Iterable[_View]) -> Iterator[_View]:
    """Give each view, the first one twice: its step leads from itself to itself."""
    for number, view in enumerate(views):
        if number == 0:
            yield view
        yield view


@contextmanager
def _pool(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads that share torch's threads among them: small networks gain more by frames than by operations."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // jobs))
    pool = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(max(1, threads // jobs),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[Result]:
    """Give `function` of each item in order; up to `jobs` are computed before they are asked for."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > jobs:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
