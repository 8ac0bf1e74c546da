"""The pairs of a folder shared out: among the processes of one run by Lightning, or among jobs that know nothing of
each other. Each writes a journal of its own, and the last step is `match_folder`, which reads all of them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from s2ld.errors import LOST_PROCESS, S2LDError, Stopped, as_one_line
from s2ld.locks import one_of_several, sole_writer
from s2ld.processes.ddp import lost_peer
from s2ld.processes.peers import MATCHING
from s2ld.sfm.matching.folder import match_missing, missing_images
from s2ld.sfm.matching.hloc import check_names
from s2ld.sfm.matching.match_folder import FolderSettings, choose_pairs, most_pairs, tell_cost, usable_photos
from s2ld.sfm.matching.pairs import Pair, rows_of_pairs
from s2ld.sfm.matching.storage.matches import JOURNAL, MatchJournal, journal_of
from s2ld.sfm.photos.usable import PhotoFolder

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """One of several parts of a folder's work."""

    number: int
    """From 0."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "I/N", I from 1; raises `S2LDError` for anything else."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise S2LDError(f"--shard {text}: give I/N, the share and how many there are, such as 1/8 to 8/8")
        return cls(int(number) - 1, int(count))

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this share of items: those that follow each other, which need the same features."""
        start, end = (len(items) * number // self.count for number in (self.number, self.number + 1))
        return items[start:end]

    def first(self, items: Sequence[Item]) -> list[Item]:
        """Return all items, those of this share first, so that no two shares begin with the same."""
        start = len(items) * self.number // self.count
        return [*items[start:], *items[:start]]


def match_shard(photos: Path, output: Path, settings: FolderSettings, share: Share) -> int:
    """Match one share of a folder's pairs in a process that waits for no other.

    Features are computed for all photographs that the share needs, or read where another share has computed them.

    Returns:
        The number of pairs of the share.

    Raises:
        S2LDError: as `match_folder`, or another process writes this share, or all of them.
    """
    folder = usable_photos(photos, output, settings.progress)
    settings = settings.of(len(folder.photos))
    check_names([photo.name for photo in folder.photos])
    writer = f"{share.number + 1}of{share.count}"
    with one_of_several(output), sole_writer(journal_of(output / JOURNAL, writer)):
        journal = MatchJournal(output / JOURNAL, settings.matcher.title(), folder, writer)
        matching = replace(settings.matching(output), shared=True)
        if settings.pairs == "retrieval":  # which looks at all
            match_missing(folder, share.first(missing_images(folder, journal)), [], matching, journal)
        pairs, _ = choose_pairs(folder, settings, matching, lambda: journal)
        rows = share.of(rows_of_pairs(pairs))
        needed = {i for row in rows for pair in row for i in pair}
        images = [i for i in missing_images(folder, journal) if i in needed]
        undone = _undone(rows, journal)
        tell_cost(folder, sum(map(len, undone)), settings, matching, journal)
        match_missing(folder, images, undone, matching, journal)
    return sum(map(len, rows))


def match_shared_out(trainer: pl.Trainer, photos: Path, output: Path, settings: FolderSettings) -> None:
    """Match the pairs of a folder in all processes of a trainer: first the features of all photographs, then pairs.

    Raises:
        S2LDError: as `match_folder`.
        Stopped: another process has ended.
    """
    folder = usable_photos(photos, output, settings.progress)
    check_names([photo.name for photo in folder.photos])
    settings = settings.of(len(folder.photos))
    module = _Process(folder, output, settings)
    with sole_writer(output) if trainer.is_global_zero else nullcontext(), _said_in_a_line():
        if trainer.is_global_zero:
            _tell_cost(folder, output, settings, trainer.num_devices * trainer.num_nodes)
        trainer.predict(module, return_predictions=False)
        trainer.strategy.barrier("all pairs are matched")


class _Process(pl.LightningModule):
    """What Lightning runs in each process: one step, since pieces of work are not alike in size."""

    def __init__(self, folder: PhotoFolder, output: Path, settings: FolderSettings) -> None:
        super().__init__()
        self._folder, self._output, self._settings = folder, output, settings

    def predict_dataloader(self) -> DataLoader[Tensor]:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning's handler waits; here every pair is on the disk
        return DataLoader([0])  # type: ignore[arg-type]

    def predict_step(self, batch: Tensor, batch_idx: int) -> None:
        share = Share(self.global_rank, self.trainer.world_size)
        matcher = replace(self._settings.matcher, device=str(self.device))
        settings = replace(self._settings, matcher=matcher, progress=self._settings.progress and share.number == 0)
        _match_rank(self._folder, self._output, settings, share, self.trainer.strategy.barrier)


def _match_rank(
    folder: PhotoFolder, output: Path, settings: FolderSettings, share: Share, wait: Callable[[str], object]
) -> None:
    matching = replace(settings.matching(output), shared=True)

    def opened() -> MatchJournal:
        writer = str(share.number) if share.number else ""
        return MatchJournal(output / JOURNAL, settings.matcher.title(), folder, writer)

    journal = opened()
    images = share.of(missing_images(folder, journal))
    wait("all know which images are missing")
    match_missing(folder, images, [], matching, journal)
    wait("all images are there")
    journal = opened()
    pairs, _ = choose_pairs(folder, settings, matching, lambda: journal)
    rows = share.of(rows_of_pairs(pair for pair in pairs if pair not in journal.pairs))
    wait("all know which pairs are missing")
    match_missing(folder, [], rows, matching, journal)


def _tell_cost(folder: PhotoFolder, output: Path, settings: FolderSettings, processes: int) -> None:
    matching, journal = settings.matching(output), MatchJournal(output / JOURNAL, settings.matcher.title(), folder)
    pairs = most_pairs(folder, settings, journal)
    if pairs is None:
        chosen, _ = choose_pairs(folder, settings, matching, lambda: journal)
        pairs = sum(pair not in journal.pairs for pair in chosen)
    tell_cost(folder, pairs, settings, matching, journal, processes)


def _undone(rows: Sequence[Sequence[Pair]], journal: MatchJournal) -> list[list[Pair]]:
    left = ([pair for pair in row if pair not in journal.pairs] for row in rows)
    return [row for row in left if row]


@contextmanager
def _said_in_a_line() -> Iterator[None]:
    try:
        yield
    except S2LDError as error:
        raise as_one_line(error) from error
    except SystemExit as error:  # Lightning's way to end after Ctrl-C
        raise KeyboardInterrupt(MATCHING.remedy) from error
    except RuntimeError as error:
        line = lost_peer(error, MATCHING)
        if line is None:
            raise
        raise Stopped(LOST_PROCESS, line) from error
