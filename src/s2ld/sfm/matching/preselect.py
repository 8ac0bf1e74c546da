"""Which pairs of many photographs are worth matching: those whose coarsest features match, and neighbours by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from s2ld.log import Progress
from s2ld.sfm.matching.pairs import all_pairs

COARSE = 400
"""Features a photograph that are compared, those of the largest scale."""
RATIO = 0.8
"""Largest quotient of the distances to the nearest and the second nearest descriptor (Lowe)."""
NEIGHBOURS = 3
"""Photographs that follow by name, with which each one is matched too: they were likely taken one after the other."""

Descriptors = NDArray[np.float32]


def by_scale(keypoints: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows of (n, 6) keypoints of COLMAP (x, y and an affine shape), those of the largest scale first."""
    area = np.abs(keypoints[:, 2] * keypoints[:, 5] - keypoints[:, 3] * keypoints[:, 4])
    return np.argsort(-area, kind="stable")


def coarsest(
    points: NDArray[np.float32], descriptors: NDArray[np.uint8] | NDArray[np.float32]
) -> tuple[NDArray[np.float32], Descriptors]:
    """Return the first `COARSE` points, and their descriptors scaled to length 1.

    Args:
        points: (n, 2), those of the largest scale first.
        descriptors: (n, 128) of theirs.
    """
    chosen = descriptors[:COARSE].astype(np.float32)
    unit = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-6)
    return points[:COARSE], np.asarray(unit, np.float32)


def alike_pairs(
    count: int, descriptors: Callable[[int], Descriptors], partners: int, progress: bool = True
) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of each photograph with its `partners` most alike ones and its neighbours.

    It compares every pair by few features: 4 ms each on one core, so that 1,000 photographs take half an hour.

    Args:
        count: number of photographs, in the order of their names.
        descriptors: of each one, (k, 128) float32 of length 1.
        partners: most alike photographs of each one.
        progress: show a bar.
    """
    tables = [descriptors(i) for i in range(count)]
    scores = np.zeros((count, count), np.int64)
    for i, j in Progress(all_pairs(count), "look alike", unit="pair", disable=not progress):
        scores[i, j] = scores[j, i] = count_mutual(tables[i], tables[j])
    return choose(scores, partners)


def choose(scores: NDArray[np.int64], partners: int) -> list[tuple[int, int]]:
    """Return the pairs that `alike_pairs` describes from its table of scores, (count, count) symmetric."""
    count = len(scores)
    chosen = {(i, j) for i in range(count) for j in range(i + 1, min(i + 1 + NEIGHBOURS, count))}
    for i in range(count):
        best: Sequence[int] = np.argsort(-scores[i], kind="stable")[:partners].tolist()
        chosen |= {(min(i, j), max(i, j)) for j in best if j != i and scores[i, j] > 0}
    return sorted(chosen)


def count_mutual(first: Descriptors, second: Descriptors) -> int:
    """Return the number of matches that `mutual` finds."""
    return len(mutual(first, second)[0])


def mutual(first: Descriptors, second: Descriptors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of descriptors of length 1 that are nearest neighbours of each other and pass the ratio test."""
    if min(len(first), len(second)) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similar = first @ second.T
    best = similar.argmax(1)
    two = np.partition(similar, -2, axis=1)[:, -2:]
    # squared distance of vectors of length 1: 2 - 2 similarity
    clear = 1 - two[:, 1] < RATIO**2 * (1 - two[:, 0])
    rows = np.flatnonzero(clear & (similar.argmax(0)[best] == np.arange(len(first))))
    return rows, best[rows]
