"""A COLMAP database with cameras, keypoints, matches and the two-view geometries that pycolmap verifies."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from s2ld.errors import S2LDError, one_line
from s2ld.files import make_folder, whole_file
from s2ld.sfm.mapping.cameras import MODEL, CameraGroup, colmap_camera
from s2ld.sfm.mapping.colmap import load_pycolmap
from s2ld.sfm.matching.storage.tables import FolderMatches

DATABASE_BYTES = 2**21
"""Of an empty database with SQLite's own files beside it, rounded up."""
WRITTEN_TWICE = 3
"""SQLite's log holds what is written a second time; a margin on top."""
SIFT_FEATURES = 8192
"""Of an image at most, COLMAP's default."""
Item = TypeVar("Item")
BATCH = 1000
"""Images, or pairs, that are written at once."""
HALF = 0.5
"""COLMAP's pixel centres lie at halves, ours and hloc's at integers."""


def write_database(
    path: Path,
    names: Sequence[str],
    cameras: Sequence[CameraGroup],
    matches: FolderMatches | None = None,
    seed: int = 0,
    model: str = MODEL,
    ids: Sequence[int] | None = None,
) -> None:
    """Write a database; with matches, each pair's two-view geometry is verified (RANSAC, COLMAP's defaults).

    Args:
        path: of the database; one that is there is replaced when the new one is whole.
        names: of the images.
        cameras: groups of them, with ids 1, 2 and so on.
        matches: of the images; None leaves keypoints to others.
        seed: of RANSAC.
        model: of the cameras, a name that COLMAP knows.
        ids: of the images; None: 1, 2 and so on.

    Raises:
        S2LDError: no pycolmap, or the file cannot be written.
    """
    pycolmap, ids = load_pycolmap(), ids or range(1, len(names) + 1)
    refuse_full_disk(path, _bytes(matches))
    with whole_file(path) as part, database_errors(path, part):
        remove_database(part)
        database = pycolmap.Database.open(part)
        try:
            with pycolmap.DatabaseTransaction(database):
                _write_images(pycolmap, database, names, ids, cameras, model)
            if matches is not None:
                _write_matches(pycolmap, database, ids, matches)
        finally:
            database.close()
        if matches is not None:
            pycolmap.set_random_seed(seed)
            pycolmap.geometric_verification(part, two_view_geometry_options=verification_options(seed))


def refuse_full_disk(path: Path, content: int) -> None:
    """Raise where a database would not fit: SQLite, inside COLMAP, ends the process by a signal on a full disk.

    Args:
        path: of the database; its folder is made.
        content: bytes that are to be written to it.

    Raises:
        S2LDError: there is no room.
    """
    make_folder(path.parent)
    needed = DATABASE_BYTES + WRITTEN_TWICE * content
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise S2LDError(
            f"{path}: needs about {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} are free; make room and run the "
            "same command, which goes on from there"
        )


def sift_bytes(images: int, pairs: int, features: int = SIFT_FEATURES) -> int:
    """Return what SIFT writes at most: descriptors of 128 bytes and keypoints of 24; a tenth of them matched twice."""
    return images * features * 152 + pairs * features // 10 * 16


def _bytes(matches: FolderMatches | None) -> int:
    """Keypoints, matches and their inliers, 8 bytes each."""
    if matches is None:
        return 0
    return 8 * (sum(map(len, matches.keypoints)) + 2 * sum(map(len, matches.pairs.values())))


def remove_database(path: Path) -> None:
    """Delete a database, if there is one, and SQLite's own files beside it: a kill's log would spoil the next one."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def database_errors(path: Path, part: Path) -> Iterator[None]:
    """Turn what COLMAP raises, without a class of its own, into one line; what was written goes."""
    try:
        yield
    except RuntimeError as error:
        remove_database(part)
        raise S2LDError(f"{path}: COLMAP cannot write this database ({one_line(error)}); is the disk full?") from error


def verification_options(seed: int) -> Any:
    """Return COLMAP's default options of two-view geometries, with a seed."""
    options = load_pycolmap().TwoViewGeometryOptions()
    options.ransac.random_seed = seed
    return options


def _write_images(
    pycolmap: Any, database: Any, names: Sequence[str], ids: Sequence[int], cameras: Sequence[CameraGroup], model: str
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
    for index, (name, image_id) in enumerate(zip(names, ids, strict=True)):
        image = pycolmap.Image(name=name, camera_id=camera_of[index], image_id=image_id)
        database.write_image(image, use_image_id=True)
        frame = pycolmap.Frame(frame_id=image_id, rig_id=camera_of[index])
        frame.add_data_id(image.data_id)
        database.write_frame(frame, use_frame_id=True)


def _write_matches(pycolmap: Any, database: Any, ids: Sequence[int], matches: FolderMatches) -> None:
    """In batches: what a transaction has changed is held until its end."""
    for batch in _batches(zip(ids, matches.keypoints, strict=True)):
        with pycolmap.DatabaseTransaction(database):
            for image, keypoints in batch:
                database.write_keypoints(image, keypoints.astype(np.float32) + np.float32(HALF))
    for pairs in _batches(matches.pairs.items()):
        with pycolmap.DatabaseTransaction(database):
            for (i, j), found in pairs:
                if len(found.indices):
                    database.write_matches(ids[i], ids[j], found.indices.astype(np.uint32))


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch
