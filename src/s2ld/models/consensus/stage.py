"""Consensus: which of the candidates of a pair are right, told by their neighbours.

One match alone cannot know. All candidates of a pair are the nodes of a graph; each has an edge to its nearest
candidates in image 0 and to its nearest in image 1. A few rounds of messages along the edges, with the geometry of both
displacements, give each candidate a probability of being right. Between the rounds each neighbourhood fits an affine
map, weighted by what it thinks of its members so far, and each candidate sees by how much that map misses it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision
from s2ld.models.consensus.neighbours import EDGE, FIT, Neighbourhoods
from s2ld.types import Candidates, CoarseMatches, EncodedPair, FineMatches

EVIDENCE = 4  # numbers a candidate comes with
PROJECTION = 32  # channels in which the two coarse descriptors are compared
EPS = 1e-6


class Consensus(nn.Module):
    """A graph network over the candidates of a pair; `forward` for rows of a batch, `judge` for padded tables.

    Args:
        config: the CONSENSUS node.
        coarse_dim: C, channels of the coarse descriptors.

    Raises:
        S2LDError: no neighbours or no rounds.
    """

    def __init__(self, config: CN, coarse_dim: int) -> None:
        super().__init__()
        for key in ("NEIGHBOURS", "ROUNDS", "CANDIDATES"):
            if config[key] < 1:
                raise S2LDError(f"MODEL.CONSENSUS.{key} is {config[key]}; use at least 1")
        dim = int(config.HIDDEN_DIM)
        self.neighbours = int(config.NEIGHBOURS)
        self.projection = nn.Linear(coarse_dim, PROJECTION, bias=False)
        self.node = nn.Sequential(nn.Linear(EVIDENCE + 1, dim), nn.ReLU(), nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.rounds = nn.ModuleList(Round(dim, fit=number > 0) for number in range(config.ROUNDS))
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, candidates: Candidates, pairs: int) -> Tensor:
        """Judge M candidates of a batch of `pairs` pairs → (M,) logit of the probability that a candidate is right."""
        table = PaddedRows(candidates.batch, pairs)
        logits = self.judge(
            table.padded(candidates.points0),
            table.padded(candidates.points1),
            table.padded(candidates.evidence),
            table.padded(candidates.descriptors0),
            table.padded(candidates.descriptors1),
            table.valid,
        )
        return table.rows(logits)

    def judge(
        self,
        points0: Tensor,
        points1: Tensor,
        evidence: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Judge P candidates of each of N pairs, of which some rows are padding.

        Args:
            points0: (N, P, 2) resized px of image 0.
            points1: (N, P, 2) resized px of image 1.
            evidence: (N, P, EVIDENCE), see `gather_candidates`.
            descriptors0: (N, P, C) coarse descriptors.
            descriptors1: (N, P, C).
            valid: (N, P) bool, false where padded; None: no row is padding, and there are two at least.

        Returns:
            (N, P) logits, in float32 at least; of padding any.
        """
        with torch.autocast(points0.device.type, enabled=False):  # px and their small differences
            points0, points1, evidence = full_precision(points0), full_precision(points1), full_precision(evidence)
            first, second = (self.projection(full_precision(d)) for d in (descriptors0, descriptors1))
            alike = F.cosine_similarity(first, second, dim=2)[:, :, None]
            h = self.node(torch.cat([evidence, alike], 2))
            both = points0, points1
            sides = [Neighbourhoods(points, valid, self.neighbours, both) for points in both]
            for one_round in self.rounds:
                h = one_round(h, sides, valid)
            logits: Tensor = self.head(h)[:, :, 0]
            return logits


class Round(nn.Module):
    """One round of messages along the edges in both images, beside what all candidates together say.

    Args:
        dim: D, channels of a candidate.
        fit: also see the affine fits of both neighbourhoods.
    """

    def __init__(self, dim: int, fit: bool) -> None:
        super().__init__()
        self.of_itself = nn.Linear(dim, dim)
        self.of_neighbour = nn.Linear(dim, dim, bias=False)
        self.of_edge = nn.Linear(EDGE, dim, bias=False)
        self.message = nn.Linear(dim, dim)
        self.weight = nn.Linear(dim, 1) if fit else None
        self.of_context = nn.Linear(2 * dim, 2 * dim, bias=False)
        self.of_seen = nn.Linear(5 * dim + (2 * FIT if fit else 0), 2 * dim)
        self.update = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, h: Tensor, sides: list[Neighbourhoods], valid: Tensor | None) -> Tensor:
        """(N, P, D) → (N, P, D)."""
        mine, theirs = self.of_itself(h)[:, None], self.of_neighbour(h)
        seen = [h]
        for side in sides:
            hidden = side.messages(theirs, self.of_edge.weight).add_(mine).relu_()
            # edges that do not exist repeat one that does, so that the maximum needs no mask; mean and bias can wait
            most, mean = (
                F.linear(hidden, self.message.weight).amax(1) + self.message.bias,
                self.message(side.mean(hidden)),
            )
            seen += [side.any_known(most), side.any_known(mean)]
        if self.weight is not None:
            weight = torch.sigmoid(self.weight(h))
            seen += [side.misses(weight) for side in sides]
        context = self.of_context(_context(h, valid))[:, None]
        updated: Tensor = self.norm(h + self.update(F.relu(self.of_seen(torch.cat(seen, 2)) + context)))
        return updated


class PaddedRows:
    """Rows of a batch as one table a pair, and back.

    Args:
        batch: (M,) int64, pair of each row, ascending.
        pairs: N.
    """

    def __init__(self, batch: Tensor, pairs: int) -> None:
        count = batch.new_zeros(pairs).index_add(0, batch, torch.ones_like(batch))
        self._batch = batch
        self._place = torch.arange(len(batch), device=batch.device) - (count.cumsum(0) - count)[batch]
        # a row at least: without candidates the network still runs, so that no parameter is without a gradient
        longest = max(len(batch) if pairs == 1 else int(count.max()), 1)
        self.valid: Tensor | None = None
        """(N, P) bool, false where padded; None where nothing is, and there are two rows at least."""
        if pairs > 1 or len(batch) < 2:
            self.valid = torch.arange(longest, device=batch.device) < count[:, None]
        self._shape = pairs, longest

    def padded(self, values: Tensor) -> Tensor:
        """(M, ...) → (N, P, ...), zeros where there is no row."""
        if self.valid is None:
            return values[None]
        table = values.new_zeros(*self._shape, *values.shape[1:])
        return table.index_put((self._batch, self._place), values)

    def rows(self, table: Tensor) -> Tensor:
        """(N, P, ...) → (M, ...)."""
        return table[0] if self.valid is None else table[self._batch, self._place]


def gather_candidates(encoded: EncodedPair, coarse: CoarseMatches, fine: FineMatches) -> Candidates:
    """Put together what the consensus sees of matches after the fine stage.

    The evidence of a candidate: logit of its coarse confidence, logit of its verification (0 of a fine stage that has
    none), score of keypoint 0 and standard deviation of the fine stage's window.
    """
    logit = torch.logit(full_precision(coarse.confidence), EPS) / 4
    right = torch.zeros_like(logit) if fine.correlation is None else full_precision(fine.correlation.right) / 4
    evidence = torch.stack([logit, right, full_precision(fine.score), full_precision(fine.expectation[:, 2])], 1)
    descriptors0 = encoded.coarse0[coarse.batch, coarse.cell0]
    descriptors1 = encoded.coarse1[coarse.batch, coarse.cell1]
    return Candidates(coarse.batch, fine.points0, fine.points1, evidence, descriptors0, descriptors1)


def _context(h: Tensor, valid: Tensor | None) -> Tensor:
    """(N, P, D) → (N, 2 D): mean and maximum over the candidates of a pair; zeros where there are none."""
    if valid is None:
        return torch.cat([h.mean(1), h.amax(1)], 1)
    mask = valid[:, :, None]
    count = mask.sum(1)
    most = h.masked_fill(~mask, -torch.inf).amax(1).where(count > 0, 0.0)
    return torch.cat([(h * mask).sum(1) / count.clamp(min=1), most], 1)
