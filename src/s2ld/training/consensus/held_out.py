"""How well the consensus judges candidates that it is not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision, binary_precision_recall_curve

from s2ld.evaluation.calibration import reliability
from s2ld.log import logger
from s2ld.models.consensus.stage import Consensus
from s2ld.models.network import S2LD
from s2ld.training.consensus.candidates import LabelledPair, collate_candidates
from s2ld.training.consensus.labels import UNKNOWN
from s2ld.training.consensus.source import CachedCandidates

RECALLS = (0.5, 0.8)
"""At which precision is measured."""


class HeldOutCandidates(Callback):
    """Measures the averaged consensus on the held-out candidates at each validation: ``val_candidates/...``.

    All processes do the same, which takes seconds.

    Args:
        source: of the candidates.
    """

    def __init__(self, source: CachedCandidates) -> None:
        self.source = source

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the measures and print them in a line."""
        network = cast("S2LD", pl_module.averaged)
        assert network.consensus is not None
        measures = measure(network.consensus, self.source.held_out(), pl_module.device)
        for name, value in measures.items():
            pl_module.log(f"val_candidates/{name}", value, rank_zero_only=False)
        text = ", ".join(f"{name} {value:.4g}" for name, value in measures.items())
        logger.info(f"step {trainer.global_step}: held-out candidates {text}")


@torch.no_grad()
def measure(consensus: Consensus, pairs: Iterable[LabelledPair], device: torch.device) -> dict[str, float]:
    """Return `measures_of` of all labelled candidates of the pairs together; nothing where there are none."""
    judged = []
    for pair in pairs:
        batch = collate_candidates([pair]).to(device)
        known = batch.labels != UNKNOWN
        judged.append((consensus(batch.candidates, 1)[known], batch.labels[known]))
    if not judged:
        return {}
    logits, labels = (torch.cat(parts) for parts in zip(*judged, strict=True))
    return measures_of(logits, labels) if len(labels) else {}


def measures_of(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the cross entropy, the average precision, the precision at `RECALLS` and the calibration error.

    Args:
        logits: (M,), M at least 1.
        labels: (M,) RIGHT or WRONG.
    """
    probability, right = torch.sigmoid(logits), labels.long()
    precision, recall, _ = binary_precision_recall_curve(probability, right)
    return {
        "loss": float(F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))),
        "average_precision": float(binary_average_precision(probability, right)),
        **{f"precision_at_{100 * level:g}": float(precision[recall >= level].max()) for level in RECALLS},
        "calibration_error": reliability(probability.cpu().numpy(), right.bool().cpu().numpy()).error,
    }
