"""What the matching of a folder will take, told before it begins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from s2ld.errors import S2LDError
from s2ld.sfm.matching.storage.features import MEMORY

DAY = 86_400.0
"""Seconds beyond which nothing is begun that was not agreed to."""
WRITTEN = 3
"""Bytes of all files of a pair, over those of its record in the journal."""


@dataclass(frozen=True)
class Rate:
    """What one image and one pair take, measured on a pair of the folder."""

    extract: float
    """Seconds an image."""
    match: float
    """Seconds a pair."""
    features: int
    """Bytes of an image's features, which are kept while pairs are matched."""
    image: int
    """Bytes of an image's record in the journal."""
    pair: int
    """Bytes of a pair's record in the journal."""


@dataclass(frozen=True)
class Cost:
    """What is left to do."""

    images: int
    pairs: int
    seconds: float
    scratch: int
    """Bytes on the disk until all pairs are matched."""
    disk: int
    """Bytes on the disk that stay."""

    def __str__(self) -> str:
        return (
            f"{self.pairs:,} pairs, about {_duration(self.seconds)}, {_size(self.disk)} on the disk and "
            f"{_size(self.scratch)} meanwhile"
        )


def cost_of(images: int, pairs: int, rate: Rate, jobs: int) -> Cost:
    """Return what images and pairs take that are not done yet.

    Args:
        images: whose features are to be computed.
        pairs: to be matched.
        rate: of one.
        jobs: processes that share the work.
    """
    seconds = (images * rate.extract + pairs * rate.match) / jobs
    features = images * rate.features
    scratch = features if jobs > 1 else max(0, features - MEMORY)
    return Cost(images, pairs, seconds, scratch, round(images * rate.image + pairs * rate.pair * WRITTEN))


def refuse_unless_agreed(cost: Cost, output: Path, agreed: bool) -> None:
    """Raise for what takes more than a day, or more than the disk has, unless it was agreed to.

    Raises:
        S2LDError: it tells the cost, and what to do.
    """
    if agreed:
        return
    if cost.seconds > DAY:
        raise S2LDError(
            f"{output}: {cost}: more than a day; add --yes to do it, or take fewer pairs (--pairs retrieval, "
            "--neighbours N) or a GPU"
        )
    free = shutil.disk_usage(output).free
    if cost.disk > free:
        raise S2LDError(
            f"{output}: {cost}, of which {_size(free)} are free; make room, take fewer pairs, or add --yes to begin"
        )


def _duration(seconds: float) -> str:
    for unit, length in (("days", DAY), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
