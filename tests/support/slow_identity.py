"""Keypoint identity with all measurements in memory, the obvious way, to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.sfm.matching.folder import RawMatches
from s2ld.sfm.matching.identity import IdentitySettings, _cycle_error, _join, _one_to_one
from s2ld.sfm.matching.pairs import Pair
from s2ld.sfm.matching.storage.tables import FolderMatches, IndexMatches

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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


def slow_identify(raw: RawMatches, settings: IdentitySettings) -> FolderMatches:
    """Give keypoints an identity; see the module and `IdentitySettings`."""
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
