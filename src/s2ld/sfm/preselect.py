"""Which pairs of many photographs are worth matching: those whose coarsest features match, and neighbours by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

COARSE = 400
"""Features a photograph that are compared, those of the largest scale."""
RATIO = 0.8
"""Largest quotient of the distances to the nearest and the second nearest descriptor (Lowe)."""
NEIGHBOURS = 3
"""Photographs that follow by name, with which each one is matched too: they were likely taken one after the other."""

Descriptors = NDArray[np.float32]


def all_pairs(count: int) -> list[tuple[int, int]]:
    """Return all pairs (i, j), i < j, of `count` photographs."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def coarsest(keypoints: NDArray[np.float32], descriptors: NDArray[np.uint8]) -> Descriptors:
    """Return the descriptors of the `COARSE` features of the largest scale, of length 1.

    Args:
        keypoints: (n, 6) of COLMAP: x, y and an affine shape.
        descriptors: (n, 128).
    """
    area = np.abs(keypoints[:, 2] * keypoints[:, 5] - keypoints[:, 3] * keypoints[:, 4])
    chosen = descriptors[np.argsort(-area, kind="stable")[:COARSE]].astype(np.float32)
    return np.asarray(chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-6), np.float32)


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
    for i, j in tqdm(all_pairs(count), "look alike", unit="pair", disable=not progress):
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
    """Return how many descriptors of length 1 are nearest neighbours of each other and pass the ratio test."""
    if min(len(first), len(second)) < 2:
        return 0
    similar = first @ second.T
    best = similar.argmax(1)
    two = np.partition(similar, -2, axis=1)[:, -2:]
    # squared distance of vectors of length 1: 2 - 2 similarity
    clear = 1 - two[:, 1] < RATIO**2 * (1 - two[:, 0])
    mutual = similar.argmax(0)[best] == np.arange(len(first))
    return int((clear & mutual).sum())
