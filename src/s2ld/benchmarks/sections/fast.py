"""Section `fast`: Lite compiled for one size beside Lite as it is."""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from s2ld.benchmarks.outcome import Outcome
from s2ld.data.images.motorcycle import load_motorcycle
from s2ld.data.images.reading import UInt8Image, resize
from s2ld.log import Progress
from s2ld.matcher import Matcher
from s2ld.types import Matches

SIZE = (640, 480)
NEAR = 0.02  # px: matches that are the same
SAME = 0.99
"""Least share of matches that are the same."""


def measure(threads: int, rounds: int, size: tuple[int, int] = SIZE) -> list[Outcome]:
    """Lite at 640x480 by Matcher(..., fast=True), compiled by torch.compile, beside Lite as it is, in turn.

    images: the motorcycle pair, as uint8 arrays of this size, to points; time: CPU seconds, median of twice the rounds
    after one that is not counted. Compiling: once a process, the C++ compiler's time in it, with an empty cache; from
    PyTorch's cache on the disk it takes less. same: matches of which both points agree within 0.02 px.

    Args:
        threads: of the processor.
        rounds: half the number of timed pairs.
        size: width and height, px.

    Raises:
        S2LDError: no compiler that works, or scikit-image, which ships the pair, is not installed.
    """
    torch.set_num_threads(threads)
    stereo = load_motorcycle()
    images = [resize(image, size)[0] for image in (stereo.left, stereo.right)]
    plain = Matcher.from_pretrained(device="cpu", size=size)
    start, clock = _cpu(), time.perf_counter()
    with _empty_cache():
        fast = Matcher.from_pretrained(device="cpu", size=size, fast=True)
    cost, passed = _cpu() - start, time.perf_counter() - clock
    times: dict[str, list[float]] = {"plain": [], "fast": []}
    for number in Progress(range(2 * rounds + 1), unit="round"):
        for name, matcher in (("plain", plain), ("fast", fast)):
            seconds = _seconds(matcher, images)
            if number:
                times[name].append(seconds)
    ratio = statistics.median(a / b for a, b in zip(times["fast"], times["plain"], strict=True))
    saved = statistics.median(times["plain"]) - statistics.median(times["fast"])
    note = f"pays after {cost / saved:,.0f} pairs" if saved > 0 else "does not pay"
    ours, theirs = plain(*images), fast(*images)
    same = _same(ours, theirs)
    return [
        Outcome("as it is: CPU time", statistics.median(times["plain"]), "s"),
        Outcome("compiled: CPU time", statistics.median(times["fast"]), "s"),
        Outcome("compiled / as it is", ratio, "", 1.0),
        Outcome("compiling: CPU time", cost, "s", note=note),
        Outcome("compiling, by the clock", passed, "s"),
        Outcome("same matches", same, "", SAME, at_least=True, note=f"of {len(ours)} and {len(theirs)}"),
    ]


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Compile anew, and in processes that this one waits for, so that their time is known."""
    from torch._inductor import config

    with tempfile.TemporaryDirectory() as folder, config.patch(compile_threads=1):
        before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TORCHINDUCTOR_CACHE_DIR"]
            else:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


def _cpu() -> float:
    """CPU seconds of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _seconds(matcher: Matcher, images: list[UInt8Image]) -> float:
    start = time.process_time()
    matcher(*images)
    return time.process_time() - start


def _same(ours: Matches, theirs: Matches) -> float | None:
    """Share of all matches that both have; None where there are none."""
    if not len(ours) or not len(theirs):
        return None
    a, b = (np.concatenate([m.points0, m.points1], 1) for m in (ours, theirs))
    nearest = np.abs(a[:, None] - b[None]).max(2).min(1)
    return float((nearest <= NEAR).sum() / max(len(a), len(b)))
