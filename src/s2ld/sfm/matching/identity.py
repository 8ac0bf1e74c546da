"""Keypoint identity: one table of keypoints an image, and matches between their rows, from pairs matched one by one.

A detection belongs to its image: in each pair it is at the same place, while the network measures where it is in the
other image. So the measurements of one detection over all pairs are a track already, whose places all refer to one
exact point; a detection that is measured in few pairs is dropped. In each image, the detections themselves and the
places that other images' detections were measured at are joined where they agree, which joins tracks; what disagrees,
such as detections of two images that lie some px apart on the same thing, stays apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.sfm.matching.clustering import cluster
from s2ld.sfm.matching.folder import RawMatches
from s2ld.sfm.matching.keypoints import PairMatches
from s2ld.sfm.matching.pairs import Pair

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class IdentitySettings:
    """How measurements become keypoints; px are those that the network sees."""

    mode: str = "identity"
    """"identity"; for comparison "grid", which rounds all points as semi-dense matchers are joined to SfM, and "none",
    which gives each match keypoints of its own."""
    radius: float = 0.3
    """px: measurements this near to a cluster's middle are one keypoint ("identity"); side of the grid ("grid")."""
    cycle: float = 0.5
    """px: a match counts where going there and back by its two measurements ends this near ("identity")."""
    least_pairs: int = 3
    """Pairs in which a detection must be measured ("identity"); less where a photograph has less partners."""
    most: int = 700
    """Detections of a photograph whose measurements are used, those of the most confidence together ("identity")."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise S2LDError(f"the mode of keypoint identity is {self.mode!r}; use {', '.join(MODES)}")
        if not (self.radius >= 0 and self.cycle > 0 and self.least_pairs >= 1 and self.most >= 1):
            raise S2LDError("radius must be at least 0, cycle above 0, least_pairs and most at least 1")
        if self.mode == "grid" and self.radius == 0:
            raise S2LDError("a grid needs a radius above 0, the side of its cells in px")


MODES = ("identity", "grid", "none")


@dataclass(frozen=True)
class IndexMatches:
    """Matches of one pair between rows of two tables of keypoints; no row is in two of them."""

    indices: NDArray[np.int32]
    """(M, 2) row in the first image's table, row in the second's."""
    scores: NDArray[np.float32]
    """(M,) confidence in [0, 1]."""

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class FolderMatches:
    """Keypoints and matches of a folder."""

    keypoints: Sequence[NDArray[np.float32]]
    """(N, 2) of each image, image px, pixel centres at integers; each is in a match."""
    scores: Sequence[NDArray[np.float32]]
    """(N,) of each image: the confidence of all measurements that agree in the keypoint, together."""
    pairs: Mapping[Pair, IndexMatches]


@dataclass(frozen=True)
class _Measured:
    """Where M detections of one image are in another one."""

    source: int
    target: int
    detection: NDArray[np.int32]
    """(M,) of the source image."""
    points: Floats
    """(M, 2) px of the target image."""
    confidence: Floats
    """(M,)."""

    def at(self, rows: NDArray[np.bool_]) -> _Measured:
        return _Measured(self.source, self.target, self.detection[rows], self.points[rows], self.confidence[rows])


def identify(raw: RawMatches, settings: IdentitySettings | None = None) -> FolderMatches:
    """Give keypoints an identity; see the module and `IdentitySettings`."""
    settings = settings or IdentitySettings()
    measured = list(_measurements(raw, settings))
    if settings.mode == "identity":
        measured = _best_measured(raw, measured, settings)
    tables, sources, targets = _tables(raw, measured, settings)
    found: dict[Pair, list[tuple[Ints, Floats]]] = {pair: [] for pair in raw.pairs}
    for some, source, target in zip(measured, sources, targets, strict=True):
        forward = some.source < some.target
        pair = (some.source, some.target) if forward else (some.target, some.source)
        found[pair].append((np.stack([source, target] if forward else [target, source], 1), some.confidence))
    joined = {pair: [np.concatenate(part) for part in zip(*parts, strict=True)] for pair, parts in found.items()}
    return _without_unused(tables, {pair: _one_to_one(*parts) for pair, parts in joined.items()})


def _measurements(raw: RawMatches, settings: IdentitySettings) -> Iterator[_Measured]:
    """Each pair's measurements: in both images where matches have an identity, else as the network gives them."""
    both = settings.mode == "identity"
    for (i, j), matches in raw.pairs.items():
        good1 = matches.confidence1 > 0
        if both:
            good1 = good1 & (matches.confidence0 > 0) & (_cycle_error(raw, (i, j), matches) < settings.cycle)
            yield _Measured(j, i, matches.cell1, matches.points0.astype(float), matches.confidence0.astype(float)).at(
                good1
            )
        yield _Measured(i, j, matches.cell0, matches.points1.astype(float), matches.confidence1.astype(float)).at(good1)


def _cycle_error(raw: RawMatches, pair: Pair, matches: PairMatches) -> Floats:
    """(M,) px: how far the two measurements of a match are from being each other's inverse.

    Measurement 1 says by what detection 0 misses detection 1 in image 1, measurement 0 the reverse in image 0; where
    both are right and images are neither turned nor scaled much within a cell, they cancel.
    """
    image0, image1 = raw.images[pair[0]], raw.images[pair[1]]
    there = (matches.points1 - image1.points[matches.cell1]) / image1.scale
    back = (matches.points0 - image0.points[matches.cell0]) / image0.scale
    return np.asarray(np.linalg.norm(there + back, axis=1))


def _best_measured(raw: RawMatches, measured: Sequence[_Measured], settings: IdentitySettings) -> list[_Measured]:
    """Keep detections that are measured in enough pairs (all that a photograph has will do), at most so many of one."""
    counts = [np.zeros(len(image.points)) for image in raw.images]
    weights = [np.zeros(len(image.points)) for image in raw.images]
    partners = [0] * len(raw.images)
    for some in measured:
        counts[some.source][some.detection] += 1
        weights[some.source][some.detection] += some.confidence
        partners[some.source] += 1
    kept = []
    for count, weight, number in zip(counts, weights, partners, strict=True):
        good = np.where((count > 0) & (count >= min(settings.least_pairs, number)), weight, 0)
        best = np.argsort(-good, kind="stable")[: settings.most]
        flags = np.zeros(len(good), bool)
        flags[best] = good[best] > 0
        kept.append(flags)
    return [some.at(kept[some.source][some.detection]) for some in measured]


def _tables(
    raw: RawMatches, measured: Sequence[_Measured], settings: IdentitySettings
) -> tuple[list[tuple[Floats, Floats]], list[Ints], list[Ints]]:
    """Make each image's table of keypoints.

    Returns:
        Each image's points (N, 2) and scores (N,); for each of `measured`, (M,) rows of the source's table, and (M,)
        rows of the target's.
    """
    rows: tuple[dict[int, Ints], dict[int, Ints]] = ({}, {})
    tables: list[tuple[Floats, Floats]] = []
    for number, image in enumerate(raw.images):
        parts = [
            (0, n, image.points[some.detection].astype(float))
            for n, some in enumerate(measured)
            if some.source == number
        ]
        parts += [(1, n, some.points) for n, some in enumerate(measured) if some.target == number]
        points = np.concatenate([np.zeros((0, 2)), *(part[2] for part in parts)])
        weights = np.concatenate([np.zeros(0), *(measured[n].confidence for _, n, _ in parts)])
        places, label = _join(points, weights, image.scale, settings)
        tables.append((places, np.bincount(label, weights, len(places)).astype(float)))
        ends = np.cumsum([len(part[2]) for part in parts])
        for (side, n, _), some in zip(parts, np.split(label, ends[:-1]) if len(ends) else [], strict=True):
            rows[side][n] = some
    return tables, [rows[0][n] for n in range(len(measured))], [rows[1][n] for n in range(len(measured))]


def _join(points: Floats, weights: Floats, scale: Floats, settings: IdentitySettings) -> tuple[Floats, Ints]:
    """Return the keypoints (N, 2) that observations (O, 2) of one image make, and each one's keypoint (O,)."""
    if settings.mode == "none" or not len(points):
        return points, np.arange(len(points))
    places, first = np.unique(points, axis=0, return_inverse=True)  # a detection is there once for each pair
    first = first.reshape(-1)
    weights = np.bincount(first, weights).astype(float)
    if settings.mode == "grid":
        side = settings.radius * scale
        corners, label = np.unique(np.round((places + 0.5) / side), axis=0, return_inverse=True)
        return corners * side - 0.5, label.reshape(-1)[first]
    label = cluster(places / scale, weights, settings.radius)
    total = np.bincount(label, weights)
    means = [np.bincount(label, weights * places[:, axis]) / total for axis in (0, 1)]
    return np.stack(means, 1), label[first]


def _one_to_one(rows: Ints, confidence: Floats) -> IndexMatches:
    """Keep, of matches that share a keypoint, the most confident: once by the first image, then by the second."""
    order = np.argsort(-confidence, kind="stable")
    for axis in (0, 1):
        order = order[np.unique(rows[order, axis], return_index=True)[1]]
        order = order[np.argsort(-confidence[order], kind="stable")]
    order = np.sort(order)
    return IndexMatches(rows[order].astype(np.int32), confidence[order].astype(np.float32))


def _without_unused(tables: Sequence[tuple[Floats, Floats]], pairs: Mapping[Pair, IndexMatches]) -> FolderMatches:
    """Drop keypoints that are in no match."""
    used = [np.zeros(len(points), bool) for points, _ in tables]
    for (i, j), matches in pairs.items():
        used[i][matches.indices[:, 0]] = True
        used[j][matches.indices[:, 1]] = True
    new = [np.cumsum(flags) - 1 for flags in used]
    return FolderMatches(
        [points[flags].astype(np.float32) for (points, _), flags in zip(tables, used, strict=True)],
        [scores[flags].astype(np.float32) for (_, scores), flags in zip(tables, used, strict=True)],
        {
            (i, j): IndexMatches(
                np.stack([new[i][m.indices[:, 0]], new[j][m.indices[:, 1]]], 1).astype(np.int32), m.scores
            )
            for (i, j), m in pairs.items()
        },
    )
