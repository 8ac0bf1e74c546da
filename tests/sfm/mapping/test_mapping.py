"""Mapping from several focal lengths where EXIF tells none: which outcome is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from s2ld.sfm.dataset.build import corner_stretch
from s2ld.sfm.dataset.settings import build_settings
from s2ld.sfm.mapping import pipeline as mapping
from s2ld.sfm.mapping.camera_models import ColmapCamera
from s2ld.sfm.mapping.cameras import CameraGroup
from s2ld.sfm.mapping.pipeline import DATABASE, map_photos, support
from s2ld.sfm.mapping.read_model import ColmapImage, ColmapModel
from s2ld.sfm.matching.colmap_database import write_database

pycolmap = pytest.importorskip("pycolmap")


@dataclass
class Model:
    """A model of points with a track length and an error each."""

    points: list[tuple[int, float]]
    name: str = ""
    cameras: dict[int, Any] = field(default_factory=dict)

    def update_point_3d_errors(self) -> None:
        pass

    @property
    def points3D(self) -> dict[int, Any]:  # noqa: N802
        tracks = (SimpleNamespace(track=SimpleNamespace(length=lambda n=n: n), error=e) for n, e in self.points)
        return dict(enumerate(tracks))

    def write_binary(self, folder: Path) -> None:
        (folder / "name").write_text(self.name)


def test_support_counts_observations_less_where_they_are_off() -> None:
    assert support(Model([])) == 0
    assert support(Model([(3, 0.0), (2, 1.0), (9, 2.0), (9, 3.0)])) == pytest.approx(3 + 2 * 0.75)
    many_off, fewer = Model([(3, 1.6)] * 100), Model([(3, 0.5)] * 50)
    assert support(fewer) > support(many_off)


def write(model: Model, folder: Path) -> None:
    folder.mkdir()
    model.write_binary(folder)


@pytest.mark.parametrize(("told", "in_one_part"), [(True, True), (False, True), (False, False)])
def test_the_best_of_several_focal_lengths_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool, in_one_part: bool
) -> None:
    tried = []

    def run(database: Path, images: Path, output: Path, seed: int, threads: int, progress: bool) -> list[Model]:
        opened = pycolmap.Database.open(database)
        tried.append([round(camera.focal_length, 6) for camera in opened.read_all_cameras()])
        opened.close()
        focal = tried[-1][0]
        whole = Model([(3, abs(focal - 600) / 500)], f"f{focal:g}")
        whole.cameras = {2: pycolmap.Camera.create_from_model_name(2, "SIMPLE_RADIAL", 777.0, 800, 600)}
        return [whole, Model([(2, 0.5)], "part")][: 1 if in_one_part else 2]

    monkeypatch.setattr(mapping, "run_mapper", run)
    monkeypatch.setattr(mapping, "write_model", write)
    monkeypatch.setattr(mapping._Colmap, "extract", lambda self, names: None)
    monkeypatch.setattr(mapping._Colmap, "match", lambda self, names: None)
    groups = [
        CameraGroup([0], (1000, 500), 700.0 if told else None),
        CameraGroup([1], (800, 600), 900.0 if told else None),
    ]
    write_database(tmp_path / DATABASE, ["a.jpg", "b.jpg"], groups)
    config = build_settings([], ["SFM.FOCALS", "[1.2, 0.5, 2.0]"])
    folders = map_photos(tmp_path, [], tmp_path, config, 1, progress=False)
    if told:
        assert tried == [[700, 900]]
    else:
        again = [[1200, 777]]  # the cameras of the largest part; another one starts as COLMAP would
        assert tried == [[1200, 960], [500, 400], [2000, 1600], *([] if in_one_part else again)]
    names = ["f700" if told else "f500", "part"][: 1 if in_one_part else 2]
    assert [(folder / "name").read_text() for folder in folders] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == [DATABASE, "sparse"]  # nothing else is left


def test_a_camera_that_no_lens_has_is_seen() -> None:
    def model(*cameras: tuple[float, float]) -> ColmapModel:
        made = {
            number: ColmapCamera("SIMPLE_RADIAL", (800, 600), (focal, 400.0, 300.0, k))
            for number, (focal, k) in enumerate(cameras)
        }
        images = [ColmapImage(f"{number}.jpg", number, np.eye(4), np.zeros(0, np.int64)) for number in made]
        return ColmapModel(made, images, np.zeros((1, 3)), np.zeros((1, 3), np.uint8))

    assert corner_stretch(model((500.0, -0.3))) == pytest.approx(0.7)  # the corners are 500 px from the middle
    assert corner_stretch(model((500.0, -0.1), (1000.0, 1.0))) == pytest.approx(1.25)
    assert corner_stretch(model((500.0, 0.0))) == 1
