"""Checkpoints of a run: the last one, for resuming, and the best one by the validation's score."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from s2ld.errors import S2LDError
from s2ld.models.checkpoint import load_plain, load_strict

LAST = "last.ckpt"
BEST = "best.ckpt"
SCORE = "val/score"


_PARTS = (
    *("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "PairDataModule", "global_step"),
    "pytorch-lightning_version",
)
"""What a checkpoint has; a run goes on exactly only with all of it."""


def check_resumable(path: Path, module: pl.LightningModule) -> None:
    """Check that a run of `module` can go on from a checkpoint; its weights are in `module` afterwards.

    Raises:
        S2LDError: the file is no plain checkpoint, lacks a part, or is of another network or with another average.
    """
    content = load_plain(path)
    missing = [part for part in _PARTS if part not in content]
    if missing:
        raise S2LDError(
            f"{path}: lacks {', '.join(missing)}, so a run cannot go on from it; start from its weights by "
            "TRAIN.INIT_WEIGHTS"
        )
    load_strict(module, content["state_dict"], path)


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` (every so many optimiser steps and at the end) and `best.ckpt` (highest ``val/score``).

    Files are written beside their place and moved into it, so that a killed run never leaves half a checkpoint. All are
    written at the end of an optimiser step, never amid accumulated batches.

    Args:
        folder: where they go.
        every: optimiser steps between two `last.ckpt`.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__()
        self.folder = folder
        self.every = every
        self.best = float("-inf")
        self._saved_step = -1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save when it is time to, or when this was the last step."""
        step = trainer.global_step
        ends = trainer.should_stop or step >= trainer.max_steps
        if step != self._saved_step and step > 0 and (ends or step % self.every == 0):
            self._saved_step = step
            self._save(trainer, LAST)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save when the score is the best so far."""
        score = trainer.callback_metrics.get(SCORE)
        if score is not None and float(score) > self.best:
            self.best = float(score)
            self._save(trainer, BEST)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best score of the resumed run."""
        self.best = float(state_dict["best"])

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        part = self.folder / f"{name}.part"
        trainer.save_checkpoint(part, weights_only=False)
        if trainer.is_global_zero:
            os.replace(part, self.folder / name)
