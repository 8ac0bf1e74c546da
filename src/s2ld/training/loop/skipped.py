"""Names and counts the pairs that could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from s2ld.log import logger
from s2ld.types import PairBatch

COUNT = "train/skipped_pairs"


class SkippedPairs(Callback):
    """Warns of the first pair that is skipped for each bad file, and logs ``train/skipped_pairs``.

    That is the number of all processes since the run's beginning, before a resume too. The processes add up after every
    batch, whether or not they skipped a pair, so that none waits for another.
    """

    def __init__(self) -> None:
        self.total = 0
        self._files: set[str] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, batch_idx: int
    ) -> None:
        """Count the batch's skipped pairs and name them."""
        self._name(batch.skipped)
        count = torch.tensor(float(len(batch.skipped)), device=pl_module.device)
        self.total += int(cast("Tensor", trainer.strategy.reduce(count, reduce_op="sum")))
        pl_module.log(COUNT, float(self.total), batch_size=batch.size)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: PairBatch, *_: Any
    ) -> None:
        """Name the pairs that are not measured; the validation itself counts them."""
        self._name(batch.skipped)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how many there were."""
        if self.total:
            logger.info(
                f"{self.total} pairs could not be read and were skipped; s2ld check-data DATA_CONFIG lists them"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the number of pairs that were skipped."""
        return {"total": self.total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.total = int(state_dict["total"])

    def _name(self, lines: Sequence[str]) -> None:
        """Warn by each line whose file is a new one; a line begins with its file."""
        for line in lines:
            file = line.partition(": ")[0]
            if file not in self._files:
                self._files.add(file)
                logger.warning("skipped {}", line)
