"""The order in which the pairs of many scenes are drawn: balanced, shared out to lanes, without a stored permutation.

`shuffled` makes it: an element of a random permutation is computed, in some microseconds, and no permutation is kept,
whether it is of 100 pairs or of 40,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import isqrt

import numpy as np

ROUNDS = 6  # of the Feistel network
_SCENES, _LANE, _PAIRS = range(3)  # which of the drawn orders a key belongs to


def shuffled(place: int, length: int, *key: int) -> int:
    """Return the element at `place` of a random permutation of ``range(length)``, a function of `key`.

    A Feistel network (Luby, Rackoff: "How to construct pseudorandom permutations", 1988) over the least rectangle of
    at least `length` cells, walked until a cell below `length` is met (Black, Rogaway: "Ciphers with arbitrary finite
    domains", 2002). The domain overshoots by less than its side, so that a second walk is rare.

    Args:
        place: at least 0, less than `length`.
        length: number of elements.
        key: whole numbers, of any number.
    """
    height = isqrt(length - 1) + 1
    width = -(-length // height)
    while True:
        high, low = divmod(place, width)
        for number in range(0, ROUNDS, 2):
            low = (low + _hashed(high, number, key)) % width
            high = (high + _hashed(low, number + 1, key)) % height
        place = high * width + low
        if place < length:
            return place


def _hashed(half: int, number: int, key: tuple[int, ...]) -> int:
    return int.from_bytes(blake2b(repr((half, number, key)).encode(), digest_size=8).digest())


class SceneOrder:
    """Which pair of which scene each index draws: a pure function of (seed, index), given the lanes.

    The scenes lie on a line, in an order drawn once, `pairs_per_scene` slots each. The line is cut into as many equal
    segments as there are lanes; index i belongs to lane ``i mod lanes``, which goes through its own segment once an
    epoch, in a new order each time. So with a lane for every pair of a step (batch size x processes), a step draws from
    all parts of the line while a lane, and a process, whose lanes are neighbours, meets only its share of the scenes:
    what is read and kept of them is shared out. Since the lanes are those of all processes together, any number of
    processes draws the same pairs.

    The j-th slot of a scene takes in epoch e its ``e N + j``-th draw, and the draws walk through one permutation of the
    scene's pairs after the other: all are drawn before one comes again, over the epochs, and a scene of fewer than N
    pairs repeats them evenly.

    Slots that are left over, where the line is no multiple of the lanes (at most ``lanes - 1`` an epoch), are further
    draws of the scene with the most pairs, which lies last.

    Args:
        counts: pairs of each scene, at least one each.
        pairs_per_scene: N, draws of each scene an epoch.
        seed: of all the orders.
        lanes: pairs that all processes draw in a step.
    """

    def __init__(self, counts: Sequence[int], pairs_per_scene: int, seed: int, lanes: int = 1) -> None:
        self._counts = [int(count) for count in counts]
        self._share = pairs_per_scene
        self._seed = seed
        self._lanes = lanes
        self._segment = -(-self.epoch_pairs // lanes)
        line = [shuffled(place, len(counts), seed, _SCENES) for place in range(len(counts))]
        line.append(line.pop(int(np.argmax([self._counts[which] for which in line]))))
        self._line = line

    @property
    def epoch_pairs(self) -> int:
        """Pairs of an epoch, without the few of slots left over."""
        return len(self._counts) * self._share

    def locate(self, index: int) -> tuple[int, int]:
        """Return which scene pair `index` is of, and which of the scene's pairs it is."""
        turn, lane = divmod(index, self._lanes)
        epoch, place = divmod(turn, self._segment)
        slot = lane * self._segment + shuffled(place, self._segment, self._seed, _LANE, epoch, lane)
        on_line = min(slot // self._share, len(self._line) - 1)
        spare = self._segment * self._lanes - self.epoch_pairs if on_line == len(self._line) - 1 else 0
        which = self._line[on_line]
        draw = epoch * (self._share + spare) + slot - on_line * self._share
        again, visit = divmod(draw, self._counts[which])
        return which, shuffled(visit, self._counts[which], self._seed, _PAIRS, which, again)
