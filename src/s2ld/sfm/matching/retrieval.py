"""Which photographs of a folder look alike, by their coarse features: VLAD over a vocabulary of the folder itself.

Jégou et al., "Aggregating local descriptors into a compact image representation" (CVPR 2010); intra-normalisation by
Arandjelović and Zisserman, "All about VLAD" (CVPR 2013); each descriptor joined by those most like it as in "Three
things everyone should know to improve object retrieval" (CVPR 2012) by the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.extras import install, is_there
from s2ld.log import logger

WORDS = 128
ITERATIONS = 10
SAMPLES = 40_000
"""Features from which the vocabulary is made, at most."""
AXES = 512
"""Principal axes on which VLADs are kept."""
LEARNING = 2_000
"""Images whose VLADs the axes are made of, at most."""
JOINED = 5
"""Most alike images whose descriptors are added to an image's own, each with less weight than the one before."""
EXACT = 5_000
"""Images up to which each is compared with each; more are searched by faiss, which looks into a part of them."""
BLOCK = 1_024
"""Images that are compared with all at once."""

Descriptors = Sequence[NDArray[np.float16]]


@dataclass(frozen=True)
class Describer:
    """Makes one vector of an image's local features, by the vocabulary and the axes of some images."""

    words: NDArray[np.float32]
    """(K, C)."""
    mean: NDArray[np.float32]
    """(K C,) VLAD of all these images."""
    axes: NDArray[np.float32]
    """(K C, at most `AXES`)."""

    @classmethod
    def of(cls, descriptors: Descriptors, seed: int = 0) -> Describer:
        """Learn from images; the arguments are those of `nearest_images`."""
        order = np.random.default_rng(seed).permutation(len(descriptors))[:LEARNING]
        each = -(-SAMPLES // len(order))
        words = vocabulary(np.concatenate([_sample(descriptors[i], each, seed) for i in order]), seed)
        return cls(words, *principal_axes(np.stack([vlad(descriptors[i], words) for i in order])))

    def __call__(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return a vector of length 1 of an image's features (D, C)."""
        return unit((vlad(features, self.words) - self.mean) @ self.axes)


def nearest_images(descriptors: Descriptors, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return for each image the `count` others that look most like it, the most alike first, (n, at most n - 1).

    Args:
        descriptors: (D, C) local features of each image, any number; read twice, one after the other.
        count: neighbours, from 1.
        seed: of the vocabulary.
    """
    describe = Describer.of(descriptors, seed)
    described = np.stack([describe(found) for found in descriptors])
    return search(joined(described, search(described, JOINED)), count)


def joined(described: NDArray[np.float32], nearest: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return descriptors (n, C) with those of the images that are nearest (n, k), the nearest first, added to each."""
    weights = falling_weights(nearest.shape[1])
    total = described + sum(weight * described[column] for weight, column in zip(weights, nearest.T, strict=True))
    return unit(total)


def falling_weights(count: int) -> NDArray[np.float32]:
    """Return the weights (k,) of the nearest images beside that of an image itself, which is 1."""
    return np.asarray(1 - np.arange(1, count + 1) / (count + 1), np.float32)


def search(described: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the `count` other rows of the largest cosine for each row of (n, C), (n, at most n - 1).

    Of more than `EXACT` rows faiss (`pip install "s2ld[faiss]"`) finds nearly all of them; without it all are compared.
    """
    count = min(count, len(described) - 1)
    if len(described) > EXACT:
        if is_there("faiss"):
            return _approximate(described, count)
        logger.info("{:,} photographs are compared one by one; faster: {}", len(described), install("faiss"))
    found = [
        _best(described[start:end] @ described.T, np.arange(start, end), count)
        for start, end in pairwise([*range(0, len(described), BLOCK), len(described)])
    ]
    return np.concatenate(found)


def vocabulary(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the means of at most `WORDS` clusters of features (F, C) by k-means, (K, C)."""
    some = features[np.random.default_rng(seed).permutation(len(features))[:SAMPLES]]
    words = some[: min(WORDS, len(some))].copy()
    for _ in range(ITERATIONS):
        nearest = _nearest(some, words)
        count = np.bincount(nearest, minlength=len(words))
        sums = np.zeros_like(words)
        np.add.at(sums, nearest, some)
        words = np.where(count[:, None] > 0, sums / count.clip(1)[:, None], words)
    return words


def vlad(features: NDArray[np.floating[Any]], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sums, of length 1, of an image's features (D, C) relative to their nearest words (K, C): (K C,)."""
    floats = features.astype(np.float32)
    nearest = _nearest(floats, words)
    sums = np.zeros_like(words)
    np.add.at(sums, nearest, floats - words[nearest])
    return unit(unit(sums).ravel())


def principal_axes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean (D,) of vectors (m, D), and their axes of most variance, (D, at most `AXES`).

    What all photographs of a folder have in common tells nothing; two have nothing but that, and keep it.
    """
    mean = vectors.mean(0) if len(vectors) > 2 else np.zeros_like(vectors[0])
    centred = vectors - mean
    variance, sides = np.linalg.eigh(centred @ centred.T)
    variance, sides = variance[::-1][:AXES], sides[:, ::-1][:, :AXES]
    there = variance > 1e-6 * max(float(variance[0]), 1e-6)
    return mean, np.asarray(centred.T @ (sides[:, there] / np.sqrt(variance[there])), np.float32)


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return vectors (..., C) of length 1; what has no length stays zero."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12), np.float32)


def _approximate(described: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    import faiss

    axes, cells = described.shape[1], round(4 * len(described) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(axes), axes, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(described)
    index.add(described)
    index.nprobe = max(1, cells // 8)
    found = index.search(described, count + 1)[1]
    rows = np.arange(len(found))
    own = found == rows[:, None]
    own[~own.any(1), -1] = True  # of more copies of a photograph than are asked for, another one is left out
    found = found[~own].reshape(len(found), count)
    few = rows[(found < 0).any(1)]  # where the cells that were looked into hold too few
    if len(few):
        found[few] = _best(described[few] @ described.T, few, count)
    return np.asarray(found, np.int64)


def _best(cosines: NDArray[np.float32], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the best columns (m, count) of cosines (m, n) that belong to these rows of n."""
    cosines[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :count]


def _sample(features: NDArray[np.float16], count: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).permutation(len(features))[:count]
    return features[rows].astype(np.float32)


def _nearest(features: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.asarray(np.argmin(np.square(words).sum(1) - 2 * features @ words.T, axis=1))
