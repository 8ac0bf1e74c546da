from pathlib import Path

import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.sfm.mapping.mapper import _with_images_of_their_own, run_mapper

pycolmap = pytest.importorskip("pycolmap")


def synthesize(path: Path, frames: int, seed: int) -> object:
    """Write a COLMAP database of one place seen by `frames` images, and return the truth."""
    pycolmap.set_random_seed(seed)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig = frames, 1
    options.num_points3D = 150
    database = pycolmap.Database.open(path)
    truth = pycolmap.synthesize_dataset(options, database)
    database.close()
    return truth


def test_a_model_is_that_of_the_truth(tmp_path: Path) -> None:
    truth = synthesize(tmp_path / "database.db", 5, 1)
    (model,) = run_mapper(tmp_path / "database.db", tmp_path, tmp_path / "sparse", threads=1, progress=False)
    assert model.num_reg_images() == 5
    found = pycolmap.align_reconstructions_via_proj_centers(model, truth, 0.1)
    errors = [
        np.linalg.norm(found * image.projection_center() - truth.images[index].projection_center())
        for index, image in model.images.items()
    ]
    assert max(errors) < 1e-3
    assert model.compute_mean_reprojection_error() < 0.1


def test_two_places_give_two_models_the_larger_first(tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.db" for k in range(3)]
    for path, frames in zip(paths, (3, 5), strict=False):
        synthesize(path, frames, frames)
    databases = [pycolmap.Database.open(path) for path in paths]
    for k, database in enumerate(databases[:2]):
        for image in database.read_all_images():
            image.name = f"place{k}/{image.name}"
            database.update_image(image)
    pycolmap.Database.merge(*databases)
    for database in databases:
        database.close()
    models = run_mapper(paths[2], tmp_path, tmp_path / "sparse", threads=1, progress=False)
    assert [model.num_reg_images() for model in models] == [5, 3]
    for model, place in zip(models, ("place1", "place0"), strict=True):
        assert {image.name.split("/")[0] for image in model.images.values()} == {place}


def test_a_model_of_images_that_are_in_larger_ones_is_left_out() -> None:
    class Model:
        def __init__(self, *images: int) -> None:
            self.reg_image_ids = lambda: list(images)

    models = [Model(1, 2, 3, 4), Model(5, 6, 4), Model(2, 5), Model(7, 1)]
    assert _with_images_of_their_own(models) == [models[0], models[1], models[3]]


def test_no_matches_are_no_model_and_no_database_is_one_line(tmp_path: Path) -> None:
    pycolmap.Database.open(tmp_path / "empty.db").close()
    assert run_mapper(tmp_path / "empty.db", tmp_path, tmp_path / "sparse", progress=False) == []
    with pytest.raises(S2LDError, match="no such COLMAP database"):
        run_mapper(tmp_path / "missing.db", tmp_path, tmp_path / "sparse", progress=False)
