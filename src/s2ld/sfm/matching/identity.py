"""Keypoint identity: one table of keypoints an image, and matches between their rows, from pairs matched one by one.

A detection belongs to its image: in each pair it is at the same place, while the network measures where it is in the
other image. So the measurements of one detection over all pairs are a track already, whose places all refer to one
exact point; a detection that is measured in few pairs is dropped. In each image, the detections themselves and the
places that other images' detections were measured at are joined where they agree, which joins tracks; what disagrees,
such as detections of two images that lie some px apart on the same thing, stays apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.sfm.matching.clustering import cluster, nearest_within
from s2ld.sfm.matching.folder import RawMatches
from s2ld.sfm.matching.keypoints import PairMatches
from s2ld.sfm.matching.pairs import Pair
from s2ld.sfm.matching.storage.tables import FolderMatches, IndexMatches, Labels, Table, TableStore

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


GRID_TOLERANCE = 1e-2
"""px: a point of the grid is kept in float32."""
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

    Keypoints that `store` has stay where they are, at their place and in their row, and so do its matches: what pairs
    measure that it has not joins them, or is added behind them.

    Args:
        raw: matches of the folder, those that `store` has among them.
        settings: those of `store`.
        store: gets the tables; None: they are kept in memory.

    Returns:
        What `store` holds.

    Raises:
        S2LDError: `store` cannot be written; it stays as it was.
    """
    settings = settings or IdentitySettings()
    store = store or TableStore(None, [str(i).encode() for i in range(len(raw.images))], {})
    with store.change():
        growth = _Growth(raw, settings, store)
        if growth.pairs:
            for image in growth.images:
                growth.write_table(image)
            growth.write_matches()
            growth.drop_unused()
    return store.all()


class _Growth:
    """What pairs that `store` has not yet add to it.

    Tables and matches that are there stay, in their order. Besides what new pairs measure, a detection that is now
    measured in enough pairs brings what older pairs have measured of it.
    """

    def __init__(self, raw: RawMatches, settings: IdentitySettings, store: TableStore) -> None:
        self._raw, self._settings, self._store = raw, settings, store
        self._partners = partners_of(raw)
        self._known = set(store.pairs())
        touched = {image for pair in raw.pairs if pair not in self._known for image in pair}
        self.pairs = [pair for pair in raw.pairs if not touched.isdisjoint(pair)]
        """Which may get matches."""
        self.images = sorted({image for pair in self.pairs for image in pair})
        """Whose tables may grow."""
        self._used: dict[int, NDArray[np.bool_]] = {}  # keypoints that stay
        self._chosen: dict[int, Ints] = {}
        self._newly: dict[int, Ints] = {}
        for image in self.images:
            self._chosen[image], self._newly[image] = self._choose(image, image in touched)

    def _choose(self, image: int, touched: bool) -> tuple[Ints, Ints]:
        """Return an image's detections that count, and those of them that did not before."""
        if self._settings.mode != "identity":
            return np.arange(len(self._raw.images[image].points)), np.zeros(0, np.int64)
        before = self._store.table(image).detections.astype(np.int64)
        if not touched:
            return before, np.zeros(0, np.int64)
        now = _best_detections(self._raw, image, self._partners[image], self._settings)
        return np.union1d(before, now), np.setdiff1d(now, before)

    def _fresh(self, source: int, target: int) -> _Measured:
        """What a pair measures in one direction and is in no match yet."""
        old = (min(source, target), max(source, target)) in self._known
        detections = (self._newly if old else self._chosen)[source]
        return _measured(self._raw, source, target, self._settings).of(detections) if len(detections) else NOTHING

    def write_table(self, image: int) -> None:
        """Let an image's table grow, and label what is measured from and in it by rows."""
        partners = self._partners[image]
        own = [self._fresh(image, j) for j in partners]
        others = [self._fresh(j, image) for j in partners]
        keypoints, table = self._raw.images[image], self._store.table(image)
        rows = np.full(len(keypoints.points), -1)
        rows[table.detections] = table.rows
        detection = np.concatenate([np.zeros(0, np.int64), *(some.detection for some in own)])
        places = np.concatenate([np.zeros((0, 2)), *(some.points for some in others)])
        points = np.concatenate([keypoints.points[detection].astype(float), places])
        weights = np.concatenate([np.zeros(0), *(some.confidence.astype(float) for some in (*own, *others))])
        known = np.concatenate([rows[detection], np.full(len(places), -1)])
        added, label = _join_to(table.points, known, points, weights, keypoints.scale, self._settings)
        scores = np.bincount(label, weights, len(table.points) + len(added)).astype(np.float32)
        scores[: len(table.points)] += table.scores
        rows[detection] = label[: len(detection)]
        chosen = self._chosen[image].astype(np.int32)
        self._store.write_table(
            image,
            Table(
                np.concatenate([table.points, added.astype(np.float32)]),
                scores,
                chosen,
                rows[chosen].astype(np.int32),
            ),
        )
        self._used[image] = np.arange(len(scores)) < len(table.points)
        ends = np.cumsum([len(some.detection) for some in (*own, *others)])
        parts = np.split(label.astype(np.int32), ends[:-1])
        for partner, some, mine, theirs in zip(partners, own, parts[: len(own)], parts[len(own) :], strict=True):
            self._store.write_labels(image, partner, Labels(mine, theirs, some.confidence))

    def write_matches(self) -> None:
        """Write the matches of all pairs by the labels of their images."""
        for pair in self.pairs:
            first, second = self._store.labels(*pair), self._store.labels(*pair[::-1])
            rows = np.concatenate([np.stack([first.other, second.own], 1), np.stack([first.own, second.other], 1)])
            confidence = np.concatenate([second.confidence, first.confidence])
            if pair in self._known:
                old = self._store.matches(pair)
                taken = [np.isin(rows[:, side], old.indices[:, side]) for side in (0, 1)]
                free = ~(taken[0] | taken[1])
                new = _one_to_one(rows[free], confidence[free])
                new = IndexMatches(np.concatenate([old.indices, new.indices]), np.concatenate([old.scores, new.scores]))
            else:
                new = _one_to_one(rows, confidence)
            self._store.write_matches(pair, new)
            for image, used in zip(pair, new.indices.T, strict=True):
                self._used[image][used] = True

    def drop_unused(self) -> None:
        """Drop added keypoints that are in no match."""
        number = {image: (np.cumsum(used) - 1).astype(np.int32) for image, used in self._used.items()}
        for image, used in self._used.items():
            table = self._store.table(image)
            gone = (table.rows < 0) | ~used[table.rows]
            rows = np.where(gone, -1, number[image][table.rows]).astype(np.int32)
            self._store.write_table(image, Table(table.points[used], table.scores[used], table.detections, rows))
        for i, j in self.pairs:
            matches = self._store.matches((i, j))
            indices = np.stack([number[i][matches.indices[:, 0]], number[j][matches.indices[:, 1]]], 1)
            self._store.write_matches((i, j), IndexMatches(indices, matches.scores))


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


def _best_detections(raw: RawMatches, image: int, partners: Sequence[int], settings: IdentitySettings) -> Ints:
    """Return the detections of an image that are measured in enough pairs (all that it has will do), not too many."""
    count, weight = np.zeros(len(raw.images[image].points)), np.zeros(len(raw.images[image].points))
    for partner in partners:
        some = _measured(raw, image, partner, settings)
        count[some.detection] += 1
        weight[some.detection] += some.confidence
    weight[count < max(1, min(settings.least_pairs, len(partners)))] = 0
    best = np.argsort(-weight, kind="stable")[: settings.most]
    return np.sort(best[weight[best] > 0])


def _join_to(
    table: NDArray[np.float32], known: Ints, points: Floats, weights: Floats, scale: Floats, settings: IdentitySettings
) -> tuple[Floats, Ints]:
    """Let observations of one image join its table, or be keypoints that are added to it.

    Args:
        table: (N, 2) image px.
        known: (O,) rows of observations that have one, else -1.
        points: (O, 2) image px.
        weights: (O,).
        scale: (2,) image px per px of the network.
        settings: how near is near.

    Returns:
        (A, 2) what is added, and (O,) each observation's row.
    """
    rows = known.copy()
    left = np.flatnonzero(rows < 0)
    if settings.mode != "none":
        near = settings.radius if settings.mode == "identity" else GRID_TOLERANCE
        place = points[left] if settings.mode == "identity" else _on_grid(points[left], scale, settings)
        rows[left] = nearest_within(place / scale, table.astype(float) / scale, near)
        left = left[rows[left] < 0]
    added, label = _join(points[left], weights[left], scale, settings)
    rows[left] = len(table) + label
    return added, rows


def _join(points: Floats, weights: Floats, scale: Floats, settings: IdentitySettings) -> tuple[Floats, Ints]:
    """Return the keypoints (N, 2) that observations (O, 2) of one image make, and each one's keypoint (O,)."""
    if settings.mode == "none" or not len(points):
        return points, np.arange(len(points))
    places, first = np.unique(points, axis=0, return_inverse=True)  # a detection is there once for each pair
    first = first.reshape(-1)
    weights = np.bincount(first, weights).astype(float)
    if settings.mode == "grid":
        middles, label = np.unique(_on_grid(places, scale, settings), axis=0, return_inverse=True)
        return middles, label.reshape(-1)[first]
    label = cluster(places / scale, weights, settings.radius)
    total = np.bincount(label, weights)
    means = [np.bincount(label, weights * places[:, axis]) / total for axis in (0, 1)]
    return np.stack(means, 1), label[first]


def _on_grid(points: Floats, scale: Floats, settings: IdentitySettings) -> Floats:
    side = settings.radius * scale
    return np.asarray(np.round((points + 0.5) / side) * side - 0.5)


def _one_to_one(rows: NDArray[np.int32], confidence: NDArray[np.float32]) -> IndexMatches:
    """Keep, of matches that share a keypoint, the most confident: once by the first image, then by the second."""
    order = np.argsort(-confidence, kind="stable")
    for axis in (0, 1):
        order = order[np.unique(rows[order, axis], return_index=True)[1]]
        order = order[np.argsort(-confidence[order], kind="stable")]
    order = np.sort(order)
    return IndexMatches(rows[order].astype(np.int32), confidence[order].astype(np.float32))
