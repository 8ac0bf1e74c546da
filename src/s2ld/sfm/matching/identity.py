"""Keypoint identity: one table of keypoints an image, and matches between their rows, from pairs matched one by one.

A detection belongs to its image: in each pair it is at the same place, while the network measures where it is in the
other image. So the measurements of one detection over all pairs are a track already, whose places all refer to one
exact point; a detection that is measured in few pairs is dropped. In each image, the detections themselves and the
places that other images' detections were measured at are joined where they agree, which joins tracks; what disagrees,
such as detections of two images that lie some px apart on the same thing, stays apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.sfm.matching.clustering import cluster
from s2ld.sfm.matching.folder import RawMatches
from s2ld.sfm.matching.keypoints import PairMatches
from s2ld.sfm.matching.pairs import Pair
from s2ld.sfm.matching.storage.tables import FolderMatches, IndexMatches, Labels, TableStore

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
class _Measured:
    """Where M detections of one image are in another one."""

    detection: NDArray[np.int32]
    """(M,) of the first image."""
    points: Floats
    """(M, 2) px of the other image."""
    confidence: NDArray[np.float32]
    """(M,)."""

    def at(self, rows: NDArray[np.bool_]) -> _Measured:
        return _Measured(self.detection[rows], self.points[rows], self.confidence[rows])

    def of(self, detections: Ints) -> _Measured:
        """Those of some detections, which are in order."""
        return self.at(np.isin(self.detection, detections))


NOTHING = _Measured(np.zeros(0, np.int32), np.zeros((0, 2)), np.zeros(0, np.float32))


def identify(
    raw: RawMatches, settings: IdentitySettings | None = None, store: TableStore | None = None
) -> FolderMatches:
    """Give keypoints an identity, image by image: memory does not grow with the number of pairs.

    Args:
        raw: matches of the folder.
        settings: see there.
        store: gets the tables; None: they are kept in memory.

    Returns:
        What `store` holds.

    Raises:
        S2LDError: `store` cannot be written; it stays as it was.
    """
    settings = settings or IdentitySettings()
    store = store or TableStore(None, [str(i).encode() for i in range(len(raw.images))], {})
    partners = partners_of(raw)
    with store.change():
        chosen = [_chosen(raw, i, some, settings) for i, some in partners.items()]
        for i, some in partners.items():
            _write_table(raw, store, i, some, chosen, settings)
        used = [np.zeros(len(store.points(i)), bool) for i in partners]
        for pair in raw.pairs:
            matches = _matches(store, pair)
            for i, rows in zip(pair, matches.indices.T, strict=True):
                used[i][rows] = True
            store.write_matches(pair, matches)
        _drop_unused(store, raw.pairs, used)
    return store.all()


def partners_of(raw: RawMatches) -> dict[int, list[int]]:
    """Return the images with which each image is matched, in order."""
    partners: dict[int, list[int]] = {i: [] for i in range(len(raw.images))}
    for i, j in raw.pairs:
        partners[i].append(j)
        partners[j].append(i)
    return {i: sorted(some) for i, some in partners.items()}


def _measured(raw: RawMatches, source: int, target: int, settings: IdentitySettings) -> _Measured:
    """What a pair measures in one direction: with an identity both are used, else the one that the network gives."""
    pair = min(source, target), max(source, target)
    matches = raw.pairs[pair]
    good = matches.confidence1 > 0
    if settings.mode == "identity":
        good = good & (matches.confidence0 > 0) & (_cycle_error(raw, pair, matches) < settings.cycle)
    if source < target:
        some = _Measured(matches.cell0, matches.points1.astype(float), matches.confidence1)
    elif settings.mode == "identity":
        some = _Measured(matches.cell1, matches.points0.astype(float), matches.confidence0)
    else:
        return NOTHING
    return some.at(good)


def _cycle_error(raw: RawMatches, pair: Pair, matches: PairMatches) -> Floats:
    """(M,) px: how far the two measurements of a match are from being each other's inverse.

    Measurement 1 says by what detection 0 misses detection 1 in image 1, measurement 0 the reverse in image 0; where
    both are right and images are neither turned nor scaled much within a cell, they cancel.
    """
    image0, image1 = raw.images[pair[0]], raw.images[pair[1]]
    there = (matches.points1 - image1.points[matches.cell1]) / image1.scale
    back = (matches.points0 - image0.points[matches.cell0]) / image0.scale
    return np.asarray(np.linalg.norm(there + back, axis=1))


def _chosen(raw: RawMatches, image: int, partners: Sequence[int], settings: IdentitySettings) -> Ints:
    """Return the detections of an image that are measured in enough pairs (all that it has will do), at most so many.

    Without an identity all count.
    """
    size = len(raw.images[image].points)
    if settings.mode != "identity":
        return np.arange(size)
    count, weight = np.zeros(size), np.zeros(size)
    for partner in partners:
        some = _measured(raw, image, partner, settings)
        count[some.detection] += 1
        weight[some.detection] += some.confidence
    weight[count < max(1, min(settings.least_pairs, len(partners)))] = 0
    best = np.argsort(-weight, kind="stable")[: settings.most]
    return np.sort(best[weight[best] > 0])


def _write_table(
    raw: RawMatches,
    store: TableStore,
    image: int,
    partners: Sequence[int],
    chosen: Sequence[Ints],
    settings: IdentitySettings,
) -> None:
    """Make an image's table of keypoints, and label what is measured from and in it by their rows."""
    own = [_measured(raw, image, j, settings).of(chosen[image]) for j in partners]
    others = [_measured(raw, j, image, settings).of(chosen[j]) for j in partners]
    detections = raw.images[image].points
    parts = [*(detections[some.detection].astype(float) for some in own), *(some.points for some in others)]
    points = np.concatenate([np.zeros((0, 2)), *parts])
    weights = np.concatenate([np.zeros(0), *(some.confidence.astype(float) for some in (*own, *others))])
    places, label = _join(points, weights, raw.images[image].scale, settings)
    scores = np.bincount(label, weights, len(places)).astype(np.float32)
    store.write_table(image, places.astype(np.float32), scores)
    ends = np.cumsum([len(part) for part in parts])
    rows = np.split(label.astype(np.int32), ends[:-1]) if len(ends) else []
    for partner, some, mine, theirs in zip(partners, own, rows[: len(own)], rows[len(own) :], strict=True):
        store.write_labels(image, partner, Labels(mine, theirs, some.confidence))


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


def _one_to_one(rows: NDArray[np.int32], confidence: NDArray[np.float32]) -> IndexMatches:
    """Keep, of matches that share a keypoint, the most confident: once by the first image, then by the second."""
    order = np.argsort(-confidence, kind="stable")
    for axis in (0, 1):
        order = order[np.unique(rows[order, axis], return_index=True)[1]]
        order = order[np.argsort(-confidence[order], kind="stable")]
    order = np.sort(order)
    return IndexMatches(rows[order].astype(np.int32), confidence[order].astype(np.float32))


def _matches(store: TableStore, pair: Pair) -> IndexMatches:
    """Return the matches of a pair by the labels of its two images."""
    first, second = store.labels(*pair), store.labels(*pair[::-1])
    rows = [np.stack([first.other, second.own], 1), np.stack([first.own, second.other], 1)]
    return _one_to_one(np.concatenate(rows), np.concatenate([second.confidence, first.confidence]))


def _drop_unused(store: TableStore, pairs: Iterable[Pair], used: Sequence[NDArray[np.bool_]]) -> None:
    """Drop keypoints that are in no match."""
    new = [(np.cumsum(flags) - 1).astype(np.int32) for flags in used]
    for image, flags in enumerate(used):
        store.write_table(image, store.points(image)[flags], store.scores(image)[flags])
    for i, j in pairs:
        matches = store.matches((i, j))
        indices = np.stack([new[i][matches.indices[:, 0]], new[j][matches.indices[:, 1]]], 1)
        store.write_matches((i, j), IndexMatches(indices, matches.scores))
