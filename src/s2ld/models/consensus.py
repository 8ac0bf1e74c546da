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
from s2ld.types import Candidates, CoarseMatches, EncodedPair, FineMatches

DISPLACEMENT = 32.0  # resized px: unit of the displacements; neighbours lie one to four cells apart
MISS = 8.0  # resized px: unit of what an affine map misses
MOST_RATIO = 4.0  # of the displacements' lengths, either way, above which all look alike
RIDGE = 0.05  # pull of the affine map to the identity, in members of weight one at a distance of DISPLACEMENT
EVIDENCE = 4  # numbers a candidate comes with
EDGE = 8  # numbers of an edge
FIT = 5  # numbers of a neighbourhood's affine fit
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
        valid: Tensor,
    ) -> Tensor:
        """Judge P candidates of each of N pairs, of which some rows are padding.

        Args:
            points0: (N, P, 2) resized px of image 0.
            points1: (N, P, 2) resized px of image 1.
            evidence: (N, P, EVIDENCE), see `gather_candidates`.
            descriptors0: (N, P, C) coarse descriptors.
            descriptors1: (N, P, C).
            valid: (N, P) bool, false where padded.

        Returns:
            (N, P) logits, in float32 at least; of padding any.
        """
        with torch.autocast(points0.device.type, enabled=False):  # px and their small differences
            points0, points1, evidence = full_precision(points0), full_precision(points1), full_precision(evidence)
            first, second = (self.projection(full_precision(d)) for d in (descriptors0, descriptors1))
            alike = F.cosine_similarity(first, second, dim=2)[:, :, None]
            h = self.node(torch.cat([evidence, alike], 2))
            sides = [Neighbourhood(points, valid, self.neighbours, (points0, points1)) for points in (points0, points1)]
            for one_round in self.rounds:
                h = one_round(h, sides, valid)
            logits: Tensor = self.head(h)[:, :, 0]
            return logits


class Neighbourhood:
    """The edges of all candidates to their nearest ones in one image.

    Args:
        points: (N, P, 2) resized px of that image.
        valid: (N, P) bool.
        most: K, edges of a candidate at most.
        both: the points in both images.
    """

    def __init__(self, points: Tensor, valid: Tensor, most: int, both: tuple[Tensor, Tensor]) -> None:
        count = valid.shape[1]
        k = min(most, max(count - 1, 1))
        with torch.no_grad():
            distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
            itself = torch.eye(count, dtype=torch.bool, device=points.device)
            distance = distance.masked_fill(itself | ~valid[:, None], torch.inf)
            nearest, self.index = distance.topk(k, largest=False)  # (N, P, K)
        self.known = nearest.isfinite()[..., None]
        """(N, P, K, 1) bool: whether the edge exists."""
        self.count = self.known.sum(2)
        """(N, P, 1) edges of a candidate."""
        self.d0, self.d1 = ((self.of_neighbours(p) - p[:, :, None]) / DISPLACEMENT for p in both)
        self.geometry = _edge_geometry(self.d0, self.d1)

    def of_neighbours(self, values: Tensor) -> Tensor:
        """(N, P, D) of the candidates → (N, P, K, D) of their neighbours."""
        n, count, k = self.index.shape
        index = self.index.reshape(n, count * k, 1).expand(-1, -1, values.shape[2])
        return values.gather(1, index).reshape(n, count, k, values.shape[2])

    def summary(self, messages: Tensor) -> Tensor:
        """(N, P, K, D) → (N, P, 2 D) maximum and mean over the edges that exist; zeros where there are none."""
        most = messages.masked_fill(~self.known, -torch.inf).amax(2)
        mean = (messages * self.known).sum(2) / self.count.clamp(min=1)
        return torch.cat([most.where(self.count > 0, 0.0), mean], 2)

    def misses(self, weight: Tensor) -> Tensor:
        """Fit an affine map to each neighbourhood, (N, P, 1) weights in [0, 1] → (N, P, FIT).

        The map takes displacements in image 0 to those in image 1, by weighted least squares drawn a little to the
        identity; its shift is where the neighbours expect the candidate, counted from where it is.
        """
        w = self.of_neighbours(weight) * self.known
        shift, spread = fit_shift(self.d0, self.d1, w)
        scale = DISPLACEMENT / MISS
        far = (scale**2 * shift.square().sum(2, keepdim=True)).log1p()
        rough = (scale**2 * spread).log1p()
        trust = w.sum(2) / self.count.clamp(min=1)
        return torch.cat([_squash(scale * shift), far, rough, trust], 2)


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
        self.update = nn.Sequential(
            nn.Linear(7 * dim + (2 * FIT if fit else 0), 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, h: Tensor, sides: list[Neighbourhood], valid: Tensor) -> Tensor:
        """(N, P, D) → (N, P, D)."""
        mine, theirs = self.of_itself(h)[:, :, None], self.of_neighbour(h)
        seen = [h, _context(h, valid)]
        for side in sides:
            hidden = F.relu(mine + side.of_neighbours(theirs) + self.of_edge(side.geometry))
            seen.append(side.summary(self.message(hidden)))
        if self.weight is not None:
            weight = torch.sigmoid(self.weight(h))
            seen += [side.misses(weight) for side in sides]
        updated: Tensor = self.norm(h + self.update(torch.cat(seen, 2)))
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
        self.valid = torch.arange(longest, device=batch.device) < count[:, None]
        """(N, P) bool."""

    def padded(self, values: Tensor) -> Tensor:
        """(M, ...) → (N, P, ...), zeros where there is no row."""
        table = values.new_zeros(*self.valid.shape, *values.shape[1:])
        return table.index_put((self._batch, self._place), values)

    def rows(self, table: Tensor) -> Tensor:
        """(N, P, ...) → (M, ...)."""
        return table[self._batch, self._place]


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


def fit_shift(d0: Tensor, d1: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Fit d1 = A d0 + t by weighted least squares with A drawn to the identity.

    Args:
        d0: (..., K, 2).
        d1: (..., K, 2).
        weight: (..., K, 1).

    Returns:
        (..., 2) t, and (..., 1) the weighted mean squared residual.
    """
    x = torch.cat([d0, torch.ones_like(weight)], -1)
    pull = x.new_tensor([RIDGE, RIDGE, EPS])
    normal = (weight * x).transpose(-1, -2) @ x + torch.diag(pull)
    # of d1 - d0, so that the pull is to zero; the map is then (B + I) d0 + t
    right = (weight * x).transpose(-1, -2) @ (d1 - d0)
    solution = _inverse3(normal) @ right
    residual = (d1 - d0 - x @ solution).square().sum(-1, keepdim=True)
    spread = (weight * residual).sum(-2) / weight.sum(-2).clamp(min=EPS)
    return solution[..., 2, :], spread


def _inverse3(m: Tensor) -> Tensor:
    """Invert (..., 3, 3) positive definite matrices by their cofactors, which every runtime can."""
    a, b, c = m.unbind(-1)
    cofactors = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], -2)
    return cofactors / (a * cofactors[..., 0, :]).sum(-1)[..., None, None]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _edge_geometry(d0: Tensor, d1: Tensor) -> Tensor:
    """(..., 2) displacements of an edge in both images → (..., EDGE).

    Both displacements, the logarithm of their squared difference and of the second length, and their ratio as complex
    numbers, which is scale and turn.
    """
    length0 = d0.square().sum(-1, keepdim=True)
    along = (d0 * d1).sum(-1, keepdim=True)
    across = d0[..., :1] * d1[..., 1:] - d0[..., 1:] * d1[..., :1]
    ratio = (torch.cat([along, across], -1) / (length0 + 1e-3)).clamp(-MOST_RATIO, MOST_RATIO)
    difference = (d1 - d0).square().sum(-1, keepdim=True).log1p()
    length1 = d1.square().sum(-1, keepdim=True).log1p()
    return torch.cat([d0, _squash(d1), difference, length1, ratio], -1)


def _squash(x: Tensor) -> Tensor:
    """Keep the sign and take the logarithm of the size: x of a wrong match is as large as the image."""
    return x.sign() * x.abs().log1p()


def _context(h: Tensor, valid: Tensor) -> Tensor:
    """(N, P, D) → (N, P, 2 D): mean and maximum over the candidates of a pair, the same for each."""
    mask = valid[:, :, None]
    mean = (h * mask).sum(1) / mask.sum(1).clamp(min=1)
    most = h.masked_fill(~mask, -torch.inf).amax(1).nan_to_num(neginf=0.0)
    return torch.cat([mean, most], 1)[:, None].expand(-1, h.shape[1], -1)
