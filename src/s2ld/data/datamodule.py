"""Training and validation loaders, with the place in the training order as their only state."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import cv2
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from s2ld.config import CN
from s2ld.data.sample import PairSource, collate, epoch_pairs_of
from s2ld.data.samplers import StepBatchSampler, StridedSampler
from s2ld.data.skipping import SkippingPairs
from s2ld.data.sources.by_name import build_mixture, build_validation, validation_weights
from s2ld.data.sources.mixture import JoinedPairs, ReadyPairs
from s2ld.errors import S2LDError
from s2ld.types import PairBatch

PREFETCH = 4  # batches that a loader process has ready
GRACE = 60  # seconds that a loader process lives on after a SIGTERM


class PairDataModule(pl.LightningDataModule):
    """The pairs of a config: an endless training loader and a fixed validation loader (one pair a batch).

    Its state is the number of pairs that all processes have drawn up to the last optimiser step, so that a resumed run
    repeats and skips none. Generated pairs and passes over finite sources go on so at another batch size or number of
    processes too; an epoch of MegaDepth is shared out to the pairs of a step of all processes (`SceneOrder`), and goes
    on exactly while their number stays the same.

    With DATA.OVERFIT_PAIRS the first pairs of the training source are all there is, for validation too.

    A pair that cannot be read is replaced by another and named (`SkippingPairs`) unless DATA.ON_BAD_PAIR is stop.

    Args:
        config: the whole config.
        train_source: takes the place of what the config names, for tests and own data.
        val_sources: likewise, by name.
        train_collate: joins samples of `train_source` that are no `PairSample`.
        prepare: is called in one process before any source is built, with the trainer.
    """

    def __init__(
        self,
        config: CN,
        train_source: PairSource | None = None,
        val_sources: dict[str, PairSource] | None = None,
        train_collate: Callable[[Any], Any] = collate,
        prepare: Callable[[pl.Trainer], None] | None = None,
    ) -> None:
        super().__init__()
        self.prepare_data_per_node = False
        self.config = config
        self.start = 0
        self._resumed_step = 0
        self._train_source = train_source
        self._lanes = 0 if train_source is None else None  # that the source was built for; None: it was given
        self._val_sources = val_sources
        self._train_collate = train_collate
        self._prepare = prepare

    def prepare_data(self) -> None:
        """Do what must be done once, by one process, while the others wait."""
        if self._prepare is not None:
            assert self.trainer is not None
            self._prepare(self.trainer)

    def setup(self, stage: str) -> None:
        """Build the sources, once; that of training anew if the trainer turns out to have more processes."""
        lanes = int(self.config.DATA.BATCH_SIZE) * self._place()[1]
        if self._lanes not in (lanes, None):
            self._train_source, self._lanes = build_mixture(self.config, lanes), lanes
            self._repeat_few(int(self.config.DATA.OVERFIT_PAIRS))
        if self._val_sources is None:
            self._val_sources = build_validation(self.config)

    def _repeat_few(self, count: int) -> None:
        """With DATA.OVERFIT_PAIRS, keep as many pairs of the training source, for training and for validation."""
        if count and self._train_source is not None:
            few = [self._train_source[index] for index in range(count)]
            self._train_source, self._val_sources = ReadyPairs(few), {"overfit": ReadyPairs(few, count)}

    @property
    def epoch_pairs(self) -> int | None:
        """Pairs of an epoch, of all processes together; None of generated or mixed sources, which have none.

        Known after `setup`, whatever the number of processes was then.
        """
        return None if self._train_source is None else epoch_pairs_of(self._train_source)

    @property
    def val_layout(self) -> list[tuple[str, int]]:
        """Name and number of pairs of each validation source, in the order in which their pairs come."""
        return [(name, len(source)) for name, source in (self._val_sources or {}).items()]

    @property
    def val_weights(self) -> list[float]:
        """Weight of each validation source in ``val/score``, in the same order."""
        sources = self._val_sources or {}
        if self.config.DATA.OVERFIT_PAIRS:
            return [1.0] * len(sources)
        return validation_weights(self.config.DATA, len(sources))

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return the endless loader of this process, from where the run stands."""
        assert self._train_source is not None
        rank, world = self._place()
        sampler = StepBatchSampler(self.config.DATA.BATCH_SIZE, rank, world, self.start)
        workers = self.config.DATA.WORKERS > 0
        order = {"batch_sampler": sampler, "persistent_workers": workers, "collate_fn": self._train_collate}
        return pair_loader(self._train_source, self.config, **order)

    def val_dataloader(self) -> DataLoader[PairBatch] | list[DataLoader[PairBatch]]:
        """Return this process's share of the fixed validation pairs, one pair a batch; an empty list for none.

        Raises:
            S2LDError: there are fewer pairs than processes: one without would not meet the others at their reductions.
        """
        if not self._val_sources:
            return []
        pairs = JoinedPairs(list(self._val_sources.values()))
        rank, world = self._place()
        if len(pairs) < world:
            raise S2LDError(
                f"DATA.VAL_PAIRS: {len(pairs)} validation pair(s) for {world} processes; give each one at least"
            )
        return pair_loader(pairs, self.config, sampler=StridedSampler(len(pairs), rank, world), batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the training order, at the last optimiser step."""
        return {"step": self._step(), "pairs": self.pairs_drawn()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the state was taken."""
        self.start = int(state_dict["pairs"])
        self._resumed_step = int(state_dict["step"])

    def pairs_drawn(self) -> int:
        """Return the number of pairs that went into optimiser steps, of all processes since the run's beginning."""
        _, world = self._place()
        a_step = int(self.config.DATA.BATCH_SIZE * world * self.config.TRAIN.ACCUMULATE)
        return self.start + (self._step() - self._resumed_step) * a_step

    def _step(self) -> int:
        step = 0 if self.trainer is None else int(self.trainer.global_step)
        return step if step > self._resumed_step else self._resumed_step

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def pair_loader(source: PairSource, config: CN, **order: Any) -> DataLoader[PairBatch]:
    """Return a loader of batches with the DATA node's processes, and its way with pairs that cannot be read.

    Args:
        source: of the pairs.
        config: the whole config.
        order: further arguments of PyTorch's `DataLoader`, which say what is drawn.
    """
    workers = int(config.DATA.WORKERS)
    readable = SkippingPairs(source) if config.DATA.ON_BAD_PAIR == "skip" else source
    return DataLoader(
        readable,  # type: ignore[arg-type]  # a PairSource is a map-style data set in all but its base class
        **{"collate_fn": collate, **order},
        num_workers=workers,
        worker_init_fn=_single_threaded,
        prefetch_factor=PREFETCH if workers else None,
    )


def _single_threaded(worker: int) -> None:
    """Keep a loader process to one core: there are as many as the cores allow. Signals are for the main process.

    A scheduler sends SIGTERM to all processes: this one is needed until the main one has ended its step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
