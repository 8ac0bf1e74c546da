"""Making a cache pair by pair, by one process or several, so that nothing is predicted twice whatever ends a run.

Each process appends its pairs to a `Journal` of its own beside the cache. When all are there, they become the cache, in
the order of the source: its bytes do not depend on how many processes there were.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.cache import (
    CacheHeader,
    PairPrediction,
    from_bytes,
    header_changes,
    parse_header,
    read_header,
    shortened,
    to_bytes,
    write_cache,
)
from s2ld.evaluation.predictions.journal import Journal, read_title, record_at, records
from s2ld.log import logger

JOURNAL_SUFFIX = ".partial"
"""After the name of a cache, that of the journal of the first process; of process N: `.partial-N`."""
_NUMBER = struct.Struct(">Q")
_FORM = b"numbered pairs of "
"""Begins the title, which goes on with the header. A journal without it is of another form."""

Predict = Callable[[Sequence[int]], Iterable[PairPrediction]]
"""Yields the predictions of pairs of these numbers, in their order."""


class Unfinished:
    """The pairs of a cache that is being made.

    Args:
        cache: where it will be.
        header: what the predictions depend on; pairs of another one do not count.
    """

    def __init__(self, cache: Path, header: CacheHeader) -> None:
        self.cache, self.header = cache, header
        self._title = _FORM + json.dumps(asdict(header)).encode()
        self._own: Journal | None = None

    def journal(self, rank: int = 0) -> Path:
        """Return the path of the journal of a process."""
        return self.cache.with_name(self.cache.name + JOURNAL_SUFFIX + (f"-{rank}" if rank else ""))

    def former_header(self) -> CacheHeader | None:
        """Return the header of what lies there, the first process's journal before the cache; None for nothing."""
        title = read_title(self.journal()) or b""
        return parse_header(title.removeprefix(_FORM)) or read_header(self.cache)

    def places(self) -> dict[int, tuple[Path, int]]:
        """Return the journal and the byte of each pair that is there, by its number; all processes' journals count."""
        found = {}
        for path in self._journals():
            whole = records(path)
            if next(whole, (0, b""))[1] == self._title:
                for place, record in whole:
                    found[_NUMBER.unpack_from(record)[0]] = (path, place)
        return found

    def todo(self) -> list[int]:
        """Return the numbers of the pairs that are missing, in order; tell how many are there."""
        former = self.former_header()
        done = self.places()
        if done:
            logger.info("{}: going on after {} of {} pairs", self.journal(), len(done), self.header.pairs)
        elif former is not None and former != self.header:
            logger.info("{}: predicting anew; changed: {}", self.cache, shortened(header_changes(former, self.header)))
        return [number for number in range(self.header.pairs) if number not in done]

    def begin(self, rank: int = 0) -> None:
        """Open the journal of a process; one of another header is emptied."""
        self._own = Journal(self.journal(rank), self._title)

    def add(self, number: int, prediction: PairPrediction) -> None:
        """Append a pair to the journal that is open, and return when it is on the disk.

        Raises:
            S2LDError: it cannot be written; those before are kept.
        """
        assert self._own is not None
        self._own.append(_NUMBER.pack(number) + to_bytes(prediction))

    def kept(self) -> str:
        """Return a line for who has interrupted the run."""
        count = len(self.places())
        return f"{count} of {self.header.pairs} pairs are kept in {self.journal()}; the same command goes on from there"

    def finish(self) -> None:
        """Write the cache and remove the journals.

        Raises:
            S2LDError: pairs are missing, or it cannot be written.
        """
        places = self.places()
        if len(places) != self.header.pairs:
            raise S2LDError(
                f"{self.journal()}: holds {len(places)} of {self.header.pairs} pairs; run the same command again"
            )
        size = sum(path.stat().st_size for path in self._journals())
        write_cache(self.cache, self.header, _replay(places), size)
        self.remove()

    def remove(self) -> None:
        """Remove the journals of all processes."""
        for path in self._journals():
            path.unlink(missing_ok=True)

    def _journals(self) -> list[Path]:
        first = self.journal()
        return [first] * first.exists() + sorted(self.cache.parent.glob(f"{_plain(first.name)}-*"))


def complete_cache(path: str | Path, header: CacheHeader, predict: Predict) -> bool:
    """See to it that a cache of this header is there, and tell in a line what was found of it.

    Each pair is on the disk, in the journal beside `path`, before the next one is asked for: a second call goes on from
    there, whatever ended the first. Pairs of another header are made anew.

    Args:
        path: of the cache.
        header: what the predictions depend on.
        predict: of the pairs that are missing.

    Returns:
        Whether anything was predicted; False when the cache could be kept.

    Raises:
        S2LDError: it cannot be written; KeyboardInterrupt says how many pairs are kept.
    """
    unfinished = Unfinished(Path(path), header)
    if is_complete(unfinished):
        return False
    todo = unfinished.todo()
    unfinished.begin()
    try:
        for prediction, number in zip(predict(todo), todo, strict=False):
            unfinished.add(number, prediction)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(unfinished.kept()) from None
    unfinished.finish()
    return True


def is_complete(unfinished: Unfinished) -> bool:
    """Whether the cache is there; then it needs no journals, which are removed."""
    if read_header(unfinished.cache) != unfinished.header:
        return False
    unfinished.remove()
    return True


def _replay(places: dict[int, tuple[Path, int]]) -> Iterator[PairPrediction]:
    for number in sorted(places):
        yield from_bytes(record_at(*places[number])[_NUMBER.size :])


def _plain(name: str) -> str:
    """Return a file name as a pattern that it alone matches."""
    return "".join(f"[{letter}]" if letter in "[]*?" else letter for letter in name)
