"""A COLMAP database with cameras, keypoints, matches and the two-view geometries that pycolmap verifies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2ld.files import whole_file
from s2ld.sfm.cameras import MODEL, CameraGroup, colmap_camera
from s2ld.sfm.colmap import load_pycolmap
from s2ld.sfm.identity import FolderMatches

HALF = 0.5
"""COLMAP's pixel centres lie at halves, ours and hloc's at integers."""


def write_database(
    path: Path,
    names: Sequence[str],
    cameras: Sequence[CameraGroup],
    matches: FolderMatches | None = None,
    seed: int = 0,
    model: str = MODEL,
) -> None:
    """Write a database; with matches, each pair's two-view geometry is verified (RANSAC, COLMAP's defaults).

    Args:
        path: of the database; one that is there is replaced when the new one is whole.
        names: of the images, whose ids are 1, 2 and so on.
        cameras: groups of them, with ids 1, 2 and so on.
        matches: of the images; None leaves keypoints to others.
        seed: of RANSAC.
        model: of the cameras, a name that COLMAP knows.

    Raises:
        S2LDError: no pycolmap, or the file cannot be written.
    """
    pycolmap = load_pycolmap()
    with whole_file(path) as part:
        part.unlink(missing_ok=True)
        database = pycolmap.Database.open(part)
        try:
            with pycolmap.DatabaseTransaction(database):
                _write_images(pycolmap, database, names, cameras, model)
                if matches is not None:
                    _write_matches(database, matches)
        finally:
            database.close()
        if matches is not None:
            pycolmap.set_random_seed(seed)
            pycolmap.geometric_verification(part, two_view_geometry_options=verification_options(seed))


def verification_options(seed: int) -> Any:
    """Return COLMAP's default options of two-view geometries, with a seed."""
    options = load_pycolmap().TwoViewGeometryOptions()
    options.ransac.random_seed = seed
    return options


def _write_images(
    pycolmap: Any, database: Any, names: Sequence[str], cameras: Sequence[CameraGroup], model: str
) -> None:
    """Each camera is a rig of its own, each image a frame, as COLMAP does for cameras that are not mounted together."""
    camera_of: dict[int, int] = {}
    for number, group in enumerate(cameras, 1):
        camera = colmap_camera(group, number, model)
        database.write_camera(camera, use_camera_id=True)
        rig = pycolmap.Rig(rig_id=number)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        camera_of |= dict.fromkeys(group.members, number)
    for index, name in enumerate(names):
        image = pycolmap.Image(name=name, camera_id=camera_of[index], image_id=index + 1)
        database.write_image(image, use_image_id=True)
        frame = pycolmap.Frame(frame_id=index + 1, rig_id=camera_of[index])
        frame.add_data_id(image.data_id)
        database.write_frame(frame, use_frame_id=True)


def _write_matches(database: Any, matches: FolderMatches) -> None:
    for index, keypoints in enumerate(matches.keypoints):
        database.write_keypoints(index + 1, keypoints.astype(np.float32) + np.float32(HALF))
    for (i, j), found in matches.pairs.items():
        if len(found.indices):
            database.write_matches(i + 1, j + 1, found.indices.astype(np.uint32))
