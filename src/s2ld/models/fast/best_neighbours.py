"""Mutual nearest neighbours by dual softmax on accelerators: in fixed shapes and without the confidence matrix.

`sparse_selection` chooses among a few candidates, whose number the host must know at every step. Here nothing waits for
what the similarities are, and an accelerator gets all the work of a batch in one go. They are made some rows at a time,
twice: once for the sums of both softmaxes, once for the maxima.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2**26  # similarities held at a time: few launches in 256 MiB
PADDED = -1e9  # bits: similarity of padded cells, which no sum can see


@torch.no_grad()
def best_neighbours(
    x0: Tensor, x1: Tensor, temperature: float, mask0: Tensor | None = None, mask1: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the maxima of ``softmax(s, 1) * softmax(s, 2)``, ``s = x0 x1ᵀ / (C temperature)``, along both axes.

    Args:
        x0: (N, L, C) descriptors.
        x1: (N, S, C).
        temperature: of the softmax.
        mask0: (N, L) bool, false where padded; None where nothing is.
        mask1: (N, S).

    Returns:
        (N, L) best confidence of each cell of image 0, 0 where padded; (N, L) int64, the cell of image 1 there;
        (N, S) int64, the best cell of image 0 for each cell of image 1. Of equals the first; not differentiable.
    """
    bits = math.log2(math.e) / (x0.shape[2] * temperature)  # powers of 2 are cheaper than those of e
    with torch.autocast(x0.device.type, enabled=False):
        best, partner, back = _best(x0.float(), x1.float() * bits, mask0, mask1)
    if mask0 is not None:
        best = best * mask0
    if mask1 is not None:  # only where all of image 1 is padded is the best cell
        best = best * mask1.gather(1, partner)
    return best, partner, back


def _best(x0: Tensor, x1: Tensor, mask0: Tensor | None, mask1: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    log0, log1 = x0.new_empty(x0.shape[:2]), x0.new_full(x1.shape[:2], -torch.inf)
    for part, similarity in _blocks(x0, x1, mask0, mask1):
        log0[:, part] = _log_sum(similarity, 2)
        log1 = torch.logaddexp2(log1, _log_sum(similarity, 1))
    best0, partner0 = torch.empty_like(log0), torch.empty_like(log0, dtype=torch.int64)
    best1, partner1 = torch.full_like(log1, -torch.inf), torch.zeros_like(log1, dtype=torch.int64)
    for part, similarity in _blocks(x0, x1, mask0, mask1):
        share0 = similarity - log0[:, part, None]
        confidence = share0.add_(similarity.sub_(log1[:, None]))  # in bits
        best0[:, part], partner0[:, part] = confidence.max(2)
        best, partner = confidence.max(1)
        better = best > best1
        best1 = torch.where(better, best, best1)
        partner1 = torch.where(better, partner + part.start, partner1)
    return best0.exp2(), partner0, partner1


def _blocks(x0: Tensor, x1: Tensor, mask0: Tensor | None, mask1: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Yield the similarities (N, B, S) of some rows at a time, in memory that the next ones take."""
    (n, rows), columns = x0.shape[:2], x1.shape[1]
    size = min(rows, max(1, BLOCK // (n * columns)))
    keys = x1.transpose(1, 2).contiguous()
    memory = x0.new_empty(n * size * columns)
    for first in range(0, rows, size):
        queries = x0[:, first : first + size]
        part = slice(first, first + queries.shape[1])
        similarity = memory[: n * queries.shape[1] * columns].view(n, -1, columns)
        torch.bmm(queries, keys, out=similarity)
        if mask0 is not None:
            similarity.masked_fill_(~mask0[:, part, None], PADDED)
        if mask1 is not None:
            similarity.masked_fill_(~mask1[:, None], PADDED)
        yield part, similarity


def _log_sum(similarity: Tensor, axis: int) -> Tensor:
    """Sum powers of 2 along an axis, as their logarithm."""
    top = similarity.amax(axis, keepdim=True)
    return (top + (similarity - top).exp2_().sum(axis, keepdim=True).log2_()).squeeze(axis)
