"""COLMAP's incremental and global mappers on a database with verified matches."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s2ld.errors import S2LDError
from s2ld.files import make_folder
from s2ld.log import Progress
from s2ld.sfm.mapping.colmap import colmap_errors, load_pycolmap
from s2ld.sfm.matching.colmap_database import refuse_full_disk

LEAST_MODEL = 3
"""Images of the smallest model that is kept beside others: two alone are seldom a place of their own."""
MAPPERS = ("incremental", "global")
FAILURE = ("COLMAP's mapper", "matches are kept: run the same command again")
"""What is told where it fails."""


def run_mapper(
    database: Path,
    images: Path,
    output: Path,
    seed: int = 0,
    threads: int = -1,
    progress: bool = True,
    mapper: str = MAPPERS[0],
) -> list[Any]:
    """Map all that can be mapped: several places in one folder give as many models.

    Args:
        database: of COLMAP, with verified matches.
        images: folder to which its names belong; the points take their colours from there.
        output: folder in which COLMAP writes each model, named by its number, 0, 1 and so on.
        seed: of all random choices. Equal runs are equal with one thread; with more, up to rounding.
        threads: at most; -1: one a core.
        progress: show a bar of registered images; the global mapper poses all at once and has none.
        mapper: one of `MAPPERS`.

    Returns:
        `pycolmap.Reconstruction`s, that of the most images first (its folder is not always 0); a model without an image
        of its own, which a bad beginning leaves, is not among them. None where no two images have enough matches.

    Raises:
        S2LDError: no pycolmap, or one without this mapper, no database, or the output cannot be written.
    """
    pycolmap = load_pycolmap()
    if mapper == "global" and not hasattr(pycolmap, "global_mapping"):
        raise S2LDError(f"pycolmap {pycolmap.__version__} has no global mapper; pip install --upgrade pycolmap")
    if not database.is_file():
        raise S2LDError(f"{database}: no such COLMAP database; match the photographs first")
    make_folder(output)
    pycolmap.set_random_seed(seed)
    with colmap_errors(output, *FAILURE):
        total = count_images(database)
    show = progress and mapper == "incremental"
    with (
        Progress(total=total, desc="mapping", unit="image", disable=not show) as bar,
        colmap_errors(output, *FAILURE),
    ):
        if mapper == "global":
            models = _map_globally(pycolmap, database, images, output, seed, threads, total)
        else:
            models = pycolmap.incremental_mapping(
                database,
                images,
                output,
                mapping_options(seed, threads, total),
                initial_image_pair_callback=lambda: bar.update(2),
                next_image_callback=lambda: bar.update(1),
            )
    return _with_images_of_their_own(sorted(models.values(), key=lambda model: -model.num_reg_images()))


def _map_globally(
    pycolmap: Any, database: Path, images: Path, output: Path, seed: int, threads: int, total: int
) -> dict[int, Any]:
    """Map by GLOMAP (Pan et al., ECCV 2024), which needs focal lengths: those unknown come from the pairs."""
    own = output / "global.db"
    refuse_full_disk(own, database.stat().st_size)
    shutil.copy(database, own)
    calibration, options = pycolmap.ViewGraphCalibrationOptions(), pycolmap.GlobalPipelineOptions()
    calibration.random_seed = options.random_seed = options.mapper.random_seed = seed
    options.num_threads = options.mapper.num_threads = threads
    options.min_model_size = min(LEAST_MODEL, total)
    if not _focals_known(pycolmap, own):
        pycolmap.calibrate_view_graph(own, calibration)
    models: dict[int, Any] = pycolmap.global_mapping(own, images, output, options)
    own.unlink()
    return models


def _focals_known(pycolmap: Any, database: Path) -> bool:
    opened = pycolmap.Database.open(database)
    try:
        return all(camera.has_prior_focal_length for camera in opened.read_all_cameras())
    finally:
        opened.close()


def _with_images_of_their_own(models: Sequence[Any]) -> list[Any]:
    """Leave out models whose images are all in those before them."""
    kept, seen = [], set[int]()
    for model in models:
        images = set(model.reg_image_ids())
        if not images <= seen:
            kept.append(model)
            seen |= images
    return kept


def mapping_options(seed: int, threads: int, images: int) -> Any:
    """Return COLMAP's default options but for the seed, threads and the smallest model; see `run_mapper`."""
    pycolmap = load_pycolmap()
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = min(LEAST_MODEL, images)
    options.num_threads = options.mapper.num_threads = threads
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    return options


def count_images(database: Path) -> int:
    """Return the number of images in a COLMAP database."""
    pycolmap = load_pycolmap()
    opened = pycolmap.Database.open(database)
    try:
        return int(opened.num_images())
    finally:
        opened.close()
