"""Reading some pairs of scenes in MegaDepth's form to see whether they are of the right convention."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.conventions import Array, DepthView, another_convention, choose_pairs
from s2ld.data.images.photo_files import PhotoFiles, header_size, intrinsics_scale, photo_files, read_depth
from s2ld.data.index.files import SceneIndex, index_files, read_index
from s2ld.data.index.matrices import is_rigid
from s2ld.data.sources.megadepth import MegaDepthFiles, megadepth_files
from s2ld.errors import S2LDError
from s2ld.geometry.camera import rescale_intrinsics

SCENES_OF_A_RUN = 3
"""Scenes that a training looks at before it starts; `s2ld check-data` looks at all."""


@dataclass(frozen=True)
class ScenePairs:
    """Some pairs of a scene whose files are still to be read."""

    images: list[tuple[PhotoFiles, Array, Array]]
    """Files, intrinsics (3, 3) with pixel centres at integers, and pose (4, 4)."""
    pairs: list[tuple[int, int]]
    """Places in `images`."""
    overlap: float
    """Median over the pairs, by the index."""


def scene_pairs(
    index: SceneIndex, rows: NDArray[np.integer[Any]], files: Callable[[int], PhotoFiles], config: CN
) -> ScenePairs | None:
    """Choose some pairs of a scene.

    Args:
        index: of the scene.
        rows: of `index.pairs` that may be chosen.
        files: returns those of an image.
        config: the DATA.MEGADEPTH node.

    Returns:
        None where there are none.
    """
    rows = rows[choose_pairs(index.pairs[rows], index.overlap[rows])]
    if not len(rows):
        return None
    used, places = np.unique(index.pairs[rows], return_inverse=True)
    centre = 0.5 if config.PRINCIPAL_POINT == "half" else 0.0
    images = []
    for image in used:
        K = np.array(index.intrinsics[image])
        K[:2, 2] -= centre
        images.append((files(int(image)), K, np.array(index.poses[image])))
    pairs = [(int(i), int(j)) for i, j in places.reshape(-1, 2)]
    return ScenePairs(images, pairs, float(np.median(index.overlap[rows])))


def judge(scene: ScenePairs) -> str:
    """Return which other convention a scene seems to follow, and its remedy; "" where it is right or cannot be told."""
    views: dict[int, DepthView] = {}
    for place, (files, K, pose) in enumerate(scene.images):
        try:
            if is_rigid(pose):
                views[place] = _view(files, K, pose)
        except S2LDError:  # reported where files are checked, as poses are
            continue
    both = [(views[i], views[j]) for i, j in scene.pairs if i in views and j in views]
    return another_convention(both, scene.overlap)


def odd_scenes(config: CN) -> Iterator[str]:
    """Yield a line for each of some training scenes that seem to be of another convention, by the DATA node."""
    if "megadepth" not in config.TRAIN_SOURCES:
        return
    for where in megadepth_files(config, "train"):
        paths = index_files(where.index, where.scenes)
        for path in paths[:: max(1, -(-len(paths) // SCENES_OF_A_RUN))]:
            try:
                said = _judge_index(read_index(path), where, config.MEGADEPTH)
            except S2LDError:  # what cannot be read is told where it is needed
                continue
            if said:
                yield f"scene {path.stem}: {said} (s2ld check-data looks at all scenes)"


def _judge_index(index: SceneIndex, where: MegaDepthFiles, config: CN) -> str:
    rows = index.select((float(config.OVERLAP[0]), float(config.OVERLAP[1])), config.MAX_ANGLE, config.MAX_SCALE)
    files = partial(photo_files, where.root, index, layout=config.LAYOUT, with_depth=where.depth)
    chosen = scene_pairs(index, rows, files, config)
    return "" if chosen is None else judge(chosen)


def _view(files: PhotoFiles, K: Array, pose: Array) -> DepthView:
    size = header_size(files)
    factor = torch.tensor(intrinsics_scale(files, size), dtype=torch.float64)
    return DepthView(read_depth(files, size), rescale_intrinsics(torch.from_numpy(K), factor).numpy(), pose)
