"""The matches of a folder in journals, under the digests of photographs; read from the disk when asked for."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.journal import Journal, read_title
from s2ld.sfm.matching.keypoints import ImageKeypoints, PairMatches
from s2ld.sfm.matching.pairs import Pair
from s2ld.sfm.matching.storage.on_disk import OnDiskMapping
from s2ld.sfm.photos.usable import PhotoFolder

JOURNAL = "matches.journal"
_HEAD = struct.Struct(">c32s32s")
_Place = tuple[int, int]  # number of the journal, of the record in it


class MatchJournal:
    """The matches of a folder in a file, each under the digests of its photographs' files.

    A photograph that was replaced, or has another name, is recognised. Several processes that match one folder write a
    file each, and read those of all.

    Args:
        path: of the file.
        title: all that matches depend on beside the photographs, `MatcherSettings.title`.
        folder: the photographs.
        writer: which of several processes this one is, "" for the only one: its file is `path`-WRITER.

    Raises:
        S2LDError: the file holds matches of other weights or settings, which are named, or cannot be read or written.
    """

    def __init__(self, path: Path, title: Mapping[str, object], folder: PhotoFolder, writer: str = "") -> None:
        own = journal_of(path, writer)
        others = [other for other in (path, *sorted(path.parent.glob(f"{path.name}-*"))) if other != own]
        for each in (own, *others):
            _refuse_others(each, title)
        text = json.dumps(title, sort_keys=True).encode()
        self._journals = [Journal(own, text), *(Journal(each, text) for each in others if read_title(each) == text)]
        self.digests = [file_digest(photo.path) for photo in folder.photos]
        """SHA-256 of each photograph's file."""
        self._numbers = {digest: number for number, digest in enumerate(self.digests)}
        self.images: OnDiskMapping[int, _Place, ImageKeypoints] = OnDiskMapping({}, self._read_image)
        self.pairs: OnDiskMapping[Pair, _Place, PairMatches] = OnDiskMapping({}, self._read_pair)
        for number, journal in enumerate(self._journals):
            for record in range(len(journal)):
                self._enter((number, record))

    def add_images(self, images: Mapping[int, ImageKeypoints]) -> None:
        """Write the keypoints of photographs that are not there."""
        new = [(i, keypoints) for i, keypoints in images.items() if i not in self.images]
        self._append([_HEAD.pack(b"i", *[self.digests[i]] * 2) + keypoints.to_bytes() for i, keypoints in new])

    def add_pairs(self, pairs: Mapping[Pair, PairMatches]) -> None:
        """Write the matches of pairs."""
        heads = (_HEAD.pack(b"p", *(self.digests[i] for i in pair)) for pair in pairs)
        self._append([head + matches.to_bytes() for head, matches in zip(heads, pairs.values(), strict=True)])

    def _append(self, new: Sequence[bytes]) -> None:
        if new:
            own = self._journals[0]
            own.append(*new)
            for record in range(len(own) - len(new), len(own)):
                self._enter((0, record))

    def _enter(self, place: _Place) -> None:
        kind, i, j = self._head(place)
        if i is None or j is None:
            return
        if kind == b"i":
            self.images.places[i] = place
        else:
            self.pairs.places[min(i, j), max(i, j)] = place

    def _head(self, place: _Place) -> tuple[bytes, int | None, int | None]:
        kind, digest0, digest1 = _HEAD.unpack(self._read(place, _HEAD.size))
        return kind, self._numbers.get(digest0), self._numbers.get(digest1)

    def _read(self, place: _Place, length: int | None = None) -> bytes:
        return self._journals[place[0]].read(place[1], length)

    def _read_image(self, place: _Place) -> ImageKeypoints:
        return ImageKeypoints.from_bytes(self._read(place)[_HEAD.size :])

    def _read_pair(self, place: _Place) -> PairMatches:
        record = self._read(place)
        _, digest0, digest1 = _HEAD.unpack_from(record)
        matches = PairMatches.from_bytes(record[_HEAD.size :])
        return matches if self._numbers[digest0] < self._numbers[digest1] else matches.exchanged()


def journal_of(path: Path, writer: str) -> Path:
    """Return the file of one of several writers."""
    return path.with_name(f"{path.name}-{writer}") if writer else path


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a photograph's file; raises `S2LDError` where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this image ({error.strerror}); check the path") from error


def _refuse_others(path: Path, title: Mapping[str, object]) -> None:
    """Raise where a journal has another title, and say in what they differ."""
    there = read_title(path)
    if there is None:
        return
    try:
        old = json.loads(there)
    except ValueError as error:
        raise S2LDError(f"{path}: not the matches of a folder; choose another output folder") from error
    changed = [key for key in title if old.get(key) != title[key]]
    if changed:
        told = ", ".join(
            f"{key}" if key == "weight" else f"{key} {old.get(key)} there, {title[key]} now" for key in changed
        )
        raise S2LDError(f"{path}: holds matches made otherwise ({told}); choose another output folder or delete it")
