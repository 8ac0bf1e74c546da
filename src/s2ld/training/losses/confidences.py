"""What training reads of the confidence matrix of the sparse stage: some of its entries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.models.fast.sparse_entries import Entries
from s2ld.models.network import S2LD
from s2ld.training.losses.targets import valid_cells
from s2ld.types import CoarseMatches, EncodedPair, PairBatch, Targets

FAINT = 1e-3
"""Confidence of a negative up to which its focal loss, at most 1e-9, is left out."""


@dataclass(frozen=True)
class Confidences:
    """The entries that the coarse loss asks for, differentiable."""

    true: Tensor
    """(P,) of the P true matches of the targets, in their order."""
    negative: Tensor
    """(K,) of the negatives that are above `FAINT`: the others add nothing. Empty where the loss has no negatives."""


def has_negatives(config: CN) -> bool:
    """Return whether the LOSS node asks for negatives."""
    return bool(config.COARSE_NEGATIVES or config.HARD_NEGATIVE_WEIGHT)


def sparse_stage(
    matcher: S2LD, encoded: EncodedPair, targets: Targets, batch: PairBatch, config: CN
) -> tuple[CoarseMatches, Confidences]:
    """Run the sparse stage → predicted matches and what the coarse loss needs; dual softmax makes no matrix for it.

    Args:
        matcher: that encoded the batch.
        encoded: the batch, encoded.
        targets: of it.
        batch: tells the valid cells.
        config: the LOSS node.
    """
    mask0, mask1 = batch.view0.images.mask, batch.view1.images.mask
    wanted = targets.batch, targets.cell0, targets.cell1
    threshold = matcher.sparse_matching.threshold
    floor = min(FAINT, threshold) if has_negatives(config) else threshold
    true, large = matcher.entries(encoded, wanted, floor, mask0, mask1)
    predicted = matcher.select_entries(large, encoded, mask0, mask1)
    negative = negatives_of(large, targets, batch) if has_negatives(config) else large.confidence[:0]
    return predicted, Confidences(true, negative)


def negatives_of(entries: Entries, targets: Targets, batch: PairBatch) -> Tensor:
    """Return the confidences of the negatives above FAINT, (K,)."""
    pair, cell0, cell1 = entries.batch, entries.cell0, entries.cell1
    known = targets.known0[pair, cell0] | targets.known1[pair, cell1]
    inside = valid_cells(batch.view0)[pair, cell0] & valid_cells(batch.view1)[pair, cell1]
    partner = torch.full_like(targets.known0, -1, dtype=torch.long)
    partner[targets.batch, targets.cell0] = targets.cell1
    negative = known & inside & (partner[pair, cell0] != cell1) & (entries.confidence.detach() > FAINT)
    return entries.confidence[negative]
