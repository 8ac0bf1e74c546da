"""What the judgement of the candidates costs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from s2ld.config import CN
from s2ld.geometry.linalg import full_precision
from s2ld.models.consensus.stage import gather_candidates
from s2ld.models.network import S2LD
from s2ld.training.consensus.candidates import CandidateBatch
from s2ld.training.consensus.labels import UNKNOWN, candidate_errors, label
from s2ld.training.losses.total import ReduceCount, ratio
from s2ld.types import CoarseMatches, EncodedPair, LossTerms, PairBatch, Targets


@torch.no_grad()
def candidates_of(
    network: S2LD, encoded: EncodedPair, predicted: CoarseMatches, targets: Targets, batch: PairBatch, config: CN
) -> CandidateBatch:
    """Label all candidates that a network finds in a batch.

    Without gradients: the consensus follows the stages before it, which have losses of their own, and to refine all
    candidates of a pair costs little so.

    Args:
        network: with a consensus.
        encoded: the batch, encoded.
        predicted: the candidates before they are refined.
        targets: of the batch.
        batch: intrinsics, relative pose, masks.
        config: the LOSS node.
    """
    fine = network.refine(encoded, predicted)
    labels = label(candidate_errors(predicted, fine, targets, batch), config)
    candidates = gather_candidates(encoded, predicted, fine)
    return CandidateBatch(candidates, labels, batch.size, batch.names, batch.sources)


def candidate_losses(logits: Tensor, batch: CandidateBatch, config: CN, reduce_count: ReduceCount) -> LossTerms:
    """Return the one term that trains the consensus, weighted in the total; the others are 0.

    Args:
        logits: (M,) of the consensus.
        batch: the candidates.
        config: the LOSS node.
        reduce_count: local count -> mean over the DDP ranks (the identity in one process).
    """
    with torch.autocast(logits.device.type, enabled=False):
        loss = consensus_loss(logits, batch.labels, batch.candidates.batch, batch.size, reduce_count)
    zero = torch.zeros_like(loss)
    others = (zero,) * 9
    return LossTerms(config.CONSENSUS_WEIGHT * loss, *others, consensus=loss, teacher=zero)


def consensus_loss(logits: Tensor, labels: Tensor, pair: Tensor, pairs: int, reduce_count: ReduceCount) -> Tensor:
    """Return the binary cross entropy of "this candidate is right", a scalar: mean over the pairs of their means.

    Right and wrong ones count alike, however many of either there are, so that the logits are those of a probability.
    Candidates of unknown truth do not count, nor do pairs that have no others; over none at all the loss is 0 and
    still hangs on the graph.

    Args:
        logits: (M,) of the consensus.
        labels: (M,) of `label`.
        pair: (M,) int64 pair of each candidate.
        pairs: number of pairs.
        reduce_count: local count -> mean over the DDP ranks (the identity in one process).
    """
    known = labels != UNKNOWN
    logits = full_precision(logits)
    each = F.binary_cross_entropy_with_logits(logits[known], labels[known].to(logits.dtype), reduction="none")
    count = logits.new_zeros(pairs).index_add(0, pair[known], torch.ones_like(each))
    total = logits.new_zeros(pairs).index_add(0, pair[known], each)
    return ratio((total / count.clamp(min=1)).sum(), (count > 0).sum().to(total.dtype), reduce_count)
