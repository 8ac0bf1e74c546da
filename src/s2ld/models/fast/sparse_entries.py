"""Single entries of the dual-softmax confidence matrix, differentiable, without the matrix.

Training reads few of its entries: those of the true matches, and those that are not faint. An entry is the product of
the shares that the exponential of its similarity `s` has in its row and in its column. Similarities of some rows at a
time are made and forgotten, twice on the way forward (sums, entries) and once on the way back. With ``g`` the gradient
of an entry times the entry, summed to `G0` and `G1` along the axes, that of the similarities is
``2 g - softmax(s, 1) G0 - softmax(s, 0) G1``. Largest similarities and sums are kept apart, since their logarithms
would round: of a match that is nearly certain, what counts is the little that it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2ld.geometry.linalg import full_precision

BLOCK = {"cpu": 2**20}  # similarities held at a time: some MiB, between the second and third level of caches
BLOCK_ELSEWHERE = 2**26  # accelerators: few launches


@dataclass(frozen=True)
class Entries:
    """Some entries of the confidence matrices of N pairs."""

    batch: Tensor
    """(K,) int64, ascending."""
    cell0: Tensor
    """(K,) int64, ascending within a pair."""
    cell1: Tensor
    """(K,) int64."""
    confidence: Tensor
    """(K,) in [0, 1], differentiable."""

    def __len__(self) -> int:
        return self.batch.shape[0]


def dual_softmax_entries(
    x0: Tensor,
    x1: Tensor,
    temperature: float,
    wanted: tuple[Tensor, Tensor, Tensor],
    floor: float,
    mask0: Tensor | None = None,
    mask1: Tensor | None = None,
) -> tuple[Tensor, Entries]:
    """Return confidences at given cells, and all entries above a floor; in float32 at least, also under autocast.

    Agrees, gradients included, with reading ``softmax(s, 1) * softmax(s, 2)`` of the similarities
    ``s = x0 x1ᵀ / (C temperature)`` there, and holds a small part of `s` at a time.

    Args:
        x0: (N, L, C) descriptors.
        x1: (N, S, C).
        temperature: of the softmax.
        wanted: (P,) int64 pair, ascending, cell of image 0, ascending within a pair, and cell of image 1.
        floor: in [0, 1); the lower, the more entries there are, at most 1 / floor a row.
        mask0: (N, L) bool, false where padded; None where nothing is. No wanted cell is padded.
        mask1: (N, S).

    Returns:
        (P,) confidences at the wanted cells, and the entries that exceed the floor.
    """
    at_wanted, found = [], []
    with torch.autocast(x0.device.type, enabled=False):
        for pair in range(x0.shape[0]):
            cells0, cells1 = _cells(x0, mask0, pair), _cells(x1, mask1, pair)
            y0, y1 = full_precision(x0[pair])[cells0], full_precision(x1[pair])[cells1]
            mine = wanted[0] == pair
            place0, place1 = torch.searchsorted(cells0, wanted[1][mine]), torch.searchsorted(cells1, wanted[2][mine])
            scale = 1 / (x0.shape[2] * temperature)
            read = _Entries.apply(y0, y1, scale, place0, place1, floor)  # type: ignore[no-untyped-call]
            values, confidence, row, column = read
            at_wanted.append(values)
            found.append((torch.full_like(row, pair), cells0[row], cells1[column], confidence))
    batch, cell0, cell1, confidence = (torch.cat(parts) for parts in zip(*found, strict=True))
    return torch.cat(at_wanted), Entries(batch, cell0, cell1, confidence)


def entries_above(matrix: Tensor, floor: float) -> Entries:
    """Return the entries of (N, L, S) confidences that exceed a floor."""
    batch, cell0, cell1 = (matrix.detach() > floor).nonzero(as_tuple=True)
    return Entries(batch, cell0, cell1, matrix[batch, cell0, cell1])


class _Entries(torch.autograd.Function):
    """Entries of one pair of (L, C) and (S, C) descriptors: at wanted rows and columns, and all above the floor."""

    @staticmethod
    def forward(
        ctx: Any, x0: Tensor, x1: Tensor, scale: float, wanted0: Tensor, wanted1: Tensor, floor: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        top0, sum0, top1, sum1 = _tops_and_sums(x0, x1, scale)
        at_wanted, parts = [], []
        for rows, similarity in _blocks(x0, x1, scale):
            confidence = (similarity - top1).exp_().div_(sum1)
            confidence.mul_(similarity.sub_(top0[rows, None]).exp_().div_(sum0[rows, None]))
            first, last = _range(wanted0, rows)
            at_wanted.append(confidence[wanted0[first:last] - rows.start, wanted1[first:last]])
            row, column = (confidence > floor).nonzero(as_tuple=True)
            parts.append((row + rows.start, column, confidence[row, column]))
        row, column, large = (torch.cat(part) for part in zip(*parts, strict=True))
        wanted = torch.cat(at_wanted)
        ctx.scale = scale
        ctx.save_for_backward(x0, x1, top0, sum0, top1, sum1, wanted0, wanted1, wanted, row, column, large)
        ctx.mark_non_differentiable(row, column)
        return wanted, large, row, column

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_wanted: Tensor, grad_large: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x0, x1, top0, sum0, top1, sum1, wanted0, wanted1, wanted, row, column, large = ctx.saved_tensors
        row, order = torch.cat([wanted0, row]).sort()
        column = torch.cat([wanted1, column])[order]
        gradient = torch.cat([grad_wanted * wanted, grad_large * large])[order]
        total0 = torch.zeros_like(sum0).index_add_(0, row, gradient).div_(sum0)
        total1 = torch.zeros_like(sum1).index_add_(0, column, gradient).div_(sum1)
        grad0, grad1 = torch.empty_like(x0), torch.zeros_like(x1)
        for rows, similarity in _blocks(x0, x1, ctx.scale):
            shares1 = (similarity - top1).exp_().mul_(total1)
            change = similarity.sub_(top0[rows, None]).exp_().mul_(total0[rows, None]).add_(shares1).neg_()
            first, last = _range(row, rows)
            place = (row[first:last] - rows.start, column[first:last])
            change.index_put_(place, 2 * gradient[first:last], accumulate=True)
            grad0[rows] = change @ x1
            grad1.addmm_(change.T, x0[rows])
        return grad0.mul_(ctx.scale), grad1.mul_(ctx.scale), None, None, None, None


def _cells(x: Tensor, mask: Tensor | None, pair: int) -> Tensor:
    return torch.arange(x.shape[1], device=x.device) if mask is None else mask[pair].nonzero()[:, 0]


def _blocks(x0: Tensor, x1: Tensor, scale: float) -> Iterator[tuple[slice, Tensor]]:
    """Yield the similarities (B, S) of some rows at a time, to be overwritten by whoever takes them."""
    size = max(1, BLOCK.get(x0.device.type, BLOCK_ELSEWHERE) // max(1, len(x1)))
    keys = (scale * x1).T.contiguous()
    for first in range(0, len(x0), size):
        queries = x0[first : first + size]
        yield slice(first, first + len(queries)), queries @ keys


def _tops_and_sums(x0: Tensor, x1: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return largest similarity and sum of the exponentials of what is below it, of rows (L,) and of columns (S,)."""
    top0, sum0 = x0.new_empty(2, len(x0)).unbind()
    top1, sum1 = x1.new_full((len(x1),), -torch.inf), x1.new_zeros(len(x1))
    for rows, similarity in _blocks(x0, x1, scale):
        top0[rows] = similarity.amax(1)
        sum0[rows] = (similarity - top0[rows, None]).exp_().sum(1)
        top = torch.maximum(top1, similarity.amax(0))
        sum1 = sum1.mul_((top1 - top).exp_()).add_(similarity.sub_(top).exp_().sum(0))
        top1 = top
    return top0, sum0, top1, sum1


def _range(ascending: Tensor, rows: slice) -> tuple[int, int]:
    """Return where in an ascending list the numbers of these rows are."""
    limits = torch.tensor([rows.start, rows.stop], device=ascending.device)
    first, last = torch.searchsorted(ascending, limits).tolist()
    return int(first), int(last)
