"""Which scenes show the same place, so that they stay in one split.

Up to `SAMPLES` images of each scene, spread over it, are compared with those of every other one by the coarsest SIFT
features; the `VERIFIED` image pairs that look most alike are verified by a fundamental matrix. That sees places that
were photographed from within about 40 degrees of each other, in similar light; not the other side of a house, nor a
street by night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.reading import read_image, resize
from s2ld.log import Progress
from s2ld.sfm.matching.preselect import Descriptors, coarsest, count_mutual, mutual

SAMPLES = 12
VERIFIED = 3
LONG_SIDE = 480
"""px of the images that are compared."""
LEAST_INLIERS = 20
"""Of one image pair. Among eight real scenes of 11 to 165 images, cut into halves: halves of different ones have up to
11, those of one have from 53."""
INLIER_PX = 3.0


@dataclass(frozen=True)
class _Features:
    points: NDArray[np.float32]
    """(k, 2) px."""
    descriptors: Descriptors


def same_places(
    scenes: Mapping[str, Sequence[Path]], known: Sequence[tuple[str, str]], jobs: int, progress: bool = True
) -> list[list[str]]:
    """Return the scenes in groups that show one place each.

    Args:
        scenes: image files of each scene.
        known: pairs of scenes of which it is known already.
        jobs: threads.
        progress: show a bar.
    """
    names = sorted(scenes)
    group = {name: name for name in names}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for one, other in known:
        group[root(one)] = root(other)
    left = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if root(a) != root(b)]
    if left:
        with ThreadPoolExecutor(jobs) as pool:
            samples = {name: list(pool.map(_features, _spread(scenes[name]))) for name in names}
        for one, other in Progress(left, "same place?", unit="pair", disable=not progress):
            if root(one) != root(other) and _overlap(samples[one], samples[other]):
                group[root(one)] = root(other)
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(root(name), []).append(name)
    return sorted(found.values())


def _spread(paths: Sequence[Path]) -> list[Path]:
    count = min(SAMPLES, len(paths))
    return [paths[int((i + 0.5) * len(paths) / count)] for i in range(count)]


def _features(path: Path) -> _Features:
    """Return the coarsest features of an image."""
    grey = read_image(path, grey=True, upright=False)
    factor = min(1.0, LONG_SIDE / max(grey.shape))
    small = resize(grey, (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor))))[0]
    keypoints, descriptors = cv2.SIFT_create().detectAndCompute(small, None)  # type: ignore[attr-defined]
    if not keypoints:
        return _Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    order = np.argsort([-keypoint.size for keypoint in keypoints], kind="stable")
    points = np.array([keypoints[i].pt for i in order], np.float32)
    return _Features(*coarsest(points, descriptors[order]))


def _overlap(one: Sequence[_Features], other: Sequence[_Features]) -> bool:
    pairs = [(count_mutual(a.descriptors, b.descriptors), i, j) for i, a in enumerate(one) for j, b in enumerate(other)]
    best = sorted(pairs, reverse=True)[:VERIFIED]
    return any(count >= LEAST_INLIERS and _verify(one[i], other[j]) for count, i, j in best)


def _verify(one: _Features, other: _Features) -> bool:
    rows0, rows1 = mutual(one.descriptors, other.descriptors)
    cv2.setRNGSeed(0)
    _, inliers = cv2.findFundamentalMat(one.points[rows0], other.points[rows1], cv2.USAC_MAGSAC, INLIER_PX, 0.999, 2000)
    return inliers is not None and int(np.count_nonzero(inliers)) >= LEAST_INLIERS
