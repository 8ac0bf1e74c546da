"""Matching the pairs of a folder, as much of it as is not done yet; a kill costs a few pairs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
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
    shared: bool = False
    """Other processes that are not of these use `scratch` too."""


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
    missing = [pair for pair in pairs if pair not in journal.pairs]
    match_missing(folder, missing_images(folder, journal), rows_of_pairs(missing), matching, journal)
    shutil.rmtree(matching.scratch / CACHE, ignore_errors=True)
    return RawMatches(read_images(folder, journal), journal.pairs.only(pairs))


def match_missing(
    folder: PhotoFolder,
    images: Sequence[int],
    rows: Sequence[Sequence[Pair]],
    matching: Matching,
    journal: MatchJournal,
) -> None:
    """Compute the keypoints of photographs, then match pairs, and write all of it to the journal.

    Args:
        folder: the photographs.
        images: numbers of those whose keypoints are missing.
        rows: pairs, by pieces of work.
        matching: how.
        journal: of the same settings.

    Raises:
        S2LDError: as `match_pairs`.
    """
    work = [*(_Work(_files(folder, {i}), []) for i in images), *(_Work(_files_of(folder, row), row) for row in rows)]
    found = ordered_map(_function(matching), work, matching.jobs)
    quiet = not matching.progress
    for keypoints, _ in Progress(
        islice(found, len(images)), "extract", len(images), unit="image", disable=quiet or not images
    ):
        journal.add_images(keypoints)
    with Progress(total=sum(map(len, rows)), desc="match", unit="pair", disable=quiet or not rows) as bar:
        for _, matches in found:
            journal.add_pairs(matches)
            bar.update(len(matches))
    if rows:
        _worker.cache_clear()  # what follows needs the memory


def missing_images(folder: PhotoFolder, journal: MatchJournal) -> list[int]:
    """Return the photographs whose keypoints the journal has not."""
    return [i for i in range(len(folder.photos)) if i not in journal.images]


def read_images(folder: PhotoFolder, journal: MatchJournal) -> Sequence[ImageKeypoints]:
    """Return the keypoints of all photographs, which the journal has; a few of them stay in memory."""
    return OnDiskSequence(len(folder.photos), lru_cache(IMAGES_KEPT)(journal.images.__getitem__))


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


@dataclass(frozen=True)
class _Work:
    """A piece of work for one process."""

    files: Mapping[int, Path]
    """Of the photographs in it."""
    pairs: Sequence[Pair]


_Outcome = tuple[dict[int, ImageKeypoints], dict[Pair, PairMatches]]


class _Worker:
    """Matches pieces of work with the features that are kept."""

    def __init__(self, settings: MatcherSettings, cache: Path, jobs: int, shared: bool) -> None:
        self._matcher = settings.build()
        memory = memory_for_features(jobs)
        self._features = FeatureCache(cache, settings.title(), self._matcher.extract, memory, shared)

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
    return partial(_match, matching.settings, cache, matching.jobs, matching.shared or matching.jobs > 1)


def _match(settings: MatcherSettings, cache: Path, jobs: int, shared: bool, work: _Work) -> _Outcome:
    return _worker(settings, cache, jobs, shared)(work)


def _files_of(folder: PhotoFolder, row: Sequence[Pair]) -> dict[int, Path]:
    return _files(folder, {i for pair in row for i in pair})


def _files(folder: PhotoFolder, numbers: set[int]) -> dict[int, Path]:
    return {i: folder.photos[i].path for i in sorted(numbers)}
