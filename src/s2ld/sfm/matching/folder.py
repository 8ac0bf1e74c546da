"""Matching the pairs of a folder, as much of it as is not done yet; a kill costs a few pairs."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.journal import Journal, read_title
from s2ld.evaluation.predictions.parallel import ordered_map
from s2ld.log import Progress
from s2ld.memory import available_memory
from s2ld.pretrained import resolve
from s2ld.sfm.matching.keypoints import ImageKeypoints, PairMatches
from s2ld.sfm.matching.matcher import KeypointMatcher
from s2ld.sfm.matching.pairs import Pair, rows_of_pairs
from s2ld.sfm.photos.usable import PhotoFolder
from s2ld.types import Extracted

JOURNAL = "matches.journal"
FORM = 1
"""Raised when records get another meaning."""
LEAST_FEATURES = 2**29
"""Bytes of features that are kept whatever the memory: some 25 images of Lite at 800 x 600 px."""
_HEAD = struct.Struct(">c32s32s")


@dataclass(frozen=True)
class MatcherSettings:
    """All that matches depend on beside the photographs."""

    weight: str = "s2ld-lite"
    """Name or path."""
    max_side: int = 800
    """Longer side of the images as the network sees them, px; -1 keeps the size."""
    threshold: float | None = None
    """Confidence that a match must exceed; None: that of the weights."""
    precision: str = "fp32"
    device: str = "auto"

    def build(self) -> KeypointMatcher:
        """Load the matcher; raises `S2LDError` as `Matcher.from_pretrained` does."""
        return KeypointMatcher.from_pretrained(
            self.weight, self.threshold, self.max_side, self.device, precision=self.precision
        )

    def title(self) -> dict[str, object]:
        """Return what must be equal for matches to be equal; the device is not among it."""
        values = asdict(self)
        del values["device"]
        return {**values, "weight": hashlib.sha256(resolve(self.weight).read_bytes()).hexdigest(), "form": FORM}


@dataclass(frozen=True)
class RawMatches:
    """Matches of a folder before keypoints have an identity."""

    images: Sequence[ImageKeypoints]
    """Of each photograph."""
    pairs: Mapping[Pair, PairMatches]
    """Of each pair that was asked for."""


class MatchJournal:
    """The matches of a folder in a file, each under the digests of its photographs' files.

    A photograph that was replaced, or has another name, is recognised.

    Args:
        path: of the file.
        settings: of the matcher.
        folder: the photographs.

    Raises:
        S2LDError: the file holds matches of other weights or settings, which are named, or cannot be read or written.
    """

    def __init__(self, path: Path, settings: MatcherSettings, folder: PhotoFolder) -> None:
        title = settings.title()
        _refuse_others(path, title)
        self._journal = Journal(path, json.dumps(title, sort_keys=True).encode())
        self._digests = [_digest(photo.path) for photo in folder.photos]
        numbers = {digest: number for number, digest in enumerate(self._digests)}
        self.images: dict[int, ImageKeypoints] = {}
        self.pairs: dict[Pair, PairMatches] = {}
        for record in self._journal:
            kind, digest0, digest1 = _HEAD.unpack_from(record)
            i, j = numbers.get(digest0), numbers.get(digest1)
            if i is None or j is None:
                continue
            if kind == b"i":
                self.images[i] = ImageKeypoints.from_bytes(record[_HEAD.size :])
            else:
                matches = PairMatches.from_bytes(record[_HEAD.size :])
                self.pairs[min(i, j), max(i, j)] = matches if i < j else matches.exchanged()

    def add_images(self, images: Mapping[int, ImageKeypoints]) -> None:
        """Write the keypoints of photographs that are not there."""
        for i, keypoints in images.items():
            if i not in self.images:
                self._journal.append(_HEAD.pack(b"i", *[self._digests[i]] * 2) + keypoints.to_bytes())
                self.images[i] = keypoints

    def add_pair(self, pair: Pair, matches: PairMatches) -> None:
        """Write the matches of a pair."""
        self._journal.append(_HEAD.pack(b"p", *(self._digests[i] for i in pair)) + matches.to_bytes())
        self.pairs[pair] = matches


def match_pairs(
    folder: PhotoFolder,
    pairs: Sequence[Pair],
    settings: MatcherSettings,
    journal: MatchJournal,
    jobs: int = 1,
    progress: bool = True,
) -> RawMatches:
    """Match those pairs that the journal has not, write each to it, and return all.

    Args:
        folder: the photographs.
        pairs: to match.
        settings: of the matcher, those of the journal.
        journal: of what is done.
        jobs: processes, each with a thread and a matcher of its own; 1: all in this one.
        progress: show a bar.

    Raises:
        S2LDError: a pair does not fit into memory, the journal cannot be written, or a process was killed; what the
            journal holds stays.
    """
    missing = [pair for pair in pairs if pair not in journal.pairs]
    work = [_Work(_files(folder, {i for pair in row for i in pair}), row) for row in rows_of_pairs(missing)]
    match = partial(_match, settings, _features_limit(jobs))
    with Progress(
        total=len(pairs), initial=len(pairs) - len(missing), desc="match", unit="pair", disable=not progress
    ) as bar:
        for keypoints, matches in ordered_map(match, work, jobs):
            journal.add_images(keypoints)
            for pair, found in matches.items():
                journal.add_pair(pair, found)
                bar.update()
    images = extract_all(folder, settings, journal, jobs, progress)  # those that are in no pair too
    return RawMatches(images, {pair: journal.pairs[pair] for pair in pairs})


def extract_all(
    folder: PhotoFolder, settings: MatcherSettings, journal: MatchJournal, jobs: int = 1, progress: bool = True
) -> list[ImageKeypoints]:
    """Return the keypoints of all photographs; those that the journal has not are written to it. See `match_pairs`."""
    missing = [i for i in range(len(folder.photos)) if i not in journal.images]
    work = [_Work(_files(folder, {i}), []) for i in missing]
    match = partial(_match, settings, _features_limit(jobs))
    quiet = not progress or not missing
    for images, _ in Progress(ordered_map(match, work, jobs), "extract", len(missing), unit="image", disable=quiet):
        journal.add_images(images)
    return [journal.images[i] for i in range(len(folder.photos))]


@dataclass(frozen=True)
class _Work:
    """A piece of work for one process."""

    files: Mapping[int, Path]
    """Of the photographs in it."""
    pairs: Sequence[Pair]


class _Features:
    """Extracts photographs, and keeps what was used last; beyond `limit` bytes it is computed again."""

    def __init__(self, settings: MatcherSettings, limit: int) -> None:
        self.matcher = settings.build()
        self._limit = limit
        self._kept: dict[Path, Extracted] = {}  # the least recently used first

    def __call__(self, path: Path) -> Extracted:
        extracted = self._kept.pop(path, None) or self.matcher.extract(path)
        self._kept[path] = extracted
        while len(self._kept) > 1 and sum(kept.features.nbytes for kept in self._kept.values()) > self._limit:
            del self._kept[next(iter(self._kept))]
        return extracted


_features = lru_cache(maxsize=1)(_Features)  # one in each process


def _match(
    settings: MatcherSettings, limit: int, work: _Work
) -> tuple[dict[int, ImageKeypoints], dict[Pair, PairMatches]]:
    features = _features(settings, limit)
    extracted = {i: features(path) for i, path in work.files.items()}
    images = {i: features.matcher.keypoints(value) for i, value in extracted.items()}
    matches = features.matcher.match_both_ways([(extracted[i], extracted[j]) for i, j in work.pairs])
    return images, dict(zip(work.pairs, matches, strict=True))


def _files(folder: PhotoFolder, numbers: set[int]) -> dict[int, Path]:
    return {i: folder.photos[i].path for i in sorted(numbers)}


def _features_limit(jobs: int) -> int:
    """Bytes of features that each process keeps."""
    return max(LEAST_FEATURES, available_memory() // (4 * jobs))


def _digest(path: Path) -> bytes:
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
