"""What the bookkeeping of a matched folder takes as folders grow: synthetic matches, no photograph and no network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from s2ld.benchmarks.own_process import own_peak, run_alone
from s2ld.sfm.mapping.cameras import group_cameras
from s2ld.sfm.matching.colmap_database import write_database
from s2ld.sfm.matching.folder import RawMatches, read_images
from s2ld.sfm.matching.hloc import write_hloc
from s2ld.sfm.matching.identity import IdentitySettings, identify
from s2ld.sfm.matching.keypoints import ImageKeypoints, PairMatches
from s2ld.sfm.matching.pairs import Pair, sequential_pairs
from s2ld.sfm.matching.storage.matches import JOURNAL, MatchJournal
from s2ld.sfm.matching.storage.tables import TABLES, FolderMatches, TableStore
from s2ld.sfm.photos.usable import Photo, PhotoFolder

SIZE = (800, 600)
"""px of the images that there might be."""
SPREAD = 0.05
"""px, standard deviation of a measurement."""
RETRIEVED, CHANNELS = 512, 80
"""Coarse features of an image that its record holds for retrieval, and their length in S2LD-Lite."""
GOLDEN = 0.6180339887498949
"""Multiples of it are spread evenly between whole numbers."""
BATCH = 1000
"""Pairs that are written to the journal at once."""
TITLE = {"form": "synthetic"}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Shape:
    """Of the synthetic folders: images in a row, each matched with those beside it."""

    detections: int = 1200
    """Of an image that are in any match."""
    partners: int = 20
    """Of an image; the further away, the fewer detections they share."""
    database: bool = True
    """Write and verify COLMAP's database too."""


@dataclass(frozen=True)
class Growth:
    """What a folder of one size took."""

    photos: int
    pairs: int
    matches: int
    """Between rows of the tables, of all pairs."""
    seconds: dict[str, float]
    """CPU time of each stage."""
    peak: float | None
    """MB of memory, Python and its libraries in it; None elsewhere than on Linux."""
    disk: float
    """MB of all files."""


def growth_of(photos: int, shape: Shape, scratch: Path) -> Growth:
    """Make a folder's journal in one process, and all that is made of it in another one, which is measured.

    Args:
        photos: in the folder, at least 2.
        shape: of the folder.
        scratch: folder for its files, which are deleted afterwards.

    Raises:
        S2LDError: a file cannot be written, or a process was killed.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=f"folder-{photos}-") as folder:
        run_alone(_write_journal, Path(folder), photos, shape)
        return run_alone(_measure, Path(folder), photos, shape)


def _measure(output: Path, photos: int, shape: Shape) -> Growth:
    seconds: dict[str, float] = {}
    folder = _folder(output, photos)
    names, sizes = [photo.name for photo in folder.photos], [SIZE] * photos
    settings = IdentitySettings()
    journal = _timed(seconds, "journal", lambda: MatchJournal(output / JOURNAL, TITLE, folder))
    raw = RawMatches(read_images(folder, journal), journal.pairs)

    def tables() -> FolderMatches:
        return identify(raw, settings, TableStore(output / TABLES, journal.digests, asdict(settings)))

    matches = _timed(seconds, "tables", tables)
    _timed(seconds, "hloc", lambda: write_hloc(output, names, sizes, [1.0] * photos, matches))
    if shape.database:
        cameras = group_cameras(folder.photos, shared=True)
        _timed(seconds, "COLMAP", lambda: write_database(output / "database.db", names, cameras, matches))
    count = sum(len(found) for found in matches.pairs.values())
    disk = sum(path.stat().st_size for path in output.iterdir() if path.is_file())
    return Growth(photos, len(raw.pairs), count, seconds, own_peak(), disk / 1e6)


def _timed(seconds: dict[str, float], stage: str, work: Callable[[], Result]) -> Result:
    start = sum(os.times()[:2])
    result = work()
    seconds[stage] = sum(os.times()[:2]) - start
    return result


def _folder(output: Path, photos: int) -> PhotoFolder:
    """Files that only differ stand for photographs."""
    place = output / "photos"
    place.mkdir(exist_ok=True)
    names = [f"{number:06d}.jpg" for number in range(photos)]
    for name in names:
        (place / name).write_text(name)
    return PhotoFolder(place, [Photo(name, place / name, SIZE, None, "", True) for name in names], [])


def _write_journal(output: Path, photos: int, shape: Shape) -> None:
    folder = _folder(output, photos)
    journal = MatchJournal(output / JOURNAL, TITLE, folder)
    random = np.random.default_rng(0)
    for start in range(0, photos, BATCH):
        numbers = range(start, min(photos, start + BATCH))
        journal.add_images({number: _image(number, shape) for number in numbers})
    pairs = iter(sequential_pairs(photos, shape.partners // 2))
    while batch := list(islice(pairs, BATCH)):
        journal.add_pairs({pair: _matches(pair, shape, random) for pair in batch})


def _points(number: int, shape: Shape) -> NDArray[np.float32]:
    """(P, 2) px: a wall full of points goes by, `_step` of them from one image to the next."""
    row = np.arange(shape.detections)
    height = np.modf((row + number * _step(shape)) * GOLDEN)[0]
    return np.stack([row / shape.detections * SIZE[0], height * SIZE[1]], 1).astype(np.float32)


def _step(shape: Shape) -> int:
    return shape.detections // (shape.partners // 2 + 1)


def _image(number: int, shape: Shape) -> ImageKeypoints:
    descriptors = np.zeros((RETRIEVED, CHANNELS), np.float16)
    return ImageKeypoints(_points(number, shape), np.ones(shape.detections, np.float32), np.ones(2), descriptors)


def _matches(pair: Pair, shape: Shape, random: np.random.Generator) -> PairMatches:
    shift = (pair[1] - pair[0]) * _step(shape)
    rows0 = np.arange(shift, shape.detections, dtype=np.int32)
    rows1 = rows0 - np.int32(shift)
    noise = random.normal(0, SPREAD, (len(rows0), 2)).astype(np.float32)
    sure = random.uniform(0.3, 1, len(rows0)).astype(np.float32)
    back, there = _points(pair[0], shape)[rows0] - noise, _points(pair[1], shape)[rows1] + noise
    return PairMatches(rows0, rows1, back, there, sure, sure)
