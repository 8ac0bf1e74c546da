"""One scene of training data from a COLMAP model and its images: undistortion, depth, pairs, index, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from yacs.config import CfgNode as CN

from s2ld.data.images.photo_files import depth_map
from s2ld.data.images.reading import write_image
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.data.index.overlap import measure_pairs
from s2ld.data.index.pair_selection import select_pairs
from s2ld.errors import S2LDError
from s2ld.sfm.dataset.undistort import Undistorted, undistort
from s2ld.sfm.depth.colmap_maps import find_map, read_map, write_map
from s2ld.sfm.depth.depth_maps import DepthReport, compute_depths, depth_file
from s2ld.sfm.depth.options import SweepOptions
from s2ld.sfm.mapping.model import RejectedError
from s2ld.sfm.mapping.read_model import ColmapModel
from s2ld.viz.depths import depth_montage

INDEX = "index"
"""Folder of the index files below a data set."""
PICTURE = "depths.jpg"


@dataclass(frozen=True)
class SceneInput:
    """What a scene is made from."""

    name: str
    """Of its folder and its index file."""
    model: ColmapModel
    images: Path
    """Folder of the model's images."""
    maps: Path | None
    """COLMAP's ``stereo/depth_maps`` of these images."""
    titles: dict[str, str]
    """Names of the photographs, by those of the model's images."""


@dataclass(frozen=True)
class SceneResult:
    """A scene of the data set; also what is kept of it between runs."""

    name: str
    images: int
    """With depth."""
    pairs: int
    coverage: float
    """Median share of pixels of known depth, of the images with depth."""
    error: float
    """Median over the images of the median relative difference of depth and points; NaN where there are none."""
    size: tuple[int, int]
    """Width and height of most images, px."""
    sources: list[str]
    """Names of the photographs."""
    rejected: list[tuple[str, str]]
    """Name and reason of each image that is not used."""


@dataclass(frozen=True)
class Work:
    """How all scenes are made."""

    out: Path
    """The data set's folder."""
    config: CN
    """`s2ld.sfm.dataset.settings.build_defaults`."""
    device: str
    jobs: int
    """Threads."""
    progress: bool


def make_scene(scene: SceneInput, work: Work, scratch: Path) -> SceneResult:
    """Make one scene; images, depth maps that are there already are kept.

    Args:
        scene: what it is made from.
        work: how.
        scratch: folder for what is not part of the data set.

    Raises:
        RejectedError: next to no depth is known, or no pair of images overlaps.
        S2LDError: a file cannot be written, or the model's images are not there.
    """
    config, folder = work.config, work.out / scene.name
    flat = undistort(scene.model, scene.images, folder / "images", config.MAX_SIDE, work.jobs, work.progress)
    maps, damaged = None, []
    if scene.maps is not None:
        maps = scratch / f"{scene.name}_maps"
        damaged = _rescale_maps(scene.maps, flat, maps)
    sweeps = SweepOptions(long_side=config.DEPTH.LONG_SIDE)
    reports = compute_depths(flat.model, folder / "images", folder, sweeps, work.device, work.progress, work.jobs, maps)
    known = float(np.median([report.coverage for report in reports]))
    if known < config.DEPTH.LEAST_KNOWN:
        raise RejectedError(
            f"its {len(flat.model)} images know the depth of {known:.1%} of their pixels (median), and "
            f"{config.DEPTH.LEAST_KNOWN:.1%} are needed; take photographs from more places, or lower DEPTH.LEAST_KNOWN"
        )
    depths = [depth_map(report.path) for report in reports]
    index = _index(scene.name, flat, depths, work)
    images = [folder / "images" / name for name in flat.model.names]
    write_image(depth_montage(images, depths), folder / PICTURE)
    write_index(index, index_file(work.out, scene.name))
    return _result(scene, flat, reports, index, damaged)


def index_file(out: Path, scene: str) -> Path:
    """Return the index file of a scene of the data set `out`."""
    return out / INDEX / f"{scene}.npz"


def _rescale_maps(maps: Path, flat: Undistorted, folder: Path) -> list[tuple[str, str]]:
    """Write COLMAP's maps in the unit and by the names of the undistorted images.

    Return image and reason of each map that cannot be read; these images are swept.
    """
    damaged = []
    for name, source in zip(flat.model.names, flat.sources, strict=True):
        found = find_map(maps, source)
        if found is None:
            continue
        path = folder / f"{name}.{found[1]}.bin"
        if path.exists():
            continue
        try:
            depth = read_map(found[0])
        except S2LDError as error:
            damaged.append((source, str(error)))
            continue
        write_map(path, depth * np.float32(flat.scale))
    return damaged


def _index(name: str, flat: Undistorted, depths: Sequence[NDArray[np.float32]], work: Work) -> SceneIndex:
    model, node = flat.model, work.config.PAIRS
    measures = measure_pairs(depths, model.K, model.poses, node.GRID, node.TOLERANCE, work.progress)
    rows = select_pairs(measures, node.OVERLAP, node.PER_IMAGE, node.MAX_ANGLE, work.config.SEED)
    if not len(rows):
        most = float(measures.overlap.max(initial=0.0))
        raise RejectedError(
            f"no pair of its {len(model)} images has an overlap by depth from {node.OVERLAP[0]:g} to "
            f"{node.OVERLAP[-1]:g} (the largest: {most:.2f}); take more photographs of it, or widen PAIRS.OVERLAP"
        )
    return SceneIndex(
        name,
        np.array([f"{name}/images/{image}" for image in model.names]),
        np.array([depth_file(Path(name) / "depths", image).as_posix() for image in model.names]),
        model.K,
        model.poses,
        measures.pairs[rows],
        measures.overlap[rows],
        measures.angle_deg[rows],
        model.sizes,
        measures.scale_ratio[rows],
    )


def _result(
    scene: SceneInput,
    flat: Undistorted,
    reports: Sequence[DepthReport],
    index: SceneIndex,
    damaged: Sequence[tuple[str, str]],
) -> SceneResult:
    good = [report for report in reports if not report.reason]
    errors = [report.error for report in good if report.error is not None]
    sizes, counts = np.unique(flat.model.sizes, axis=0, return_counts=True)
    width, height = (int(side) for side in sizes[counts.argmax()])
    rejected = [
        *flat.rejected,
        *damaged,
        *(
            (source, f"no depth: {report.reason}")
            for source, report in zip(flat.sources, reports, strict=True)
            if report.reason
        ),
    ]
    return SceneResult(
        scene.name,
        len(good),
        len(index),
        float(np.median([report.coverage for report in good])) if good else 0.0,
        float(np.median(errors)) if errors else float("nan"),
        (width, height),
        [scene.titles.get(source, source) for source in flat.sources],
        [(scene.titles.get(source, source), reason) for source, reason in rejected],
    )
