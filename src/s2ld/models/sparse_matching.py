"""Sparse matching over the whole image: confidence matrix and mutual nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision
from s2ld.models.fast.best_neighbours import best_neighbours
from s2ld.models.fast.sparse_entries import Entries, dual_softmax_entries, entries_above
from s2ld.models.fast.sparse_selection import dual_softmax_matches, first_best
from s2ld.types import CoarseMatches

MASKED = -1e9  # similarity of padded cells, which no softmax can see
FEW_ONLY = {"cpu"}  # where matches are chosen among few cells; elsewhere each step of it would wait for their number


class SparseMatching(nn.Module):
    """Dual-softmax, or Sinkhorn optimal transport with a learned dustbin (Sarlin et al., CVPR 2020)."""

    def __init__(self, config: CN) -> None:
        super().__init__()
        if config.TYPE not in ("dual_softmax", "sinkhorn"):
            raise S2LDError(f"MODEL.MATCH.TYPE is {config.TYPE!r}; use dual_softmax or sinkhorn")
        self.kind = str(config.TYPE)
        self.temperature = float(config.TEMPERATURE)
        self.threshold = float(config.THRESHOLD)
        self.border = int(config.BORDER)
        self.iterations = int(config.SINKHORN_ITERATIONS)
        self.prefilter = bool(config.SINKHORN_PREFILTER)
        if self.kind == "sinkhorn":
            self.bin_score = nn.Parameter(torch.tensor(1.0))

    def forward(self, x0: Tensor, x1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None) -> Tensor:
        """Descriptors (N, L, C), (N, S, C), masks (N, L), (N, S) → confidence (N, L, S) in float32 at least."""
        with torch.autocast(x0.device.type, enabled=False):  # half precision is too coarse at temperature 0.1
            root = x0.shape[-1] ** 0.5
            similarity = (full_precision(x0) / root) @ (full_precision(x1) / root).transpose(1, 2)
            if self.kind == "dual_softmax":
                similarity = similarity / self.temperature
            if mask0 is None and mask1 is None:
                return self._assign(similarity, None, None)
            padding = ~_outer(mask0, mask1, similarity)
            # where row and column are both padded, a softmax would be even: that is no confidence either
            return self._assign(similarity.masked_fill(padding, MASKED), mask0, mask1).masked_fill(padding, 0.0)

    def _assign(self, similarity: Tensor, mask0: Tensor | None, mask1: Tensor | None) -> Tensor:
        if self.kind == "dual_softmax":
            return F.softmax(similarity, 1) * F.softmax(similarity, 2)
        return self._sinkhorn(similarity, mask0, mask1)

    def _sinkhorn(self, similarity: Tensor, mask0: Tensor | None, mask1: Tensor | None) -> Tensor:
        n, rows, columns = similarity.shape
        dustbin = self.bin_score
        couplings = torch.cat(
            [
                torch.cat([similarity, dustbin.expand(n, rows, 1)], 2),
                dustbin.expand(n, 1, columns + 1),
            ],
            1,
        )
        count0 = _count(mask0, n, rows, similarity)
        count1 = _count(mask1, n, columns, similarity)
        norm = -(count0 + count1).log()
        log_mu = torch.cat([_log_mass(norm, mask0, rows), count1.log() + norm], 1)
        log_nu = torch.cat([_log_mass(norm, mask1, columns), count0.log() + norm], 1)
        zero = torch.zeros_like(norm)
        v = torch.cat([_log_mass(zero, mask1, columns), zero], 1)
        for _ in range(self.iterations):
            u = log_mu - torch.logsumexp(couplings + v[:, None], 2)
            v = log_nu - torch.logsumexp(couplings + u[:, :, None], 1)
        log_assignment = couplings + u[:, :, None] + v[:, None] - norm[..., None]
        confidence = log_assignment[:, :-1, :-1].exp()
        if self.prefilter and not self.training:
            to_bin0 = log_assignment[:, :-1].argmax(2) == columns
            to_bin1 = log_assignment[:, :, :-1].argmax(1) == rows
            confidence = confidence.masked_fill(to_bin0[:, :, None] | to_bin1[:, None, :], 0.0)
        return confidence

    def match(
        self,
        x0: Tensor,
        x1: Tensor,
        grid0: tuple[int, int],
        grid1: tuple[int, int],
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> CoarseMatches:
        """Return what `select` picks of the confidence of `forward`, not differentiable.

        Dual softmax needs no confidence matrix for that: it is several times faster, in memory that hardly grows.

        Args:
            x0: (N, L, C) descriptors of image 0.
            x1: (N, S, C).
            grid0: (h0, w0) cells of image 0.
            grid1: (h1, w1).
            mask0: (N, h0, w0) bool, valid cells.
            mask1: (N, h1, w1).
        """
        flat0, flat1 = (None if mask is None else mask.flatten(1) for mask in (mask0, mask1))
        if self.kind != "dual_softmax":
            return self.select(self(x0, x1, flat0, flat1).detach(), grid0, grid1, mask0, mask1)
        if x0.device.type not in FEW_ONLY:
            best, partner, back = best_neighbours(x0, x1, self.temperature, flat0, flat1)
            batch, cell0 = self._good(best, partner, back, (grid0, grid1), (mask0, mask1)).nonzero(as_tuple=True)
            return CoarseMatches(batch, cell0, partner[batch, cell0], best[batch, cell0])
        matches = dual_softmax_matches(x0, x1, self.temperature, self.threshold, flat0, flat1)
        inner0 = _inner(grid0, mask0, x0.shape[0], self.border, x0.device)
        inner1 = _inner(grid1, mask1, x0.shape[0], self.border, x0.device)
        return matches.at(inner0[matches.batch, matches.cell0] & inner1[matches.batch, matches.cell1])

    def select(
        self,
        confidence: Tensor,
        grid0: tuple[int, int],
        grid1: tuple[int, int],
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> CoarseMatches:
        """Pick the matches: above the threshold, mutual nearest, off the border of the valid region.

        Args:
            confidence: (N, L, S); the confidence of the result stays differentiable.
            grid0: (h0, w0) cells of image 0.
            grid1: (h1, w1).
            mask0: (N, h0, w0) bool, valid cells.
            mask1: (N, h1, w1).
        """
        with torch.no_grad():
            best, partner = confidence.max(2)
            good = self._good(best, partner, confidence.argmax(1), (grid0, grid1), (mask0, mask1))
        batch, cell0 = good.nonzero(as_tuple=True)
        cell1 = partner[batch, cell0]
        return CoarseMatches(batch, cell0, cell1, confidence[batch, cell0, cell1])

    def entries(
        self,
        x0: Tensor,
        x1: Tensor,
        wanted: tuple[Tensor, Tensor, Tensor],
        floor: float,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> tuple[Tensor, Entries]:
        """Return what `forward` has at given cells and above a floor; for training, see `dual_softmax_entries`.

        Sinkhorn makes its whole matrix for that. Masks are (N, h, w).
        """
        flat0, flat1 = (None if mask is None else mask.flatten(1) for mask in (mask0, mask1))
        if self.kind == "dual_softmax":
            return dual_softmax_entries(x0, x1, self.temperature, wanted, floor, flat0, flat1)
        confidence = self(x0, x1, flat0, flat1)
        return confidence[wanted], entries_above(confidence, floor)

    def select_entries(
        self,
        entries: Entries,
        pairs: int,
        grid0: tuple[int, int],
        grid1: tuple[int, int],
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> CoarseMatches:
        """Pick what `select` picks of the whole matrix, of all its entries above a floor, at most the threshold.

        Args:
            entries: their confidence stays differentiable in the result.
            pairs: N, batch size.
            grid0: (h0, w0) cells of image 0.
            grid1: (h1, w1).
            mask0: (N, h0, w0) bool, valid cells.
            mask1: (N, h1, w1).
        """
        value, pair = entries.confidence.detach(), entries.batch
        good = value > self.threshold
        for cell, grid, mask in ((entries.cell0, grid0, mask0), (entries.cell1, grid1, mask1)):
            cells = grid[0] * grid[1]
            inner = _inner(grid, mask, pairs, self.border, value.device)
            good &= first_best(pair * cells + cell, value, pairs * cells) & inner[pair, cell]
        return CoarseMatches(pair[good], entries.cell0[good], entries.cell1[good], entries.confidence[good])

    def candidates(
        self, x0: Tensor, x1: Tensor, grid0: tuple[int, int], grid1: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `match` finds in shapes that do not depend on it, which exporters ask for; nothing is padded.

        Args:
            x0: (N, L, C) descriptors of image 0.
            x1: (N, S, C).
            grid0: (h0, w0) cells of image 0.
            grid1: (h1, w1).

        Returns:
            (N, L) for each cell of image 0: its best confidence, the cell of image 1 there, and whether they match.
        """
        if self.kind == "dual_softmax":
            best, partner, back = _dual_softmax_best(x0, x1, self.temperature)
        else:
            confidence = self(x0, x1)
            (best, partner), back = confidence.max(2), confidence.argmax(1)
        return best, partner, self._good(best, partner, back, (grid0, grid1), (None, None))

    def _good(
        self,
        best: Tensor,
        partner: Tensor,
        back: Tensor,
        grids: tuple[tuple[int, int], tuple[int, int]],
        masks: tuple[Tensor | None, Tensor | None],
    ) -> Tensor:
        """(N, L) bool: above the threshold, mutual nearest, off the border; `best`, `partner` (N, L), `back` (N, S)."""
        n, rows = partner.shape
        inner0, inner1 = (
            _inner(grid, mask, n, self.border, best.device) for grid, mask in zip(grids, masks, strict=True)
        )
        mutual = back.gather(1, partner) == torch.arange(rows, device=best.device)
        return mutual & (best > self.threshold) & inner0 & inner1.gather(1, partner)


def most_confident(matches: CoarseMatches, pairs: int, most: int) -> CoarseMatches:
    """Keep the `most` most confident matches of each of `pairs` pairs, the first ones of equals, in their order."""
    if len(matches) <= most:
        return matches
    return matches.at(foremost_rows(matches.batch, matches.confidence, pairs, most))


def foremost_rows(batch: Tensor, value: Tensor, pairs: int, most: int) -> Tensor:
    """Return the rows (K,) int64 of the `most` largest values of each pair, the first ones of equals, in their order.

    Args:
        batch: (M,) int64, pair of each, ascending.
        value: (M,).
        pairs: number of pairs.
        most: of a pair.
    """
    if len(batch) <= most:  # no count of a pair is asked for, which a host would wait for
        return torch.arange(len(batch), device=batch.device)
    by_value = value.detach().argsort(descending=True, stable=True)
    order = by_value[batch[by_value].argsort(stable=True)]
    count = batch.new_zeros(pairs).index_add(0, batch, torch.ones_like(batch))
    first = count.cumsum(0) - count
    place = torch.arange(len(batch), device=order.device) - first[batch]  # rows of a pair follow each other
    return order[(place < most).nonzero()[:, 0]].sort().values


def filter_by_score(matches: CoarseMatches, score: Tensor, pairs: int, config: CN) -> CoarseMatches:
    """Drop matches of a low keypoint score; see `rows_by_score`."""
    return matches.at(rows_by_score(matches.batch, score, pairs, config))


def rows_by_score(batch: Tensor, score: Tensor, pairs: int, config: CN) -> Tensor:
    """Return the rows (K,) int64 of matches whose keypoint score is not low, pair by pair.

    Scores are divided by their maximum; the threshold is lowered by STEP until more than MIN_MATCHES remain.

    Args:
        batch: (M,) int64, pair of each match.
        score: (M,) score of keypoint 0.
        pairs: batch size.
        config: the SCORE_FILTER node.
    """
    levels = [float(config.THRESHOLD)]
    while levels[-1] > 0:
        levels.append(levels[-1] - float(config.STEP))
    score = score.detach()
    most = score.new_zeros(pairs).scatter_reduce(0, batch, score, "amax")
    relative = score / most[batch].clamp(min=1e-12)
    # every level for all pairs: to stop at the first that leaves enough would ask the device after each
    limit = torch.full_like(most, levels[-1])
    for level in reversed(levels[:-1]):
        left = torch.zeros_like(most).index_add(0, batch, (relative > level).to(most.dtype))
        limit = torch.where(left > config.MIN_MATCHES, level, limit)
    return (relative > limit[batch]).nonzero()[:, 0]


def _dual_softmax_best(x0: Tensor, x1: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Find the best confidence of each row (N, L), where it is, and the best row of each column (N, S).

    All by rows, of the similarities and of their transpose: runtimes reduce along the last axis several times faster,
    which a second product is worth. The confidence is exp(2 s - log0 - log1), with the sums of both softmaxes.
    """
    scale = 1 / (x0.shape[2] * temperature)
    s01, s10 = (scale * x0) @ x1.transpose(1, 2), (scale * x1) @ x0.transpose(1, 2)
    log0, log1 = _log_sum(s01), _log_sum(s10)
    best, partner = (s01 - 0.5 * log1[:, None]).max(2)
    back = (s10 - 0.5 * log0[:, None]).argmax(2)
    return (2 * best - log0).exp(), partner, back


def _log_sum(similarity: Tensor) -> Tensor:
    # step by step: onnxruntime's own ReduceLogSumExp is three times slower
    top = similarity.amax(2)
    return top + (similarity - top[:, :, None]).exp().sum(2).log()


def _outer(mask0: Tensor | None, mask1: Tensor | None, like: Tensor) -> Tensor:
    rows = torch.ones(like.shape[:2], dtype=torch.bool, device=like.device) if mask0 is None else mask0
    columns = torch.ones(like.shape[0], like.shape[2], dtype=torch.bool, device=like.device) if mask1 is None else mask1
    return rows[:, :, None] & columns[:, None, :]


def _count(mask: Tensor | None, n: int, cells: int, like: Tensor) -> Tensor:
    """(N, 1) number of valid cells."""
    if mask is None:
        return torch.full((n, 1), cells, dtype=like.dtype, device=like.device)
    return mask.sum(1, keepdim=True).to(like.dtype)


def _log_mass(norm: Tensor, mask: Tensor | None, cells: int) -> Tensor:
    """(N, cells) log marginals: `norm` (N, 1) for each valid cell, next to nothing for a padded one."""
    mass = norm.expand(-1, cells)
    return mass if mask is None else mass.masked_fill(~mask, MASKED)


def _inner(grid: tuple[int, int], mask: Tensor | None, n: int, border: int, device: torch.device) -> Tensor:
    """(N, h*w) bool, true for cells at least `border` cells inside the valid region."""
    h, w = grid
    y = torch.arange(h, device=device)[None, :, None]
    x = torch.arange(w, device=device)[None, None, :]
    if mask is None:
        rows = torch.full((n, 1, 1), h, device=device)
        columns = torch.full((n, 1, 1), w, device=device)
    else:  # valid cells fill the top-left corner
        rows = mask.any(2).sum(1)[:, None, None]
        columns = mask.any(1).sum(1)[:, None, None]
    inside = (y >= border) & (y < rows - border) & (x >= border) & (x < columns - border)
    return inside.flatten(1)
