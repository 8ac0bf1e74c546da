"""Neighbourhoods of the candidates of a pair: who is near whom in one image, and what geometry says of each edge.

Edges are tables (N, K, P): neighbour k of candidate p. Each operation then runs over all candidates of a pair at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DISPLACEMENT = 32.0  # resized px: unit of the displacements; neighbours lie one to four cells apart
MISS = 8.0  # resized px: unit of what an affine map misses
MOST_RATIO = 4.0  # of the displacements' lengths, either way, above which all look alike
RIDGE = 0.05  # pull of the affine map to the identity, in members of weight one at a distance of DISPLACEMENT
EDGE = 8  # numbers of an edge
FIT = 5  # numbers of a neighbourhood's affine fit
FAR = 1e9  # px: where padding lies
GROUP = 4  # values of which the least stands for all, in the search for the smallest
ROWS = 256  # candidates whose neighbours are searched at a time: some MiB of distances
EPS = 1e-6


class Neighbourhoods:
    """The edges of all candidates to their nearest ones in one image.

    Args:
        points: (N, P, 2) resized px of that image.
        valid: (N, P) bool; None: no row is padding.
        most: K, edges of a candidate at most.
        both: the points in both images.
    """

    def __init__(self, points: Tensor, valid: Tensor | None, most: int, both: tuple[Tensor, Tensor]) -> None:
        n, count = points.shape[:2]
        index, self.known = nearest(points.detach(), valid, min(most, max(count - 1, 1)))
        """(N, K, P) bool: whether the edge exists; None: all do."""
        self._shape = index.shape
        self._rows = (index + count * torch.arange(n, device=index.device)[:, None, None]).flatten()
        d0, d1 = (self.of_neighbours(p) - p[:, None] for p in both)
        self.x0, self.y0 = (d0 / DISPLACEMENT).unbind(3)
        self.x1, self.y1 = (d1 / DISPLACEMENT).unbind(3)
        self.geometry = _edge_geometry(self.x0, self.y0, self.x1, self.y1)
        """(N, K, P, EDGE)."""

    def messages(self, values: Tensor, weight: Tensor) -> Tensor:
        """(N, P, D) of the candidates, (D, EDGE) → (N, K, P, D): those of the neighbours plus weight · geometry."""
        rows = values.flatten(0, 1).index_select(0, self._rows)
        return rows.addmm_(self.geometry.flatten(0, 2), weight.T).view(*self._shape, values.shape[2])

    def of_neighbours(self, values: Tensor) -> Tensor:
        """(N, P, D) of the candidates → (N, K, P, D) of their neighbours."""
        rows = values.flatten(0, 1).index_select(0, self._rows)
        return rows.view(*self._shape, values.shape[2])

    def mean(self, values: Tensor) -> Tensor:
        """(N, K, P, ...) → (N, P, ...) mean over the edges that exist; zeros where there are none."""
        if self.known is None:
            return values.mean(1)
        share = self.known / self.known.sum(1, keepdim=True).clamp(min=1)
        return (values * share.view(share.shape + (1,) * (values.ndim - 3))).sum(1)

    def any_known(self, values: Tensor) -> Tensor:
        """(N, P, D) → the same with zeros where a candidate has no edge."""
        return values if self.known is None else values * self.known[:, 0, :, None]

    def misses(self, weight: Tensor) -> Tensor:
        """Fit an affine map to each neighbourhood, (N, P, 1) weights in [0, 1] → (N, P, FIT).

        The map takes displacements in image 0 to those in image 1, by weighted least squares drawn a little to the
        identity; its shift is where the neighbours expect the candidate, counted from where it is.
        """
        w = self.of_neighbours(weight)[..., 0]
        if self.known is not None:
            w = w * self.known
        x, y, spread = fit_shift(self.x0, self.y0, self.x1, self.y1, w)
        scale = DISPLACEMENT / MISS
        far, rough = (scale**2 * (x * x + y * y)).log1p(), (scale**2 * spread).log1p()
        return torch.stack([_squash(scale * x), _squash(scale * y), far, rough, self.mean(w)], 2)


@torch.no_grad()
def nearest(points: Tensor, valid: Tensor | None, k: int) -> tuple[Tensor, Tensor | None]:
    """Find the k nearest other points of each point.

    Args:
        points: (N, P, 2).
        valid: (N, P) bool, false where padded; None: nothing is, and P > k.
        k: at most P - 1, or 1.

    Returns:
        (N, k, P) int64, nearest first, and bool, whether there is such a neighbour, None for all. Where there is none,
        the nearest one is named again.
    """
    count = points.shape[1]
    if valid is not None:
        points = points.masked_fill(~valid[:, :, None], FAR)
    x, y = F.pad(points, (0, 0, 0, -count % GROUP**2), value=FAR)[:, None].unbind(3)
    itself = torch.arange(count, device=points.device)[None, :, None].expand(len(points), -1, -1)
    found = []
    for rows, own in zip(torch.split(points, ROWS, 1), torch.split(itself, ROWS, 1), strict=True):
        distance, across = (x - rows[:, :, :1]).square_(), y - rows[:, :, 1:]
        found.append(_smallest(distance.addcmul_(across, across).scatter_(2, own, torch.inf), k))
    least, index = (torch.cat(parts, 1).transpose(1, 2) for parts in zip(*found, strict=True))
    if valid is None:
        return index.contiguous(), None
    known = least < FAR
    return torch.where(known, index, index[:, :1]).clamp(max=count - 1), known


def _smallest(values: Tensor, k: int, ordered: bool = True) -> tuple[Tensor, Tensor]:
    """Return the k smallest of (N, R, C) values in each row, (N, R, k), ascending where ordered, and where they are.

    They are in the groups of the k smallest minima, which are found first: a minimum is far cheaper than an order.
    """
    if values.shape[2] <= GROUP * k or values.shape[2] % GROUP:
        return values.topk(k, largest=False, sorted=ordered)
    grouped = values.view(*values.shape[:2], GROUP, -1)
    _, group = _smallest(grouped.amin(2), k, ordered=False)
    few = grouped.gather(3, group[:, :, None].expand(-1, -1, GROUP, -1)).flatten(2)
    least, place = few.topk(k, largest=False, sorted=ordered)
    return least, place // k * grouped.shape[3] + group.gather(2, place % k)


def fit_shift(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit (x1, y1) = A (x0, y0) + t by weighted least squares with A drawn to the identity, all (N, K, P).

    Returns:
        (N, P) both coordinates of t, and the weighted mean squared residual.
    """
    u, v = x1 - x0, y1 - y0  # so that the pull is to zero: the map is then (B + I) (x0, y0) + t
    wx, wy, wu, wv = w * x0, w * y0, w * u, w * v
    xx, xy, yy = (wx * x0).sum(1) + RIDGE, (wx * y0).sum(1), (wy * y0).sum(1) + RIDGE
    x, y, one = wx.sum(1), wy.sum(1), w.sum(1)
    # the normal equations by Cramer's rule, which every runtime can
    cx, cy, c1 = yy * (one + EPS) - y * y, x * y - xy * (one + EPS), xy * y - x * yy
    dy, d1, e1 = xx * (one + EPS) - x * x, x * xy - xx * y, xx * yy - xy * xy
    determinant = xx * cx + xy * cy + x * c1
    shifts, residuals = [], []
    for wr, r in ((wu, u), (wv, v)):
        a, b, c = (wr * x0).sum(1), (wr * y0).sum(1), wr.sum(1)
        slope_x, slope_y = (cx * a + cy * b + c1 * c) / determinant, (cy * a + dy * b + d1 * c) / determinant
        shift = (c1 * a + d1 * b + e1 * c) / determinant
        shifts.append(shift)
        residuals.append((r - slope_x[:, None] * x0 - slope_y[:, None] * y0 - shift[:, None]).square())
    return shifts[0], shifts[1], (w * (residuals[0] + residuals[1])).sum(1) / one.clamp(min=EPS)


def _edge_geometry(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor) -> Tensor:
    """Displacements of the edges in both images → (..., EDGE).

    Both displacements, the logarithm of their squared difference and of the second length, and their ratio as complex
    numbers, which is scale and turn.
    """
    length0 = x0 * x0 + y0 * y0 + 1e-3
    along, across = (x0 * x1 + y0 * y1) / length0, (x0 * y1 - y0 * x1) / length0
    ratio = (part.clamp(-MOST_RATIO, MOST_RATIO) for part in (along, across))
    difference = ((x1 - x0).square() + (y1 - y0).square()).log1p()
    length1 = (x1 * x1 + y1 * y1).log1p()
    return torch.stack([x0, y0, _squash(x1), _squash(y1), difference, length1, *ratio], -1)


def _squash(x: Tensor) -> Tensor:
    """Keep the sign and take the logarithm of the size: x of a wrong match is as large as the image."""
    return x.sign() * x.abs().log1p()
