"""Local affine maps from image 0 to image 1, fitted to the matches around a point.

Around a point of a smooth surface two views are related by an affine map, up to terms of second order (Hartley &
Zisserman, section 2.4). It is fitted here to the nearest matches by least squares, iteratively reweighted with Geman
and McClure's weights while their scale falls (graduated non-convexity, Blake & Zisserman 1987). The first weights are
a vote: how well each neighbour's displacement agrees with the others'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.types import Rows

SCALES = (16.0, 6.0, 3.0, 1.5)  # px of image 1: of the weights, from the first fit to the last
VOTE_PX, VOTE_RATIO = 3.0, 0.4  # displacements may differ by so many px, and by this of their points' distance
PRIOR = 1.0  # px²: how much the map is drawn to the similarity, against the neighbours' variance in image 0
MIN_SUPPORT = 4.0  # neighbours that agree, below which there is no map
MIN_SPREAD = 2.0  # px of image 0: least standard deviation of the neighbours across the line that fits them best
MAX_SCALE = 5.0  # largest stretching or shrinking along any direction
BLOCK = 2**22  # distances that are held at a time
FAR = 1e9  # px: between matches of two pairs


@dataclass(frozen=True)
class LocalAffine(Rows):
    """An affine map around each of Q points of image 0: ``place + linear (x - point)``."""

    linear: Tensor
    """(Q, 2, 2) px of image 1 a px of image 0; the identity where the map is not usable."""
    place: Tensor
    """(Q, 2) where the point is in image 1 by its neighbours, px."""
    residual: Tensor
    """(Q,) root mean square of the distances, px of image 1, by which the neighbours miss the map, as weighted."""
    support: Tensor
    """(Q,) number of neighbours that agree with the map, each from 0 to 1."""
    usable: Tensor
    """(Q,) bool: enough support, not along one line, orientation kept, within the largest scale."""


def local_affine(
    points: Tensor,
    points0: Tensor,
    points1: Tensor,
    weight: Tensor,
    nearest: tuple[Tensor, Tensor],
    radius: float = math.inf,
) -> LocalAffine:
    """Fit the map around each point to matches near it, float32, not differentiable.

    Args:
        points: (Q, 2) px of image 0, whether matched or not.
        points0: (M, 2) px of image 0 of the matches.
        points1: (M, 2) px of image 1.
        weight: (M,) at least 0, how far each match is trusted.
        nearest: the matches of each point, by `nearest_matches`.
        radius: px of image 0: matches beyond it are not taken.

    Returns:
        A row for each point; of points without any neighbour the place is the point itself.
    """
    points, points0, points1 = points.detach().float(), points0.detach().float(), points1.detach().float()
    index, distance = nearest
    if not index.numel():
        return _nothing(points)
    trusted = weight.detach().float()[index] * (distance <= min(radius, FAR / 2))
    x0, y0 = (points0[:, i][index] - points[:, i, None] for i in (0, 1))
    x1, y1 = (points1[:, i][index] - points[:, i, None] for i in (0, 1))
    return _fit(points, x0, y0, x1, y1, trusted)


def nearest_matches(
    points: Tensor, batch: Tensor, points0: Tensor, matched_batch: Tensor, neighbours: int
) -> tuple[Tensor, Tensor]:
    """Find the matches that are nearest in image 0 to each point, of the same pair.

    Args:
        points: (Q, 2) px of image 0.
        batch: (Q,) int64, the pair of each.
        points0: (M, 2) px of image 0 of the matches.
        matched_batch: (M,) int64, the pair of each match.
        neighbours: number of matches, at least 1.

    Returns:
        (Q, K) int64 rows of the matches, K at most `neighbours` and M, and their distances, px; where a pair has less,
        matches of other pairs follow, at `FAR`.
    """
    points, points0 = points.detach().float(), points0.detach().float()
    count = min(neighbours, len(points0))
    part = max(1, BLOCK // max(1, len(points0)))
    rows, distances = [], []
    for some, pair in zip(torch.split(points, part), torch.split(batch, part), strict=True):
        square = (some[:, :1] - points0[:, 0]).square_().add_((some[:, 1:] - points0[:, 1]).square_())
        square.masked_fill_(pair[:, None] != matched_batch, FAR**2)
        least, row = square.topk(count, dim=1, largest=False)
        rows.append(row)
        distances.append(least.sqrt())
    return torch.cat(rows), torch.cat(distances)


def _fit(points: Tensor, x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, trusted: Tensor) -> LocalAffine:
    """Fit to neighbours (Q, K), whose coordinates in both images are told from the point."""
    weight = trusted * _vote(x0, y0, x1, y1, trusted)
    for scale in SCALES:
        linear, place, spread = _least_squares(x0, y0, x1, y1, weight)
        square = _misses(x0, y0, x1, y1, linear, place)
        agrees = (scale**2 / (scale**2 + square)).square()
        weight = trusted * agrees
    residual = ((weight * square).sum(1) / weight.sum(1).clamp(min=1e-12)).sqrt()
    support = (agrees * (trusted > 0)).sum(1)
    usable = (support >= MIN_SUPPORT) & (spread >= MIN_SPREAD) & _sane(linear)
    identity = torch.eye(2, device=points.device)
    return LocalAffine(torch.where(usable[:, None, None], linear, identity), points + place, residual, support, usable)


def _vote(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, trusted: Tensor) -> Tensor:
    """Return (Q, K): the trust in the neighbours whose displacement agrees with each one's, as a share of all."""

    def between(x: Tensor, y: Tensor) -> Tensor:
        return (x[:, :, None] - x[:, None]).square_() + (y[:, :, None] - y[:, None]).square_()

    allowed = between(x0, y0).mul_(VOTE_RATIO**2).add_(VOTE_PX**2)
    agrees = (allowed / (allowed + between(x1 - x0, y1 - y0))).square_()
    votes = (agrees * trusted[:, None]).sum(2) - trusted  # without its own
    return votes / trusted.sum(1, keepdim=True).clamp(min=1e-12)


def _least_squares(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return linear (Q, 2, 2), the place of the origin (Q, 2) and the least deviation of the neighbours (Q,), px."""
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-12)
    mean = [(weight * v).sum(1, keepdim=True) for v in (x0, y0, x1, y1)]
    x0, y0, x1, y1 = (v - m for v, m in zip((x0, y0, x1, y1), mean, strict=True))
    by_x, by_y = weight * x0, weight * y0
    xx, xy, yy = (by_x * x0).sum(1), (by_x * y0).sum(1), (by_y * y0).sum(1)
    m11, m12, m21, m22 = ((by * v).sum(1) for v in (x1, y1) for by in (by_x, by_y))
    # the similarity first, itself drawn to the identity, which then stands in where the neighbours say little
    a, b = (m11 + m22 + 2 * PRIOR) / (xx + yy + 2 * PRIOR), (m21 - m12) / (xx + yy + 2 * PRIOR)
    least = 0.5 * (xx + yy) - (0.25 * (xx - yy).square() + xy.square()).sqrt()
    m11, m12, m21, m22 = m11 + PRIOR * a, m12 - PRIOR * b, m21 + PRIOR * b, m22 + PRIOR * a
    xx, yy = xx + PRIOR, yy + PRIOR
    rows = (m11 * yy - m12 * xy, m12 * xx - m11 * xy, m21 * yy - m22 * xy, m22 * xx - m21 * xy)
    linear = (torch.stack(rows, 1) / (xx * yy - xy * xy)[:, None]).view(-1, 2, 2)
    middle0, middle1 = torch.cat(mean[:2], 1), torch.cat(mean[2:], 1)
    return linear, middle1 - (linear * middle0[:, None]).sum(2), least.clamp(min=0).sqrt()


def _misses(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, linear: Tensor, place: Tensor) -> Tensor:
    """Return (Q, K) px²: squared distances of the neighbours from where the map takes them."""
    (a, b, c, d), (x, y) = linear.flatten(1)[..., None].unbind(1), place[..., None].unbind(1)
    return (a * x0 + b * y0 + x - x1).square() + (c * x0 + d * y0 + y - y1).square()


def _sane(linear: Tensor) -> Tensor:
    """Whether a map keeps the orientation and stretches or shrinks by no more than `MAX_SCALE`, (Q,) bool."""
    least, largest = singular_values(linear)
    determinant = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    return (determinant > 0) & (least >= 1 / MAX_SCALE) & (largest <= MAX_SCALE)


def singular_values(linear: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lesser and the larger singular value (Q,) of maps (Q, 2, 2)."""
    a, b, c, d = linear.flatten(1).unbind(1)
    # a map is a similarity plus a mirrored one, whose scales add up or cancel
    kept, mirrored = torch.hypot(a + d, c - b) / 2, torch.hypot(a - d, c + b) / 2
    return (kept - mirrored).abs(), kept + mirrored


def _nothing(points: Tensor) -> LocalAffine:
    zero = points.new_zeros(len(points))
    identity = torch.eye(2, device=points.device).repeat(len(points), 1, 1)
    return LocalAffine(identity, points, zero, zero, zero.bool())
