"""The pairs of an evaluation shared out among processes, on one machine or several, by Lightning's trainer.

No pair is predicted twice and none stands in for another. Each process writes a journal of its own; the first one makes
the cache of them (`unfinished.py`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from s2ld.data.sample import PairSource
from s2ld.data.samplers import StridedSampler
from s2ld.errors import LOST_PROCESS, S2LDError, Stopped, as_one_line
from s2ld.evaluation.predictions.predict import Match, pair_batches, predicted
from s2ld.evaluation.predictions.unfinished import Unfinished
from s2ld.log import Progress
from s2ld.processes.ddp import Processes, lost_peer, quieten, slurm_plugins
from s2ld.processes.peers import TESTING, Run
from s2ld.types import PairBatch

PATIENCE = timedelta(days=1)
"""Longest wait for the slowest process; one that is lost is seen at once."""


@dataclass(frozen=True)
class Hardware:
    """What an evaluation runs on."""

    accelerator: str = "auto"
    """auto | cpu | gpu."""
    devices: int = 1
    """Processes on each machine."""
    num_nodes: int = 1
    """Machines."""

    @property
    def processes(self) -> int:
        """Of all machines together."""
        return self.devices * self.num_nodes


class Predictor(pl.LightningModule):
    """What Lightning runs in each process.

    Args:
        build: makes the matcher, on a device.
        source: all pairs.
        unfinished: the cache that is being made.
        workers: loader processes of each process.
    """

    def __init__(
        self, build: Callable[[torch.device], Match], source: PairSource, unfinished: Unfinished, workers: int
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer pairs may be left than processes
        self._build, self._source, self._unfinished, self._workers = build, source, unfinished, workers
        self._mine: list[int] = []

    def predict_dataloader(self) -> DataLoader[PairBatch]:
        """Return the loader of this process's share of the pairs that are missing when the run begins."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning's handler waits; here every pair is on the disk
        strategy = self.trainer.strategy
        todo = self._unfinished.todo() if self.global_rank == 0 else []
        todo = strategy.broadcast(todo)  # so that all share out the same pairs
        self._mine = [todo[place] for place in StridedSampler(len(todo), self.global_rank, self.trainer.world_size)]
        self._unfinished.begin(self.global_rank)
        return pair_batches(self._source, self._mine, self._workers)

    def on_predict_start(self) -> None:
        """Build the matcher where it computes."""
        self._match = self._build(self.device)
        what = f"predict, the first of {self.trainer.world_size} processes"
        self._progress = Progress(desc=what, unit="pair", total=len(self._mine), disable=self.global_rank > 0)

    def predict_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Match a pair and put it into the journal."""
        self._unfinished.add(self._mine[batch_idx], predicted(self._match, batch, self._unfinished.header))
        self._progress.update()

    def on_predict_end(self) -> None:
        """End the progress bar."""
        self._progress.close()


def build_trainer(hardware: Hardware, run: Run = TESTING) -> pl.Trainer:
    """Return Lightning's trainer for an evaluation, or another run; SLURM and torchrun tell its rank at once."""
    quieten()
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        num_nodes=hardware.num_nodes,
        strategy=Processes(run, PATIENCE),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[*slurm_plugins()],
    )


def predict_shared_out(trainer: pl.Trainer, predictor: Predictor, unfinished: Unfinished) -> None:
    """Predict the pairs that are missing in all processes of a trainer; the first one then writes the cache.

    Raises:
        S2LDError: a pair that cannot be read, a file that cannot be written; what is done is kept.
        KeyboardInterrupt: says how many pairs are kept.
        Stopped: another process has ended.
    """
    with _said_in_a_line(unfinished):
        trainer.predict(predictor, return_predictions=False)
        trainer.strategy.barrier("all pairs are predicted")
        trainer.strategy.broadcast(None)  # of the first: none leaves before that one has heard of all
    if trainer.is_global_zero:
        unfinished.finish()


@contextmanager
def _said_in_a_line(unfinished: Unfinished) -> Iterator[None]:
    try:
        yield
    except S2LDError as error:
        raise as_one_line(error) from error
    except SystemExit as error:  # Lightning's way to end after Ctrl-C
        raise KeyboardInterrupt(unfinished.kept()) from error
    except RuntimeError as error:
        line = lost_peer(error, TESTING)
        if line is None:
            raise
        raise Stopped(LOST_PROCESS, line) from error
