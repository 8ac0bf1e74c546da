"""Pairs that cannot be read do not stop a run: another one comes in their place, and the sample says so."""

from __future__ import annotations

from dataclasses import replace

from s2ld.data.index.scene_order import shuffled
from s2ld.data.sample import PairSample, PairSource
from s2ld.errors import S2LDError

IN_A_ROW = 16  # unreadable pairs after which the data as a whole is wrong


class SkippingPairs:
    """A source that puts another pair in the place of one that cannot be read, and names it in `PairSample.skipped`.

    So batches keep their size, and the processes of a run stay in step. Which pair comes instead is a function of the
    index: pairs from anywhere in the source, since a neighbour would often be of the same missing scene.

    Args:
        source: the pairs; what it says of a pair it cannot read begins with the file.

    Raises:
        S2LDError: `__getitem__`: a pair and all that should take its place, `IN_A_ROW` together, cannot be read.
    """

    def __init__(self, source: PairSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> PairSample:
        skipped: list[str] = []
        tried = index
        for attempt in range(IN_A_ROW):
            try:
                return replace(self.source[tried], skipped=tuple(skipped))
            except S2LDError as error:
                skipped.append(str(error))
            tried = shuffled(attempt % len(self), len(self), index)
        raise S2LDError(
            f"{IN_A_ROW} pairs in a row could not be read, the last: {skipped[-1]}; "
            "s2ld check-data DATA_CONFIG says what is wrong"
        )
