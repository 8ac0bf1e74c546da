from pathlib import Path

import pytest

from s2ld.sfm.mapping.cameras import CameraGroup
from s2ld.sfm.matching.colmap_database import write_database

pycolmap = pytest.importorskip("pycolmap")


def test_images_have_the_cameras_of_their_groups(tmp_path: Path) -> None:
    cameras = [CameraGroup([0, 2], (100, 80), None), CameraGroup([1], (64, 64), 50.0)]
    write_database(tmp_path / "database.db", ["a.jpg", "b.jpg", "c.jpg"], cameras)
    database = pycolmap.Database.open(tmp_path / "database.db")
    images, found = database.read_all_images(), database.read_all_cameras()
    database.close()
    assert [(image.name, image.camera_id) for image in images] == [("a.jpg", 1), ("b.jpg", 2), ("c.jpg", 1)]
    assert [(camera.params[0], camera.has_prior_focal_length) for camera in found] == [(120.0, False), (50.0, True)]
    assert [path.name for path in tmp_path.glob("database*")] == ["database.db"]
