"""Cached candidates as a training source, and those that are held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from s2ld.config import CN
from s2ld.data.index.scene_order import shuffled
from s2ld.data.sources.mixture import ENDLESS
from s2ld.errors import S2LDError
from s2ld.training.consensus.augmentation import augment
from s2ld.training.consensus.cache import CACHE_NAME, read_pair
from s2ld.training.consensus.candidates import CandidatePair, LabelledPair
from s2ld.training.consensus.labels import label
from s2ld.types import Candidates


class CachedCandidates:
    """An endless source of labelled candidates, a pure function of (seed, index).

    It goes through the pairs in a new order each time, without those that are held out, the last ones, and changes
    each anew (`augment`). The cache need not be there before the first is asked for.

    Args:
        path: of the cache.
        config: the whole config.

    Raises:
        S2LDError: no pair is left to train on.
    """

    def __init__(self, path: Path, config: CN) -> None:
        pairs = int(config.TRAIN.CANDIDATES.PAIRS)
        self.path = path
        self.config = config
        self.epoch_pairs = pairs - round(config.TRAIN.CANDIDATES.HELD_OUT * pairs)
        """Pairs that are trained on."""
        if self.epoch_pairs < 1:
            raise S2LDError(f"TRAIN.CANDIDATES.HELD_OUT leaves none of {pairs} pairs to train on; lower it")

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> LabelledPair:
        seed = int(self.config.TRAIN.SEED)
        turn, place = divmod(index, self.epoch_pairs)
        pair = self._read(shuffled(place, self.epoch_pairs, seed, turn))
        rng = np.random.default_rng((seed, index))
        candidates, labels = augment(pair.candidates, pair.labels, self.config.TRAIN.CANDIDATES, rng)
        return replace(pair, candidates=candidates, labels=labels)

    def held_out(self) -> Iterator[LabelledPair]:
        """Yield the pairs that are held out, as they are."""
        yield from map(self._read, range(self.epoch_pairs, int(self.config.TRAIN.CANDIDATES.PAIRS)))

    def _read(self, number: int) -> LabelledPair:
        pair = read_pair(self.path, number)
        return LabelledPair(_single(pair), label(pair.errors, self.config.LOSS), pair.source, pair.names)


def cache_path(config: CN, output: Path) -> Path:
    """Return where the cache of a run with this output folder lies."""
    named = config.TRAIN.CANDIDATES.CACHE
    return Path(named) if named else output / CACHE_NAME


def _single(pair: CandidatePair) -> Candidates:
    """Return the candidates with float32 descriptors."""
    candidates = pair.candidates
    return replace(
        candidates, descriptors0=candidates.descriptors0.float(), descriptors1=candidates.descriptors1.float()
    )
