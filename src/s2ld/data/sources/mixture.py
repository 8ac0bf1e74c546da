"""Several sources as one endless source."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from s2ld.data.sample import PairSample, PairSource, epoch_pairs_of
from s2ld.errors import S2LDError

ENDLESS = 2**31
"""Length of a source that makes its pairs from the index: longer than any training run."""


class MixturePairs:
    """Draws each index from one of `sources`, by weight: a pure function of (seed, index).

    An endless source gets the index itself. A finite one is gone through in a new order each time: index i is
    element ``i mod n`` of the pass ``i // n``, whose permutation depends on (seed, pass) only. Each source gets only
    part of its indices, a random one: what it shares out evenly (`SceneOrder`) stays even in expectation.

    Args:
        sources: the sources to draw from.
        weights: their shares, any positive scale.
        seed: of the draw.

    Raises:
        S2LDError: no source, weights of another number, a weight that is negative or a sum of zero, an empty source.
    """

    def __init__(self, sources: Sequence[PairSource], weights: Sequence[float], seed: int) -> None:
        if not sources or len(sources) != len(weights):
            raise S2LDError(
                f"DATA.TRAIN_WEIGHTS has {len(weights)} values for {len(sources)} DATA.TRAIN_SOURCES; give one a source"
            )
        if min(weights) < 0 or sum(weights) <= 0:
            raise S2LDError(f"DATA.TRAIN_WEIGHTS {list(weights)}: shares must be at least 0 and not all 0")
        if min(len(source) for source in sources) == 0:
            raise S2LDError("DATA.TRAIN_SOURCES: a source has no pair; widen its filters or take it out")
        self.sources = list(sources)
        self.seed = seed
        self._bounds = np.cumsum(np.asarray(weights, np.float64)) / float(sum(weights))

    def __len__(self) -> int:
        return ENDLESS

    @property
    def epoch_pairs(self) -> int | None:
        """Pairs of an epoch of the one source there is; None of several sources, or of one without epochs."""
        return epoch_pairs_of(self.sources[0]) if len(self.sources) == 1 else None

    def source_of(self, index: int) -> int:
        """Return which of the sources makes pair `index`."""
        draw = np.random.default_rng((self.seed, index)).random()
        return min(int(np.searchsorted(self._bounds, draw, side="right")), len(self.sources) - 1)

    def __getitem__(self, index: int) -> PairSample:
        source = self.sources[self.source_of(index)]
        length = len(source)
        if length >= ENDLESS:
            return source[index]
        return source[int(_order(self.seed, index // length, length)[index % length])]


class SubsetPairs:
    """At most `count` pairs of a finite source, evenly spread over it and always the same."""

    def __init__(self, source: PairSource, count: int) -> None:
        self.source = source
        self._indices = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(np.int64))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> PairSample:
        return self.source[int(self._indices[index])]


class ReadyPairs:
    """A few pairs that are in memory already, again and again.

    Args:
        samples: at least one.
        length: pairs in all; endless by default.
    """

    def __init__(self, samples: Sequence[PairSample], length: int = ENDLESS) -> None:
        self._samples = list(samples)
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> PairSample:
        return self._samples[index % len(self._samples)]


class JoinedPairs:
    """Finite sources one after the other."""

    def __init__(self, sources: Sequence[PairSource]) -> None:
        self.sources = list(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> PairSample:
        which = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[which - 1]) if which else 0
        return self.sources[which][index - before]


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, turn, length)).permutation(length)
