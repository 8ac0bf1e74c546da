"""Matching the pairs of a folder, as much of it as is not done yet; a kill costs a few pairs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from time import perf_counter

from s2ld.evaluation.predictions.parallel import ordered_map
from s2ld.files import make_folder
from s2ld.log import Progress
from s2ld.pretrained import resolve
from s2ld.sfm.matching.cost import Rate
from s2ld.sfm.matching.keypoints import ImageKeypoints, PairMatches
from s2ld.sfm.matching.matcher import KeypointMatcher
from s2ld.sfm.matching.pairs import Pair, rows_of_pairs
from s2ld.sfm.matching.storage.features import CACHE, FeatureCache, PackedFeatures, memory_for_features
from s2ld.sfm.matching.storage.matches import MatchJournal
from s2ld.sfm.matching.storage.on_disk import OnDiskSequence
from s2ld.sfm.photos.usable import PhotoFolder

FORM = 1
"""Raised when records get another meaning."""
IMAGES_KEPT = 256
"""Images whose keypoints (170 kB at 800 px) stay in memory once they were read."""


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
    """Matches of a folder before keypoints have an identity; a matched folder's are on the disk."""

    images: Sequence[ImageKeypoints]
    """Of each photograph."""
    pairs: Mapping[Pair, PairMatches]
    """Of each pair that was asked for."""


@dataclass(frozen=True)
class Matching:
    """How pairs of a folder are matched."""

    settings: MatcherSettings
    scratch: Path
    """Folder in which features are kept while pairs are matched."""
    jobs: int = 1
    """Processes, each with a thread and a matcher of its own; 1: all in this one."""
    progress: bool = True
    """Show bars."""


def match_pairs(folder: PhotoFolder, pairs: Sequence[Pair], matching: Matching, journal: MatchJournal) -> RawMatches:
    """Match those pairs that the journal has not, write each to it, and return all, which stay on the disk.

    Args:
        folder: the photographs.
        pairs: to match.
        matching: how, with the settings of the journal.
        journal: of what is done.

    Raises:
        S2LDError: a pair does not fit into memory, the journal cannot be written, or a process was killed; what the
            journal holds stays.
    """
    images = _images_to_do(folder, journal)
    missing = [pair for pair in pairs if pair not in journal.pairs]
    rows = [_Work(_files(folder, {i for pair in row for i in pair}), row) for row in rows_of_pairs(missing)]
    found = ordered_map(_function(matching), [*images, *rows], matching.jobs)
    _keep_images(islice(found, len(images)), len(images), matching, journal)
    with Progress(
        total=len(pairs), initial=len(pairs) - len(missing), desc="match", unit="pair", disable=not matching.progress
    ) as bar:
        for _, matches in found:
            journal.add_pairs(matches)
            bar.update(len(matches))
    _worker.cache_clear()  # what follows needs the memory
    shutil.rmtree(matching.scratch / CACHE, ignore_errors=True)
    return RawMatches(read_images(folder, journal), journal.pairs.only(pairs))


def extract_all(folder: PhotoFolder, matching: Matching, journal: MatchJournal) -> Sequence[ImageKeypoints]:
    """Return the keypoints of all photographs; those that the journal has not are written to it. See `match_pairs`."""
    images = _images_to_do(folder, journal)
    _keep_images(ordered_map(_function(matching), images, matching.jobs), len(images), matching, journal)
    return read_images(folder, journal)


def measure_rate(folder: PhotoFolder, matching: Matching) -> Rate:
    """Match the first two photographs, and return what an image and a pair take when all is warm."""
    matcher = matching.settings.build()
    one, two = (photo.path for photo in folder.photos[:2])
    first = matcher.extract(one)
    start = perf_counter()
    second = matcher.extract(two)
    extracted = perf_counter()
    (matches,) = matcher.match_both_ways([(first, second)])
    again = perf_counter()
    matcher.match_both_ways([(first, second)])
    return Rate(
        extracted - start,
        perf_counter() - again,
        PackedFeatures.of(second).nbytes,
        len(matcher.keypoints(second).to_bytes()),
        len(matches.to_bytes()),
    )


def _images_to_do(folder: PhotoFolder, journal: MatchJournal) -> list[_Work]:
    return [_Work(_files(folder, {i}), []) for i in range(len(folder.photos)) if i not in journal.images]


def _keep_images(found: Iterable[_Outcome], count: int, matching: Matching, journal: MatchJournal) -> None:
    quiet = not matching.progress or not count
    for images, _ in Progress(found, "extract", count, unit="image", disable=quiet):
        journal.add_images(images)


def read_images(folder: PhotoFolder, journal: MatchJournal) -> Sequence[ImageKeypoints]:
    """Return the keypoints of all photographs, which the journal has; a few of them stay in memory."""
    return OnDiskSequence(len(folder.photos), lru_cache(IMAGES_KEPT)(journal.images.__getitem__))


@dataclass(frozen=True)
class _Work:
    """A piece of work for one process."""

    files: Mapping[int, Path]
    """Of the photographs in it."""
    pairs: Sequence[Pair]


_Outcome = tuple[dict[int, ImageKeypoints], dict[Pair, PairMatches]]


class _Worker:
    """Matches pieces of work with the features that are kept."""

    def __init__(self, settings: MatcherSettings, cache: Path, jobs: int) -> None:
        self._matcher = settings.build()
        memory = memory_for_features(jobs)
        self._features = FeatureCache(cache, settings.title(), self._matcher.extract, memory, shared=jobs > 1)

    def __call__(self, work: _Work) -> _Outcome:
        device = self._matcher.device
        extracted = {i: self._features(path).extracted(device) for i, path in work.files.items()}
        if not work.pairs:
            return {i: self._matcher.keypoints(value) for i, value in extracted.items()}, {}
        matches = self._matcher.match_both_ways([(extracted[i], extracted[j]) for i, j in work.pairs])
        return {}, dict(zip(work.pairs, matches, strict=True))


_worker = lru_cache(maxsize=1)(_Worker)  # one in each process


def _function(matching: Matching) -> partial[_Outcome]:
    """Return what does a piece of work in any process."""
    cache = matching.scratch / CACHE
    make_folder(cache)
    return partial(_match, matching.settings, cache, matching.jobs)


def _match(settings: MatcherSettings, cache: Path, jobs: int, work: _Work) -> _Outcome:
    return _worker(settings, cache, jobs)(work)


def _files(folder: PhotoFolder, numbers: set[int]) -> dict[int, Path]:
    return {i: folder.photos[i].path for i in sorted(numbers)}
