"""The plane sweep as one would explain it: pixel by pixel, window by window, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from planes import Array

from s2ld.sfm.depth.plane_sweep import SweepView


def bilinear(image: Array, x: float, y: float) -> float:
    """NaN as soon as one of the four px is not inside, or is one of the outermost px."""
    height, width = image.shape
    if not (1 <= x <= width - 2 and 1 <= y <= height - 2):
        return np.nan
    column, row = min(int(x), width - 3), min(int(y), height - 3)
    a, b = x - column, y - row
    top = image[row, column] * (1 - a) + image[row, column + 1] * a
    return float(top * (1 - b) + (image[row + 1, column] * (1 - a) + image[row + 1, column + 1] * a) * b)


def zncc(first: Array, second: Array, floor: float) -> float:
    """Of two windows; a deviation below `floor` counts as `floor`."""
    a, b = first - first.mean(), second - second.mean()
    return float((a * b).mean() / (max(a.std(), floor) * max(b.std(), floor)))


def slow_scores(
    reference: SweepView, sources: Sequence[SweepView], planes: Array, window: int, best: int, floor: float
) -> Array:
    """Mean of the `best` scores, (D, H - window + 1, W - window + 1); of an unseen window minus infinity."""
    grey = reference.grey.double().numpy()
    height, width = grey.shape
    scores = np.empty((len(planes), height - window + 1, width - window + 1))
    inverse_K, inverse_pose = np.linalg.inv(reference.K.numpy()), np.linalg.inv(reference.pose.numpy())
    for number, inverse_depth in enumerate(planes):
        of_sources = []
        for source in sources:
            image = source.grey.double().numpy()
            warped = np.full_like(grey, np.nan)
            for y in range(height):
                for x in range(width):
                    point = inverse_K @ [x, y, 1.0] / inverse_depth
                    there = (source.pose.numpy() @ inverse_pose @ [*point, 1.0])[:3]
                    if there[2] > 0:
                        pixel = source.K.numpy() @ there / there[2]
                        warped[y, x] = bilinear(image, pixel[0], pixel[1])
            one = np.full(scores.shape[1:], -np.inf)
            for y, x in np.ndindex(one.shape):
                windows = [i[y : y + window, x : x + window] for i in (grey, warped)]
                if not np.isnan(windows[1]).any():
                    one[y, x] = zncc(*windows, floor)
            of_sources.append(one)
        scores[number] = np.sort(of_sources, 0)[::-1][:best].mean(0)  # minus infinity with the least of them
    return scores


def slow_peak(scores: Array, planes: Array) -> tuple[float, float, float]:
    """Inverse depth of the highest inner maximum of (D,) scores, its score, and the score of the next one 3 or more
    planes away from it; -2 where there is none."""
    triples = [(i, *scores[i - 1 : i + 2]) for i in range(1, len(scores) - 1)]
    inner = [i for i, before, here, after in triples if -np.inf < before < here >= after > -np.inf]
    if not inner:
        return 0.0, -2.0, -2.0
    top = max(inner, key=lambda i: scores[i])
    second = max((scores[i] for i in inner if abs(i - top) > 2), default=-2.0)
    coefficients = np.polyfit([-1, 0, 1], scores[top - 1 : top + 2], 2)
    vertex = -coefficients[1] / (2 * coefficients[0])
    return planes[0] + (top + vertex) * (planes[1] - planes[0]), float(scores[top]), float(second)
