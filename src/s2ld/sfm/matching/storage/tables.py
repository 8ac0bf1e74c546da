"""Tables of keypoints, and matches between their rows, in a file of SQLite; a change is there whole or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.sfm.matching.pairs import Pair
from s2ld.sfm.matching.storage.on_disk import OnDiskMapping, OnDiskSequence

TABLES = "identity.db"
CACHE_KIB = 2**16
"""Of pages that SQLite keeps in memory."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (title TEXT);
CREATE TABLE IF NOT EXISTS images (id INTEGER PRIMARY KEY, digest BLOB UNIQUE, points BLOB, scores BLOB,
    detections BLOB, rows BLOB);
CREATE TABLE IF NOT EXISTS pairs (image0 INTEGER, image1 INTEGER, rows BLOB, scores BLOB, UNIQUE (image0, image1));
CREATE TABLE IF NOT EXISTS labels (image INTEGER, partner INTEGER, own BLOB, other BLOB, confidence BLOB,
    UNIQUE (image, partner));
"""


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
    """Keypoints and matches of a folder; where they come from a file, they are read when they are asked for."""

    keypoints: Sequence[NDArray[np.float32]]
    """(N, 2) of each image, image px, pixel centres at integers; each is in a match."""
    scores: Sequence[NDArray[np.float32]]
    """(N,) of each image: the confidence of all measurements that agree in the keypoint, together."""
    pairs: Mapping[Pair, IndexMatches]


@dataclass(frozen=True)
class Table:
    """An image's keypoints, and which of its detections they stand for."""

    points: NDArray[np.float32]
    """(N, 2) image px."""
    scores: NDArray[np.float32]
    """(N,) as in `FolderMatches`."""
    detections: NDArray[np.int32]
    """(D,) that were chosen, in order."""
    rows: NDArray[np.int32]
    """(D,) keypoint of each one, -1 for none."""


@dataclass(frozen=True)
class Labels:
    """Rows of an image's table that belong to the measurements of a pair."""

    own: NDArray[np.int32]
    """(M,) of the image's detections that the partner was searched for."""
    other: NDArray[np.int32]
    """(K,) of the places at which the partner's detections were found in this image."""
    confidence: NDArray[np.float32]
    """(M,) of `own`."""


class TableStore:
    """The tables of a folder's images, numbered as the folder numbers them.

    Args:
        path: of the file; None keeps all in memory.
        digests: what each image is known by.
        title: what the tables depend on beside the images.

    Raises:
        S2LDError: the file is of another kind, holds tables of another title, or cannot be read or written.
    """

    def __init__(self, path: Path | None, digests: Sequence[bytes], title: Mapping[str, object]) -> None:
        self._path = path
        with self._errors():
            self._database = sqlite3.connect(path or ":memory:", isolation_level=None)
            self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._database.executescript(_SCHEMA)
        with self.change():
            self._refuse_others(title)
            self._database.executemany(
                "INSERT OR IGNORE INTO images VALUES (NULL, ?, '', '', '', '')", ((digest,) for digest in digests)
            )
        known = dict(self._rows("SELECT digest, id FROM images"))
        self.ids = [known[digest] for digest in digests]
        """Of each image, from 1; those of images that were there before stay."""

    @contextmanager
    def change(self) -> Iterator[None]:
        """Change tables: all that is written inside the block is kept at its end, nothing where it fails."""
        with self._errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.rollback()
                raise
            self._database.execute("DELETE FROM labels")
            self._database.execute("COMMIT")

    def points(self, image: int) -> NDArray[np.float32]:
        """Return the keypoints (N, 2) of an image."""
        return _floats(self._row("SELECT points FROM images WHERE id = ?", self.ids[image])[0]).reshape(-1, 2)

    def scores(self, image: int) -> NDArray[np.float32]:
        """Return the scores (N,) of an image's keypoints."""
        return _floats(self._row("SELECT scores FROM images WHERE id = ?", self.ids[image])[0])

    def table(self, image: int) -> Table:
        """Return all that is known of an image's keypoints."""
        command = "SELECT points, scores, detections, rows FROM images WHERE id = ?"
        points, scores, detections, rows = self._row(command, self.ids[image])
        return Table(_floats(points).reshape(-1, 2), _floats(scores), _ints(detections), _ints(rows))

    def write_table(self, image: int, table: Table) -> None:
        """Write an image's table."""
        arrays = (table.points, table.scores, table.detections, table.rows)
        self._database.execute(
            "UPDATE images SET points = ?, scores = ?, detections = ?, rows = ? WHERE id = ?",
            (*(array.tobytes() for array in arrays), self.ids[image]),
        )

    def matches(self, pair: Pair) -> IndexMatches:
        """Return the matches of a pair that was written."""
        id0, id1, exchanged = self._ordered(pair)
        rows, scores = self._row("SELECT rows, scores FROM pairs WHERE image0 = ? AND image1 = ?", id0, id1)
        indices = _ints(rows).reshape(-1, 2)
        return IndexMatches(indices[:, ::-1] if exchanged else indices, _floats(scores))

    def write_matches(self, pair: Pair, matches: IndexMatches) -> None:
        """Write the matches of a pair."""
        id0, id1, exchanged = self._ordered(pair)
        rows = np.ascontiguousarray(matches.indices[:, ::-1] if exchanged else matches.indices)
        self._database.execute(
            "INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?)", (id0, id1, rows.tobytes(), matches.scores.tobytes())
        )

    def labels(self, image: int, partner: int) -> Labels:
        """Return what `write_labels` wrote inside this change."""
        command = "SELECT own, other, confidence FROM labels WHERE image = ? AND partner = ?"
        own, other, confidence = self._row(command, self.ids[image], self.ids[partner])
        return Labels(_ints(own), _ints(other), _floats(confidence))

    def write_labels(self, image: int, partner: int, labels: Labels) -> None:
        """Keep labels until the end of this change."""
        arrays = (labels.own, labels.other, labels.confidence)
        self._database.execute(
            "INSERT INTO labels VALUES (?, ?, ?, ?, ?)",
            (self.ids[image], self.ids[partner], *(array.tobytes() for array in arrays)),
        )

    def pairs(self) -> list[Pair]:
        """Return the pairs that have been written, both of whose images are in the folder, in order."""
        numbers = {id_: number for number, id_ in enumerate(self.ids)}
        known = [(numbers.get(a), numbers.get(b)) for a, b in self._rows("SELECT image0, image1 FROM pairs")]
        return sorted((min(a, b), max(a, b)) for a, b in known if a is not None and b is not None)

    def all(self) -> FolderMatches:
        """Return all tables and matches, read when they are asked for."""
        points, scores = (OnDiskSequence(len(self.ids), read) for read in (self.points, self.scores))
        return FolderMatches(points, scores, OnDiskMapping({pair: pair for pair in self.pairs()}, self.matches))

    def _refuse_others(self, title: Mapping[str, object]) -> None:
        there = self._rows("SELECT title FROM about")
        if not there:
            self._database.execute("INSERT INTO about VALUES (?)", (json.dumps(title, sort_keys=True),))
            return
        old = json.loads(there[0][0])
        changed = [f"{key} {old.get(key)} there, {title[key]} now" for key in title if old.get(key) != title[key]]
        if changed:
            raise S2LDError(
                f"{self._path}: holds keypoints made otherwise ({', '.join(changed)}); add --refit to make them anew, "
                "or choose another output folder"
            )

    def _ordered(self, pair: Pair) -> tuple[int, int, bool]:
        id0, id1 = (self.ids[i] for i in pair)
        return (id1, id0, True) if id0 > id1 else (id0, id1, False)

    def _row(self, command: str, *values: int) -> tuple[Any, ...]:
        row = next(iter(self._rows(command, *values)), None)
        if row is None:
            raise KeyError(values)
        return row

    def _rows(self, command: str, *values: int) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._database.execute(command, values).fetchall()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise S2LDError(
                f"{self._path}: cannot keep tables of keypoints in this file ({error}); make room, or delete it and "
                "run the same command"
            ) from error


def _ints(data: bytes) -> NDArray[np.int32]:
    return np.frombuffer(data or b"", np.int32)


def _floats(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data or b"", np.float32)
