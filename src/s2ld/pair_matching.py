"""Matching pairs of files, among which an image may be many times, with its features computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from s2ld.data.images.reading import UInt8Image
from s2ld.matcher import Matcher
from s2ld.memory import available_memory
from s2ld.types import Extracted, Matches

PathPair = tuple[Path, Path]

CACHE_BYTES = 2**29
"""Features that are kept: about 30 images of Lite at 640 x 480 px, 10 of the paper's network."""


class PairMatching:
    """Matches pairs of a list in turn, and keeps the features of images that are in several of them.

    Beyond `limit` bytes, or a quarter of the available memory, those used least recently are given up, and computed
    again if they are needed. A matcher with rotation "auto" gets both images of each pair, and nothing is kept.
    """

    def __init__(self, matcher: Matcher, pairs: Sequence[PathPair], limit: int = CACHE_BYTES) -> None:
        self.matcher = matcher
        self.limit = min(limit, available_memory() // 4)
        uses = Counter(path for pair in pairs for path in set(pair))
        self._repeated = {path for path, count in uses.items() if count > 1}
        self._kept: dict[Path, Extracted] = {}  # the least recently used first

    def __call__(self, paths: PathPair, image0: UInt8Image, image1: UInt8Image) -> Matches:
        """Match the two images that were read from `paths`; raises `S2LDError` as `Matcher` does."""
        if self.matcher.rotation != "none" or not self._repeated.intersection(paths):
            return self.matcher(image0, image1)
        self.matcher.check_memory(image0.shape[1::-1], image1.shape[1::-1])
        return self.matcher.match(self._extract(paths[0], image0), self._extract(paths[1], image1))

    def _extract(self, path: Path, image: UInt8Image) -> Extracted:
        extracted = self._kept.pop(path, None) or self.matcher.extract(image)
        if path in self._repeated:
            self._kept[path] = extracted
        while sum(kept.features.nbytes for kept in self._kept.values()) > self.limit:
            del self._kept[next(iter(self._kept))]
        return extracted
