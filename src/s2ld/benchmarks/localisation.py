"""How exactly photographs that were held out of a reconstruction are localised in it, beside SIFT by the same tools."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.data.index.files import SceneIndex
from s2ld.errors import S2LDError
from s2ld.files import make_folder
from s2ld.sfm.dataset.compare import LEAST_COMMON, align, camera_centres
from s2ld.sfm.localize.absolute_pose import Sightings, estimate_pose
from s2ld.sfm.localize.localizer import LEAST_INLIERS
from s2ld.sfm.mapping.colmap import load_pycolmap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LocalisationErrors:
    """Of the held-out photographs that were localised; the model is moved onto the truth by a similarity."""

    degrees: Array
    """(n,) between the rotations."""
    position: Array
    """(n,) distance of the camera centres over the largest distance between two of the scene."""
    held_out: int
    """Photographs that were to be localised."""


def hold_out(scene: SceneIndex, root: Path, leave: int, folder: Path) -> tuple[Path, list[Path]]:
    """Link a scene's photographs into two folders, those held out evenly spread among the others by name.

    Args:
        scene: its index.
        root: folder to which its paths belong.
        leave: photographs that are held out.
        folder: to write to.

    Returns:
        The folder of the others, and the files that are held out.

    Raises:
        S2LDError: too few photographs, one is missing, or a link cannot be made.
    """
    paths = sorted(root / path for path in scene.image_paths.tolist())
    if len(paths) < leave + LEAST_COMMON:
        raise S2LDError(f"{scene.name}: {len(paths)} photographs; {leave} held out leave less than {LEAST_COMMON}")
    step = len(paths) / leave
    chosen = {int((number + 0.5) * step) for number in range(leave)}
    places = {True: folder / "held_out", False: folder / "photos"}
    for place in places.values():
        make_folder(place)
    for row, path in enumerate(paths):
        if not path.is_file():
            raise S2LDError(f"{path}: no such photograph; the index belongs to other data")
        link = places[row in chosen] / path.name
        if not link.exists():
            link.symlink_to(path.resolve())
    return places[False], sorted(places[True] / paths[row].name for row in chosen)


def errors_of(model: Any, scene: SceneIndex, found: Mapping[str, Array], held_out: int) -> LocalisationErrors:
    """Compare poses in a model with those of the scene.

    Args:
        model: `pycolmap.Reconstruction` of the other photographs.
        scene: the true poses.
        found: (4, 4) world to camera in the model, by file name.
        held_out: photographs that were to be localised.

    Raises:
        S2LDError: fewer than three photographs are in the model.
    """
    truth = {Path(path).name: pose for path, pose in zip(scene.image_paths.tolist(), scene.poses, strict=True)}
    images = [model.images[index] for index in model.reg_image_ids()]
    if len(images) < LEAST_COMMON:
        raise S2LDError(f"{scene.name}: {len(images)} photographs in the model; {LEAST_COMMON} are needed")
    own = np.stack([_matrix(image) for image in images])
    theirs = np.stack([truth[image.name] for image in images])
    moved = align(camera_centres(own), camera_centres(theirs))
    names = sorted(found)
    poses, true = (np.array([table[name] for name in names]).reshape(-1, 4, 4) for table in (found, truth))
    gaps = moved.apply(camera_centres(poses)) - camera_centres(true)
    turns = true[:, :3, :3].transpose(0, 2, 1) @ poses[:, :3, :3] @ moved.R.T
    angles = np.degrees(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    centres = camera_centres(scene.poses)
    extent = float(np.linalg.norm(centres[:, None] - centres, axis=2).max())
    return LocalisationErrors(angles, np.linalg.norm(gaps, axis=1) / extent, held_out)


def localise_by_sift(
    query: Path, references: Sequence[str], model: Any, database: Path, scratch: Path, max_error: float
) -> Array | None:
    """Return a photograph's pose (4, 4) by pycolmap's SIFT, world to camera; None where too few points agree.

    Args:
        query: its file, upright and of the size of the model's photographs, whose first camera is taken for its own.
        references: names of the photographs that it is matched with.
        model: `pycolmap.Reconstruction` of `database`.
        database: with SIFT features; it is copied.
        scratch: folder for the copy.
        max_error: px.

    Raises:
        S2LDError: no pycolmap.
    """
    pycolmap = load_pycolmap()
    make_folder(scratch)
    own = scratch / "query.db"
    shutil.copy(database, own)
    extraction, matching = pycolmap.FeatureExtractionOptions(), pycolmap.FeatureMatchingOptions()
    extraction.use_gpu = matching.use_gpu = False
    extraction.num_threads = matching.num_threads = 1
    pycolmap.extract_features(own, query.parent, [query.name], extraction_options=extraction)
    pairing = pycolmap.ImportedPairingOptions()
    pairing.match_list_path = str(scratch / "pairs.txt")
    (scratch / "pairs.txt").write_text("".join(f"{query.name} {name}\n" for name in references))
    pycolmap.match_image_pairs(own, matching, pairing)
    opened = pycolmap.Database.open(own)
    by_name = {image.name: image for image in model.images.values() if image.has_pose}
    ids = {image.name: image.image_id for image in opened.read_all_images()}
    points = np.asarray(opened.read_keypoints(ids[query.name]))[:, :2] - 0.5  # COLMAP counts from a pixel's corner
    parts = []
    for name in set(references) & by_name.keys():
        rows = np.asarray(opened.read_matches(ids[query.name], ids[name])).reshape(-1, 2).astype(np.int64)
        seen = [p.point3D_id if p.has_point3D() else -1 for p in by_name[name].points2D]
        numbers = np.array([*seen, -1], np.int64)[rows[:, 1]]
        kept = numbers >= 0
        parts.append(Sightings(points[rows[kept, 0]].astype(np.float64), numbers[kept], np.ones(int(kept.sum()))))
    opened.close()
    sightings = Sightings.joined(parts).once(max_error / 2)
    camera = model.cameras[min(model.cameras)]
    pose = estimate_pose(sightings, model, camera, "known", max_error)
    return None if pose is None or pose.inliers.sum() < LEAST_INLIERS else pose.matrix


def _matrix(image: Any) -> Array:
    matrix = np.eye(4)
    matrix[:3] = image.cam_from_world().matrix()
    return matrix
