"""Checkpoints of a run: the last one, for resuming, and the best one by the validation's score."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from s2ld.errors import S2LDError
from s2ld.files import whole_file
from s2ld.models.checkpoint import load_plain, load_strict
from s2ld.training.loop.optim import Place

LAST = "last.ckpt"
BEST = "best.ckpt"
SCORE = "val/score"

_PARTS = (
    *("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "PairDataModule", "global_step"),
    "pytorch-lightning_version",
)
"""What a checkpoint has; a run goes on exactly only with all of it."""


def resume_place(path: Path) -> Place:
    """Check that a run can go on from a checkpoint and return where it stands.

    Raises:
        S2LDError: the file is no plain checkpoint, or lacks a part.
    """
    content = _content(path)
    try:
        return Place(int(content["global_step"]), int(content["PairDataModule"]["pairs"]))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise S2LDError(
            f"{path}: does not tell its step and pairs as numbers, so a run cannot go on from it; start from its "
            "weights by TRAIN.INIT_WEIGHTS"
        ) from error


def check_resumable(path: Path, module: pl.LightningModule) -> None:
    """Check that a checkpoint is of a run of `module`; its weights are in `module` afterwards.

    Raises:
        S2LDError: the file is no plain checkpoint, lacks a part, or is of another network or with another average.
    """
    load_strict(module, _content(path)["state_dict"], path)


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = load_plain(path)
    missing = [part for part in _PARTS if not isinstance(content, dict) or part not in content]
    if missing:
        raise S2LDError(
            f"{path}: lacks {', '.join(missing)}, so a run cannot go on from it; start from its weights by "
            "TRAIN.INIT_WEIGHTS"
        )
    return content


def ends_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a batch was the last of its optimiser step, so that a stop after it loses no accumulated gradient."""
    return bool((batch_idx + 1) % trainer.accumulate_grad_batches == 0)


class WholeFileIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and has it on the disk before the run goes on."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            S2LDError: the disk is full or the like; what was there before still is.
        """
        buffer = io.BytesIO()  # torch would hide what is wrong with the disk
        torch.save(checkpoint, buffer)
        with whole_file(path) as part:
            part.write_bytes(buffer.getbuffer())


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` (every so many optimiser steps and at the end) and `best.ckpt` (highest ``val/score``).

    All are written at the end of an optimiser step, never amid accumulated batches, by `WholeFileIO`.

    Args:
        folder: where they go.
        every: optimiser steps between two `last.ckpt`.
        validate_every: optimiser steps between two validations, before which there is one too: a run may be taken
            off the machine amid a long validation.
    """

    def __init__(self, folder: Path, every: int, validate_every: int) -> None:
        super().__init__()
        self.folder = folder
        self.every = every
        self.validate_every = validate_every
        self.best = float("-inf")

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the batches go on at the beginning of a step, as this run accumulates them.

        TRAIN.ACCUMULATE may have changed, and earlier versions also saved amid a step.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        shift = checkpoint["global_step"] * trainer.accumulate_grad_batches - progress["current"]["processed"]
        for counts in (progress["total"], progress["current"]):
            counts.update({name: count + shift for name, count in counts.items()})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time to, or when this was the last step."""
        step = trainer.global_step
        due = step % self.every == 0 or step % self.validate_every == 0
        ends = trainer.should_stop or step >= trainer.max_steps
        if ends_step(trainer, batch_idx) and (ends or due):
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
        trainer.save_checkpoint(self.folder / name, weights_only=False)
