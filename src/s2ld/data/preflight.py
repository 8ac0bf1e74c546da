"""Walking what a run would read of scenes in MegaDepth's form, and indices without what cannot be read."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images.photo_files import (
    PROBLEMS,
    PhotoFiles,
    UnreadableError,
    check_depth_size,
    depth_shape,
    header_size,
    intrinsics_scale,
    photo_files,
    read_depth,
    read_photo,
    unreadable,
)
from s2ld.data.index.files import SceneIndex, index_files, narrow, read_index
from s2ld.data.index.matrices import is_rigid
from s2ld.data.scene_geometry import judge, scene_pairs
from s2ld.data.sources.megadepth import MegaDepthFiles
from s2ld.errors import S2LDError
from s2ld.log import Progress

NO_DEPTH, NOT_RIGID = "all-zero depth", "pose not rigid"
CHECKS = (*PROBLEMS, NO_DEPTH, NOT_RIGID)
"""Everything that is looked for, in the order of tables."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileCheck:
    """What is wrong with the files of one image."""

    problems: dict[str, str]
    """Of `CHECKS`, each with one line that names the file."""
    rescaled: bool
    """The image is of another size than its intrinsics, which will be rescaled."""


@dataclass(frozen=True)
class SceneReport:
    """What was found in one scene; only images and pairs that pass the config's filters count."""

    name: str
    images: int
    pairs: int
    counts: dict[str, int]
    """Images of each problem of `CHECKS`."""
    rescaled: int
    """Images whose intrinsics will be rescaled."""
    pairs_lost: int
    """Pairs of which an image has a problem."""
    lines: dict[str, list[str]]
    """The problems by name, a line for each image."""
    error: str = ""
    """Why the index file itself cannot be read."""
    convention: str = ""
    """Which other convention its cameras or depth maps seem to follow, and the remedy."""


@dataclass(frozen=True)
class Walk:
    """What was found in all scenes of a split."""

    scenes: list[SceneReport]
    """Of each index file, in order."""
    clean: list[SceneIndex]
    """The indices without what cannot be read; scenes of which nothing is left are left out."""
    missing_images: list[PhotoFiles]
    missing_depths: list[PhotoFiles]


@dataclass(frozen=True)
class _Scene:
    """A scene, and which of it can be read."""

    index: SceneIndex
    pairs: NDArray[np.integer[Any]]
    """(p, 2) rows of images, of the pairs that pass the filters."""
    rows: NDArray[np.uint32]
    """Their rows in the index."""
    files: dict[int, PhotoFiles]
    """Of each image that they use."""


def walk(where: MegaDepthFiles, config: CN, fast: bool, workers: int) -> Walk:
    """Check every image that a split reads, each file once however many scenes name it.

    Args:
        where: the split's files.
        config: the DATA.MEGADEPTH node.
        fast: that files exist and what their headers say; nothing is decoded, no depth is compared.
        workers: processes; 0 and 1 work in this one.

    Raises:
        S2LDError: there is no index file (`index_files`); one that cannot be read is reported.
    """
    opened = [_open(path, where, config) for path in index_files(where.index, where.scenes)]
    scenes = [scene for scene in opened if isinstance(scene, _Scene)]
    tasks = list(dict.fromkeys(files for scene in scenes for files in scene.files.values()))
    found = dict(zip(tasks, spread(partial(check_files, fast=fast), tasks, workers, "check", "image"), strict=True))
    reports, clean, geometry = [], [], []
    for scene in opened:
        if isinstance(scene, SceneReport):
            reports.append(scene)
            continue
        report, bad = _judge(scene, found)
        pairs = scene_pairs(scene.index, scene.rows[~bad[scene.pairs].any(1)], scene.files.__getitem__, config)
        if pairs is not None and where.depth and not fast:
            geometry.append((len(reports), pairs))
        reports.append(report)
        left = _without(scene, bad)
        clean += [] if left is None else [left]
    said = spread(judge, [pairs for _, pairs in geometry], workers, "geometry", "scene")
    for (place, _), convention in zip(geometry, said, strict=True):
        reports[place] = replace(reports[place], convention=convention)
    missing = ([files for files in tasks if problem in found[files].problems] for problem in (PROBLEMS[0], PROBLEMS[3]))
    return Walk(reports, clean, *missing)


def check_files(files: PhotoFiles, fast: bool = False) -> FileCheck:
    """Check image and depth map of one image; `fast` is that of `walk`."""
    problems: dict[str, str] = {}
    size, rescaled = None, False
    with _noted(problems):
        size = header_size(files) if fast else read_photo(files).shape[1::-1]
        rescaled = intrinsics_scale(files, (size[0], size[1])) != (1.0, 1.0)
    if files.depth is not None:
        with _noted(problems):
            if fast:
                check_depth_size(files, depth_shape(files), size)
            elif not read_depth(files, size).any():
                raise unreadable(NO_DEPTH, f"{files.depth}: no depth is known in this map; nothing is learnt from it")
    return FileCheck(problems, rescaled)


def spread(
    function: Callable[[Task], Result], tasks: list[Task], workers: int, title: str, unit: str
) -> Iterable[Result]:
    """Yield `function` of each task in order, from `workers` processes (0 and 1: this one), with a progress bar."""
    if workers < 2:
        yield from map(function, Progress(tasks, title, unit=unit))
        return
    with ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from Progress(pool.map(function, tasks, chunksize=8), title, len(tasks), unit=unit)


def _open(path: Path, where: MegaDepthFiles, config: CN) -> _Scene | SceneReport:
    try:
        index = read_index(path)
    except S2LDError as error:
        return SceneReport(path.stem, 0, 0, dict.fromkeys(CHECKS, 0), 0, 0, {}, str(error))
    rows = index.select((float(config.OVERLAP[0]), float(config.OVERLAP[1])), config.MAX_ANGLE, config.MAX_SCALE)
    pairs = index.pairs[rows]
    images = {int(i): photo_files(where.root, index, int(i), config.LAYOUT, where.depth) for i in np.unique(pairs)}
    return _Scene(index, pairs, rows, images)


def _judge(scene: _Scene, found: dict[PhotoFiles, FileCheck]) -> tuple[SceneReport, NDArray[np.bool_]]:
    """Return the report of a scene and which of its images (n,) have a problem."""
    lines: dict[str, list[str]] = {}
    bad = np.zeros(len(scene.index.image_paths), bool)
    for image, files in scene.files.items():
        problems = dict(found[files].problems)
        if not is_rigid(scene.index.poses[image]):
            problems[NOT_RIGID] = f"{scene.index.name}: the pose of {scene.index.image_paths[image]} is not rigid"
        bad[image] = bool(problems)
        for problem, line in problems.items():
            lines.setdefault(problem, []).append(line)
    counts = {check: len(lines.get(check, [])) for check in CHECKS}
    rescaled = sum(found[files].rescaled for files in scene.files.values())
    lost = int(bad[scene.pairs].any(1).sum())
    name = scene.index.name
    return SceneReport(name, len(scene.files), len(scene.pairs), counts, rescaled, lost, lines), bad


def _without(scene: _Scene, bad: NDArray[np.bool_]) -> SceneIndex | None:
    """Return the index with the chosen pairs whose images are both good, and their images; None where none is left."""
    keep = ~bad[scene.pairs].any(1)
    if not keep.any():
        return None
    index = scene.index
    used, flat = np.unique(scene.pairs[keep], return_inverse=True)
    return replace(
        index,
        image_paths=index.image_paths[used],
        depth_paths=index.depth_paths[used],
        intrinsics=index.intrinsics[used],
        poses=index.poses[used],
        pairs=narrow(flat.reshape(-1, 2), len(used)),
        overlap=index.overlap[scene.rows][keep],
        angle_deg=None if index.angle_deg is None else index.angle_deg[scene.rows][keep],
        image_sizes=None if index.image_sizes is None else index.image_sizes[used],
        scale_ratio=None if index.scale_ratio is None else index.scale_ratio[scene.rows][keep],
    )


@contextmanager
def _noted(problems: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except UnreadableError as error:
        problems[error.problem] = str(error)
