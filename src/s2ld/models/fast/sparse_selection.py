"""Mutual nearest neighbours by dual softmax without the confidence matrix, for inference.

The similarities of some rows at a time fit into a processor's cache. Their exponentials are summed along both axes,
and only the few that make up more than the threshold of their row are kept: the confidence is a product of two
shares, so that no other cell can exceed the threshold. When all sums are known, matches are chosen among those few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.types import CoarseMatches

BLOCK = 2**20  # similarities held at a time: some MiB, between the second and third level of caches
WIDTH = 5000  # columns of these at most, so that there are rows enough for a fast product; 640 x 480 px have 4800 cells
SPARSE = 0.003  # from this threshold on, cells above it are few: at most its inverse a row, some 30 of real images
REACH = 80.0  # bits: sums of up to 2^20 powers between 2^-80 and 2^80 neither overflow nor underflow in float32
WORD = 8  # bytes: masks are searched for non-zero words first


@dataclass(frozen=True)
class _Shares:
    """Exponentials of one pair, up to a common factor, summed along both axes; and the large ones among them."""

    rows: Tensor
    """(L,) sum of each row."""
    columns: Tensor
    """(S,) sum of each column."""
    row: Tensor
    """(K,) int64: where a cell makes up more than the threshold of its row, in an order ..."""
    column: Tensor
    """(K,) int64: ... that ascends among the cells of a row and among those of a column."""
    weight: Tensor
    """(K,) the exponential there."""


@torch.no_grad()
def dual_softmax_matches(
    x0: Tensor,
    x1: Tensor,
    temperature: float,
    threshold: float,
    mask0: Tensor | None = None,
    mask1: Tensor | None = None,
) -> CoarseMatches:
    """Match N pairs: mutual nearest cells above the threshold, borders included; not differentiable.

    Agrees with the maxima of ``softmax(s, 1) * softmax(s, 2)`` of the similarities ``s = x0 x1ᵀ / (C temperature)``,
    of which equal ones go to the first, and holds a small part of `s` at a time. It is fastest at thresholds from
    `SPARSE` on.

    Args:
        x0: (N, L, C) descriptors.
        x1: (N, S, C).
        temperature: of the softmax.
        threshold: confidence that a match must exceed, in [0, 1).
        mask0: (N, L) bool, false where padded; None where nothing is.
        mask1: (N, S).
    """
    bits = math.log2(math.e) / (x0.shape[2] * temperature)  # powers of 2 are cheaper than those of e
    found = []
    with torch.autocast(x0.device.type, enabled=False):
        for pair in range(x0.shape[0]):
            cells0, cells1 = _cells(x0, mask0, pair), _cells(x1, mask1, pair)
            y0, y1 = x0[pair].index_select(0, cells0).float(), x1[pair].index_select(0, cells1).float() * bits
            row, column, confidence = _match(y0, y1, threshold)
            found.append(CoarseMatches(torch.full_like(row, pair), cells0[row], cells1[column], confidence))
    return CoarseMatches(
        torch.cat([m.batch for m in found]),
        torch.cat([m.cell0 for m in found]),
        torch.cat([m.cell1 for m in found]),
        torch.cat([m.confidence for m in found]),
    )


def _cells(x: Tensor, mask: Tensor | None, pair: int) -> Tensor:
    return torch.arange(x.shape[1], device=x.device) if mask is None else mask[pair].nonzero()[:, 0]


def _match(x0: Tensor, x1: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Match descriptors (L, C) and (S, C) with similarities in bits → row (M,), column (M,), confidence (M,)."""
    if 0 in (len(x0), len(x1)):
        nothing = torch.zeros(0, dtype=torch.int64, device=x0.device)
        return nothing, nothing, x0.new_zeros(0)
    shares = _large_shares(x0, x1, threshold) if threshold >= SPARSE else None
    row, column, confidence = _best_of_all(x0, x1) if shares is None else _best_of_few(shares)
    good = (confidence > threshold).nonzero()[:, 0]
    good = good[row[good].argsort()]
    return row[good], column[good], confidence[good]


class _Tiles:
    """The similarities of some rows with some columns at a time, and what else a tile takes, in memory used again.

    Nothing of a tile's size is allocated for each of them: between the few that is kept such pieces would leave holes.
    """

    def __init__(self, x0: Tensor, x1: Tensor) -> None:
        self.x0, self.x1 = x0, x1
        columns = -(-len(x1) // -(-len(x1) // WIDTH))  # even parts
        rows = min(len(x0), max(1, BLOCK // columns))
        self.rows = [slice(first, min(first + rows, len(x0))) for first in range(0, len(x0), rows)]
        self.columns = [slice(first, min(first + columns, len(x1))) for first in range(0, len(x1), columns)]
        self._keys = [x1[tile].T.contiguous() for tile in self.columns]
        self._similarity, self._chosen = x0.new_empty(rows * columns), x0.new_empty(rows * columns)
        self._mask = torch.empty(rows * -(-columns // WORD) * WORD, dtype=torch.bool, device=x0.device)

    def of(self, part: slice) -> Iterator[tuple[slice, Tensor]]:
        """Yield the similarities (B, T) of rows with some columns, which last until the next ones."""
        queries = self.x0[part]
        for tile, keys in zip(self.columns, self._keys, strict=True):
            memory = self._similarity[: len(queries) * keys.shape[1]].view(len(queries), keys.shape[1])
            yield tile, torch.mm(queries, keys, out=memory)

    def above(self, weight: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Find where (B, T) exceeds the limit (B,) of its row → (K,) rows and columns, in order."""
        columns, words = weight.shape[1], -(-weight.shape[1] // WORD)
        rows = (weight.amax(1) > limit).nonzero()[:, 0]
        chosen = self._chosen[: len(rows) * columns].view(len(rows), columns)
        # a mask is dear to search byte by byte and nearly empty: find words that are not zero, then the bytes in them
        mask = self._mask[: len(rows) * words * WORD].view(len(rows), words * WORD)
        mask[:, columns:] = False
        torch.gt(torch.index_select(weight, 0, rows, out=chosen), limit[rows, None], out=mask[:, :columns])
        at, word = mask.view(torch.int64).nonzero(as_tuple=True)
        which, byte = mask.view(len(rows), words, WORD)[at, word].nonzero(as_tuple=True)
        return rows[at[which]], word[which] * WORD + byte


def _large_shares(x0: Tensor, x1: Tensor, threshold: float) -> _Shares | None:
    """Sum exponentials and find the large ones; None where float32 cannot hold what similarities span."""
    # no similarity exceeds the product of the lengths, so that no power exceeds 2^REACH
    shift = max(0.0, float(x0.norm(dim=1).max() * x1.norm(dim=1).max()) - REACH)
    rows, columns = x0.new_zeros(len(x0)), x0.new_zeros(len(x1))
    tiles, kept = _Tiles(x0, x1), []
    for part in tiles.rows:
        likely = []
        for tile, similarity in tiles.of(part):
            weight = (similarity.sub_(shift) if shift else similarity).exp2_()
            rows[part] += weight.sum(1)
            columns[tile] += weight.sum(0)
            # shares of the columns so far, of which there are at most 1 / threshold a row and tile
            row, column = tiles.above(weight, threshold * rows[part])
            likely.append((row + part.start, column + tile.start, weight[row, column]))
        row, column, large = (torch.cat(parts) for parts in zip(*likely, strict=True))
        few = (large > threshold * rows[row]).nonzero()[:, 0]
        kept.append((row[few], column[few], large[few]))
    # then what underflow took is below the rounding of every sum; never true of NaN
    if not bool(torch.minimum(rows.min(), columns.min()) >= 2.0**-REACH):
        return None
    row, column, large = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return _Shares(rows, columns, row, column, large)


def _best_of_few(shares: _Shares) -> tuple[Tensor, Tensor, Tensor]:
    """Choose mutual nearest neighbours among the large shares: a better neighbour would be one of them too."""
    row, column = shares.row, shares.column
    confidence = (shares.weight / shares.rows[row]) * (shares.weight / shares.columns[column])
    mutual = first_best(row, confidence, len(shares.rows)) & first_best(column, confidence, len(shares.columns))
    return row[mutual], column[mutual], confidence[mutual]


def first_best(group: Tensor, value: Tensor, groups: int) -> Tensor:
    """(K,) bool: whether a value is the largest of its group, the first one of equals."""
    best = value.new_zeros(groups).scatter_reduce(0, group, value, "amax")
    order = torch.arange(len(group), device=group.device)
    top = (value == best[group]).nonzero()[:, 0]
    first = torch.full((groups,), len(group), device=group.device).scatter_reduce(0, group[top], top, "amin")
    return first[group] == order


def _best_of_all(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Choose mutual nearest neighbours among all cells, in two runs over them, whatever similarities span."""
    tiles = _Tiles(x0, x1)
    rows, columns = x0.new_full((len(x0),), -torch.inf), x0.new_full((len(x1),), -torch.inf)
    for part in tiles.rows:
        for tile, similarity in tiles.of(part):
            rows[part] = torch.logaddexp2(rows[part], _log_sum(similarity, 1))
            columns[tile] = torch.logaddexp2(columns[tile], _log_sum(similarity, 0))
    best0, partner0 = torch.full_like(rows, -1.0), torch.zeros_like(rows, dtype=torch.int64)
    best1, partner1 = torch.full_like(columns, -1.0), torch.zeros_like(columns, dtype=torch.int64)
    for part in tiles.rows:
        for tile, similarity in tiles.of(part):
            share0 = similarity - rows[part, None]
            confidence = share0.add_(similarity.sub_(columns[tile])).exp2_()
            _keep_better(best0[part], partner0[part], *confidence.max(1), tile.start)
            _keep_better(best1[tile], partner1[tile], *confidence.max(0), part.start)
    row = torch.arange(len(best0), device=best0.device)
    mutual = partner1[partner0] == row
    return row[mutual], partner0[mutual], best0[mutual]


def _keep_better(best: Tensor, partner: Tensor, value: Tensor, index: Tensor, start: int) -> None:
    """Put values that are larger, and their `index` from `start` on, in place of those before; equal ones stay."""
    better = value > best
    best.copy_(torch.where(better, value, best))
    partner.copy_(torch.where(better, index + start, partner))


def _log_sum(similarity: Tensor, axis: int) -> Tensor:
    """Sum powers of 2 along an axis, as their logarithm."""
    top = similarity.amax(axis, keepdim=True)
    return (top + (similarity - top).exp2_().sum(axis, keepdim=True).log2_()).squeeze(axis)
