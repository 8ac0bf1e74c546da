"""Cameras and points of photographs by COLMAP: SIFT, matching, incremental mapping. All of it goes on after a kill.

Features and matches are in COLMAP's database, in which each stage finds what is done already; a finished mapping is a
folder that appears whole.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode as CN

from s2ld.errors import S2LDError
from s2ld.files import make_folder, whole_folder
from s2ld.log import Progress
from s2ld.sfm.mapping.cameras import group_cameras
from s2ld.sfm.mapping.colmap import colmap_errors, load_pycolmap
from s2ld.sfm.mapping.mapper import run_mapper
from s2ld.sfm.mapping.write_model import write_model
from s2ld.sfm.matching.colmap_database import refuse_full_disk, sift_bytes, verification_options, write_database
from s2ld.sfm.matching.pairs import all_pairs
from s2ld.sfm.matching.preselect import alike_pairs, by_scale, coarsest
from s2ld.sfm.photos.copies import WorkingPhoto

DATABASE, SPARSE = "database.db", "sparse"
"""What `map_photos` leaves in its folder: COLMAP's database, and a folder of numbered models."""
IMAGES_A_STEP, PAIRS_A_STEP = 8, 50
"""What a kill loses at most, images or pairs."""
FAILURE = ("COLMAP", "what is done is kept: run the command again, or delete this folder to begin anew")
"""What is told where it fails."""
SUPPORT_PX = 2.0
"""px of the working copies: half of the error at which COLMAP drops an observation."""


def map_photos(
    images: Path, photos: Sequence[WorkingPhoto], folder: Path, config: CN, jobs: int, progress: bool = True
) -> list[Path]:
    """Return the folders of the models of photographs; several where parts of them could not be joined, or none.

    Args:
        images: folder of the working copies.
        photos: the copies.
        folder: for the database and the models.
        config: `build_defaults`, of which SFM and SEED are read.
        jobs: threads.
        progress: show bars.

    Raises:
        S2LDError: pycolmap is not installed, or fails (a full disk, for instance).
    """
    sparse = folder / SPARSE
    if not sparse.is_dir():
        make_folder(folder)
        with colmap_errors(folder, *FAILURE):
            colmap = _Colmap(images, folder, config, jobs, progress)
            colmap.register(photos)
            colmap.extract([photo.name for photo in photos])
            colmap.match([photo.name for photo in photos])
            colmap.map(sparse)
    return sorted((path for path in sparse.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


class _Colmap:
    """The stages of one scene; each skips what the database has."""

    def __init__(self, images: Path, folder: Path, config: CN, jobs: int, progress: bool) -> None:
        self._api = load_pycolmap()
        if not hasattr(self._api, "FeatureExtractionOptions"):
            raise S2LDError(f"pycolmap {self._api.__version__} is too old; pip install --upgrade pycolmap")
        self._api.set_random_seed(config.SEED)
        self._images, self._folder, self._config = images, folder, config
        self._database = folder / DATABASE
        self._jobs, self._progress = jobs, progress

    def register(self, photos: Sequence[WorkingPhoto]) -> None:
        """Enter all images and their cameras, with the focal length by EXIF where it is known."""
        if not self._database.exists():
            groups = group_cameras(photos, self._config.SFM.SHARE_CAMERAS)
            write_database(self._database, [photo.name for photo in photos], groups)

    def extract(self, names: Sequence[str]) -> None:
        """Find SIFT features."""
        ids = self._ids()
        left = [n for n in names if not self._open(lambda database, n=n: database.exists_keypoints(ids[n]))]
        refuse_full_disk(self._database, sift_bytes(len(left), 0, self._config.SFM.FEATURES))
        options = self._api.FeatureExtractionOptions()
        options.use_gpu, options.num_threads = False, self._jobs
        options.sift.max_num_features = self._config.SFM.FEATURES
        with Progress(total=len(names), initial=len(names) - len(left), **self._bar("features", "image")) as bar:
            for step in _steps(left, IMAGES_A_STEP):
                device = self._api.Device.cpu
                mode = self._api.CameraMode.AUTO
                self._api.extract_features(
                    self._database, self._images, step, mode, extraction_options=options, device=device
                )
                bar.update(len(step))

    def match(self, names: Sequence[str]) -> None:
        """Match and verify pairs: all of few photographs, those that look alike of many."""
        ids = self._ids()
        ordered = sorted(names)
        if len(ordered) <= self._config.SFM.EXHAUSTIVE:
            pairs = all_pairs(len(ordered))
        else:
            pairs = alike_pairs(
                len(ordered), lambda i: self._coarsest(ids[ordered[i]]), self._config.SFM.PARTNERS, self._progress
            )
        named = [(ordered[i], ordered[j]) for i, j in pairs]
        left = self._open(lambda d: [(a, b) for a, b in named if not d.exists_two_view_geometry(ids[a], ids[b])])
        refuse_full_disk(self._database, sift_bytes(0, len(left), self._config.SFM.FEATURES))
        matching, verification = self._api.FeatureMatchingOptions(), verification_options(self._config.SEED)
        matching.use_gpu, matching.num_threads = False, self._jobs
        pairing = self._api.ImportedPairingOptions()
        pairing.match_list_path = self._folder / "pairs.txt"
        with Progress(total=len(named), initial=len(named) - len(left), **self._bar("matches", "pair")) as bar:
            for step in _steps(left, PAIRS_A_STEP):
                pairing.match_list_path.write_text("".join(f"{a} {b}\n" for a, b in step))
                self._api.match_image_pairs(self._database, matching, pairing, verification, self._api.Device.cpu)
                bar.update(len(step))

    def map(self, sparse: Path) -> None:
        """Run the incremental mapper; its folder takes its name when all models are in it.

        Where EXIF does not tell all focal lengths it runs from each of SFM.FOCALS and, where the best outcome falls
        into parts, once more from the cameras of the largest; the best outcome is kept. From a focal length that is far
        off it may end in a model whose focal length, distortion and shape are all wrong.
        """
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="mapping-") as scratch:
            models = self._best(Path(scratch))
        with whole_folder(sparse) as new:
            for number, model in enumerate(models):
                write_model(model, new / str(number))

    def _best(self, scratch: Path) -> list[Any]:
        cameras = self._open(lambda database: database.read_all_cameras())
        unknown = [camera for camera in cameras if not camera.has_prior_focal_length]
        outcomes = []
        for number, focal in enumerate(self._config.SFM.FOCALS if unknown else [0.0]):
            for camera in unknown:
                camera.focal_length = focal * max(camera.width, camera.height)
            outcomes.append(self._mapped(scratch / f"from{number}", unknown))
        best = max(outcomes, key=_total_support)
        if unknown and len(best) > 1:
            found = best[0].cameras
            parts = [found[camera.camera_id] for camera in unknown if camera.camera_id in found]
            best = max(best, self._mapped(scratch / "again", parts), key=_total_support)
        return best

    def _mapped(self, output: Path, cameras: Sequence[Any]) -> list[Any]:
        """Return the models from a copy of the database with other cameras."""
        path = output.with_suffix(".db")
        refuse_full_disk(path, self._database.stat().st_size)
        shutil.copy(self._database, path)
        database = self._api.Database.open(path)
        for camera in cameras:
            database.update_camera(camera)
        database.close()
        models = run_mapper(path, self._images, output, self._config.SEED, self._jobs, self._progress)
        path.unlink()
        return models

    def _coarsest(self, image: int) -> Any:
        keypoints, descriptors = self._open(lambda d: (d.read_keypoints(image), d.read_descriptors(image).data))
        order = by_scale(keypoints)
        return coarsest(keypoints[order, :2], descriptors[order])[1]

    def _ids(self) -> dict[str, int]:
        return {image.name: image.image_id for image in self._open(lambda database: database.read_all_images())}

    def _open(self, use: Any) -> Any:
        database = self._api.Database.open(self._database)
        try:
            return use(database)
        finally:
            database.close()

    def _bar(self, title: str, unit: str) -> dict[str, Any]:
        return {"desc": title, "unit": unit, "disable": not self._progress}


def support(model: Any) -> float:
    """Return how much speaks for a `pycolmap.Reconstruction`: its observations, those of a small error more.

    As in MSAC (Torr and Zisserman, 2000): ``1 - (e / SUPPORT_PX)^2`` each, nothing beyond. e is the mean error of the
    observation's point. Their number alone would do no good: a wrong model keeps many, each a little off.
    """
    model.update_point_3d_errors()
    points = [(point.track.length(), point.error) for point in model.points3D.values()]
    return float(sum(length * max(0.0, 1 - (error / SUPPORT_PX) ** 2) for length, error in points))


def _total_support(models: Sequence[Any]) -> float:
    return sum(map(support, models))


def _steps(values: Sequence[Any], length: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), length):
        yield list(values[start : start + length])
