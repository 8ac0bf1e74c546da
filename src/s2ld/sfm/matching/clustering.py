"""Points of an image that several pairs have measured, joined where they agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def cluster(points: Floats, weights: Floats, radius: float) -> Ints:
    """Join points to clusters: each lies within `radius` of the middle point of its own.

    Middle points are chosen one after another, that of the most weight within the radius first, none within the radius
    of another; then each point joins the nearest of them.

    Args:
        points: (O, 2).
        weights: (O,) positive.
        radius: same unit as the points; 0 joins equal points.

    Returns:
        (O,) number of each point's cluster, 0, 1 and so on in the order in which the clusters' middles are chosen.
    """
    if not len(points):
        return np.zeros(0, np.int64)
    a, b, distance = _neighbours(points, radius)
    weight = weights + np.bincount(a, weights[b], len(points))
    rank = np.empty(len(points), np.int64)
    rank[np.lexsort((np.arange(len(points)), -weight))] = np.arange(len(points))
    middle = _first_independent(a, b, rank)
    to = middle[b]
    a, b, distance = a[to], b[to], distance[to]
    order = np.lexsort((rank[b], distance, a))
    first = order[np.flatnonzero(np.diff(a[order], prepend=-1))]
    owner = np.where(middle, np.arange(len(points)), -1)
    owner[a[first]] = np.where(middle[a[first]], owner[a[first]], b[first])
    number = np.empty(len(points), np.int64)
    chosen = np.flatnonzero(middle)
    number[chosen[np.argsort(rank[chosen])]] = np.arange(len(chosen))
    return np.asarray(number[owner])


def nearest_within(points: Floats, others: Floats, radius: float) -> Ints:
    """Return (O,) the row of `others` (N, 2) that is nearest to each of `points` (O, 2), -1 beyond `radius`."""
    found = np.full(len(points), -1)
    if not len(points) or not len(others):
        return found
    a, b, distance = _neighbours(np.concatenate([points, others]), radius)
    across = (a < len(points)) & (b >= len(points))
    a, b, distance = a[across], b[across] - len(points), distance[across]
    order = np.lexsort((b, distance, a))
    first = order[np.flatnonzero(np.diff(a[order], prepend=-1))]
    found[a[first]] = b[first]
    return found


def _neighbours(points: Floats, radius: float) -> tuple[Ints, Ints, Floats]:
    """Return all ordered pairs (a, b), a != b, at most `radius` apart, and their distances."""
    side = max(radius, 1e-6)
    cell = np.floor((points - points.min(0)) / side).astype(np.int64) + 1
    width = int(cell[:, 0].max()) + 2
    key = cell[:, 1] * width + cell[:, 0]
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    found: list[tuple[Ints, Ints]] = []
    for dy in (-1, 0, 1):  # three cells of a row follow each other
        first = np.searchsorted(ordered, key + dy * width - 1, "left")
        count = np.searchsorted(ordered, key + dy * width + 1, "right") - first
        a = np.repeat(np.arange(len(points)), count)
        within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
        found.append((a, order[np.repeat(first, count) + within]))
    a, b = (np.concatenate(parts) for parts in zip(*found, strict=True))
    distance = np.linalg.norm(points[a] - points[b], axis=1)
    near = (a != b) & (distance <= radius)
    return a[near], b[near], distance[near]


def _first_independent(a: Ints, b: Ints, rank: Ints) -> NDArray[np.bool_]:
    """Choose points in the order of their ranks, none that has a chosen neighbour; all local minima at a time."""
    chosen = np.zeros(len(rank), bool)
    open_ = np.ones(len(rank), bool)
    while open_.any():
        best = np.full(len(rank), len(rank))
        np.minimum.at(best, a, rank[b])
        now = open_ & (rank < best)
        chosen |= now
        open_ &= ~now
        open_[b[now[a]]] = False
        left = open_[a] & open_[b]
        a, b = a[left], b[left]
    return chosen
