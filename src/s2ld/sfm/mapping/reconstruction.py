"""Sparse models of a database with verified matches, their files, and how good they are."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2ld.files import make_folder, whole_folder
from s2ld.locks import sole_writer
from s2ld.sfm.mapping.mapper import MAPPERS, run_mapper
from s2ld.sfm.mapping.write_model import write_model, write_points
from s2ld.viz.reconstruction import ColouredModel

SPARSE = "sparse"


@dataclass(frozen=True)
class ModelFigures:
    """How good a sparse model is."""

    registered: int
    """Images with a pose."""
    points: int
    track_length: float
    """Images that see a point, mean."""
    error: float
    """Mean reprojection error of all observations, px of the images as given."""


def reconstruct(
    database: Path,
    images: Path,
    output: Path,
    seed: int = 0,
    threads: int = -1,
    progress: bool = True,
    mapper: str = MAPPERS[0],
) -> list[Any]:
    """Map a database and write each model to `output`/sparse/NUMBER, the largest as 0, with points.ply beside it.

    Args:
        database: of COLMAP, with verified matches.
        images: folder to which its names belong.
        output: folder to write to; models of an earlier run are replaced when the new ones are whole.
        seed: see `run_mapper`.
        threads: see `run_mapper`.
        progress: show a bar.
        mapper: see `run_mapper`.

    Returns:
        The `pycolmap.Reconstruction`s in that order; none where no two images have enough matches.

    Raises:
        S2LDError: as `run_mapper`, a file cannot be written, or another process writes to `output`.
    """
    make_folder(output)
    with sole_writer(output):
        with tempfile.TemporaryDirectory(dir=output, prefix="mapping-") as folder:
            models = run_mapper(database, images, Path(folder), seed, threads, progress, mapper)
        if not models:
            shutil.rmtree(output / SPARSE, ignore_errors=True)
            return []
        with whole_folder(output / SPARSE) as new:
            for number, model in enumerate(models):
                write_model(model, new / str(number))
                write_points(model, new / str(number) / "points.ply")
    return models


def figures(model: Any) -> ModelFigures:
    """Return the figures of a `pycolmap.Reconstruction`."""
    model.update_point_3d_errors()
    return ModelFigures(
        model.num_reg_images(),
        model.num_points3D(),
        model.compute_mean_track_length(),
        model.compute_mean_reprojection_error(),
    )


def coloured(model: Any) -> ColouredModel:
    """Return what is drawn of a `pycolmap.Reconstruction`."""
    points = list(model.points3D.values())
    images = [model.images[index] for index in sorted(model.reg_image_ids())]
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    corners = np.zeros((len(images), 4, 2))
    for number, image in enumerate(images):
        poses[number, :3] = image.cam_from_world().matrix()
        camera = model.cameras[image.camera_id]
        frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [camera.width, camera.height]
        middle = [camera.principal_point_x, camera.principal_point_y]
        corners[number] = (frame - middle) / [camera.focal_length_x, camera.focal_length_y]
    return ColouredModel(
        np.array([point.xyz for point in points]).reshape(-1, 3),
        np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        poses,
        corners,
        [image.name for image in images],
        np.array([point.track.length() for point in points], np.int64),
        np.array([image.num_points3D for image in images], np.int64),
    )
