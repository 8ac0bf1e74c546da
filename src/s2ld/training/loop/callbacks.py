"""Callbacks of a training run: time limit, signals, throughput, progress, pictures."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from s2ld.data.images.reading import UInt8Image
from s2ld.log import Progress
from s2ld.training.loop.checkpoints import ends_step
from s2ld.types import PairBatch, Prediction
from s2ld.viz.matches import draw_matches


class TimeLimit(Callback):
    """Stops a run after so many seconds, at the end of an optimiser step; the checkpoint is written as always.

    Args:
        seconds: wall-clock time from the start of the training.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = float("inf")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._end = time.monotonic() + self.seconds

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Stop all processes when the time is up in any of them and no accumulated gradient would be lost."""
        if ends_step(trainer, batch_idx):
            is_over = trainer.strategy.reduce_boolean_decision(time.monotonic() >= self._end, all=False)
            trainer.should_stop = trainer.should_stop or is_over


class StopOnSignal(Callback):
    """Lets a signal end a run at the end of an optimiser step, with its checkpoint but without a validation.

    The signals are Ctrl-C (a second one ends the run at once), SIGTERM and SIGUSR1, which schedulers send before they
    take a machine away. One process of the run that gets it is enough.
    """

    def __init__(self) -> None:
        self.stopped: signal.Signals | None = None
        """What ended the run: SIGINT, or SIGTERM for the others; None if it ended by itself."""
        self._asked: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over, from Lightning too; Python allows it in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Stop all processes when any of them was asked to and no accumulated gradient would be lost."""
        if not ends_step(trainer, batch_idx):
            return
        if trainer.strategy.reduce_boolean_decision(self._asked is not None, all=False):
            self.stopped = signal.SIGINT if self._asked == signal.SIGINT else signal.SIGTERM
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # else a run that is told to stop validates once more

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back, after an error too."""
        for number in list(self._previous):
            self._give_back(number)

    def _ask(self, number: int, _: Any) -> None:
        self._asked = signal.Signals(number)
        again = ""
        if number == signal.SIGINT:
            self._give_back(signal.SIGINT)
            again = "; once more stops at once"
        # not by the logger: the signal may have interrupted it
        print(f"\n{self._asked.name}: stopping after this step{again}", file=sys.stderr)

    def _give_back(self, number: signal.Signals) -> None:
        previous = self._previous.pop(number, None)
        if previous is not None:
            signal.signal(number, previous)


class Throughput(Callback):
    """Logs the speed: ``train/pairs_per_second`` of all processes together, ``train/waiting`` and ``train/pairs``.

    ``train/waiting`` is the share of the time, in [0, 1], in which this process waited for the next batch; on a GPU,
    whose work goes on meanwhile, it is the most that data can have held it up. ``train/pairs`` are the pairs drawn
    since the run's beginning.

    Args:
        every: optimiser steps between two logs.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._pairs = 0
        self._step = 0
        self._since = 0.0
        self._ended = 0.0
        self._waited = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._restart(trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the validation's time out."""
        self._restart(trainer.global_step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: PairBatch, batch_idx: int
    ) -> None:
        """Note how long this batch was waited for."""
        self._waited += time.monotonic() - self._ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Count the pairs; log when it is time to."""
        self._pairs += batch.size * trainer.world_size
        self._ended = time.monotonic()
        pl_module.log("train/pairs", float(trainer.datamodule.pairs_drawn()), batch_size=batch.size)  # type: ignore[attr-defined]
        if trainer.global_step - self._step >= self.every:
            elapsed = max(self._ended - self._since, 1e-9)
            pl_module.log("train/pairs_per_second", self._pairs / elapsed, batch_size=batch.size)
            pl_module.log("train/waiting", self._waited / elapsed, batch_size=batch.size)
            self._restart(trainer.global_step)

    def _restart(self, step: int) -> None:
        self._pairs, self._step, self._waited = 0, step, 0.0
        self._since = self._ended = time.monotonic()


class StepProgressBar(TQDMProgressBar):
    """Lightning's bar, counting to the last step: the loader itself is endless. Lines where there is no terminal."""

    def init_train_tqdm(self) -> Progress:  # type: ignore[override]
        """Return the bar of the training."""
        return Progress(desc=self.train_description, unit="step", disable=self.is_disabled, smoothing=0)

    def init_validation_tqdm(self) -> Progress:  # type: ignore[override]
        """Return the bar of a validation, which goes when that has ended."""
        beside = self.trainer.state.fn != "validate"
        options = {"position": int(beside), "leave": not beside}
        return Progress(desc=self.validation_description, unit="pair", disable=self.is_disabled, **options)

    @property
    def total_train_batches(self) -> int:
        """Batches of the whole run."""
        return self.trainer.max_steps * self.trainer.accumulate_grad_batches

    def on_train_start(self, *_: Any) -> None:
        """Show the whole run, also after a resume in its midst, where Lightning's bar has no total."""
        super().on_train_start()
        self.train_progress_bar.total = self.total_train_batches

    def on_exception(self, *_: Any) -> None:
        """Close the bars, or they would be drawn again beside whatever this program prints from then on."""
        for value in vars(self).values():
            if isinstance(value, Progress):
                value.close()


class MatchFigures(Callback):
    """Puts pictures of the matches of some validation pairs, always the same ones, into TensorBoard.

    Args:
        count: pictures a validation, evenly spread over all validation pairs.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: PairBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the pair if it is one of the chosen; the first process's pairs are chosen from."""
        total = int(trainer.num_val_batches[0])
        chosen = {round(i * (total - 1) / max(self.count - 1, 1)) for i in range(self.count)}
        logger = trainer.logger
        if not isinstance(logger, TensorBoardLogger) or "prediction" not in outputs:
            return
        if trainer.is_global_zero and batch_idx in chosen:
            picture = draw_prediction(outputs["prediction"], batch)
            logger.experiment.add_image(f"matches/{batch_idx}", picture, trainer.global_step, dataformats="HWC")


def draw_prediction(prediction: Prediction, batch: PairBatch) -> UInt8Image:
    """Return a picture of the matches of a batch of one pair, in resized px, coloured by confidence."""
    image0, image1 = (
        (255 * view.images.image[0, 0]).round().byte().cpu().numpy() for view in (batch.view0, batch.view1)
    )
    points0, points1, confidence = (
        values.float().cpu().numpy()
        for values in (prediction.fine.points0, prediction.fine.points1, prediction.coarse.confidence)
    )
    title = f"{' - '.join(batch.names[0])}: {len(confidence)} matches"
    return draw_matches(image0, image1, points0, points1, confidence, title=title)
