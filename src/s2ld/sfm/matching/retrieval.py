"""Which photographs of a folder look alike, by their coarse features: VLAD over a vocabulary of the folder itself.

Jégou et al., "Aggregating local descriptors into a compact image representation" (CVPR 2010); intra-normalisation by
Arandjelović and Zisserman, "All about VLAD" (CVPR 2013).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WORDS = 32
ITERATIONS = 10
SAMPLES = 20_000
"""Features from which the vocabulary is made, at most."""


def nearest_images(descriptors: Sequence[NDArray[np.float16]], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return for each image the `count` others that look most like it, the most alike first, (n, at most n - 1).

    Args:
        descriptors: (D, C) local features of each image, any number.
        count: neighbours, from 1.
        seed: of the vocabulary.
    """
    similarity = global_similarity(descriptors, seed)
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, len(descriptors) - 1)]


def global_similarity(descriptors: Sequence[NDArray[np.float16]], seed: int = 0) -> NDArray[np.float32]:
    """Return the cosine of each two images' VLAD, (n, n); the arguments are those of `nearest_images`."""
    floats = [d.astype(np.float32) for d in descriptors]
    words = vocabulary(np.concatenate(floats), seed)
    vlads = np.stack([vlad(d, words) for d in floats])
    vlads -= vlads.mean(0) if len(vlads) > 2 else 0  # what all photographs of the folder have in common tells nothing
    vlads /= np.linalg.norm(vlads, axis=1, keepdims=True).clip(1e-12)
    return np.asarray(vlads @ vlads.T, np.float32)


def vocabulary(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the means of at most `WORDS` clusters of features (F, C) by k-means, (K, C)."""
    random = np.random.default_rng(seed)
    some = features[random.permutation(len(features))[:SAMPLES]]
    words = some[: min(WORDS, len(some))].copy()
    for _ in range(ITERATIONS):
        nearest = _nearest(some, words)
        count = np.bincount(nearest, minlength=len(words))
        sums = np.zeros_like(words)
        np.add.at(sums, nearest, some)
        words = np.where(count[:, None] > 0, sums / count.clip(1)[:, None], words)
    return words


def vlad(features: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sums, of length 1, of an image's features (D, C) relative to their nearest words (K, C): (K C,)."""
    nearest = _nearest(features, words)
    sums = np.zeros_like(words)
    np.add.at(sums, nearest, features - words[nearest])
    sums /= np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-12)
    flat = sums.ravel()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-12), np.float32)


def _nearest(features: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.asarray(np.argmin(np.square(words).sum(1) - 2 * features @ words.T, axis=1))
