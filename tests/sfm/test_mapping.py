"""Mapping from several focal lengths where EXIF tells none: which outcome is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s2ld.export.colmap import write_database
from s2ld.sfm import mapping
from s2ld.sfm.cameras import CameraGroup
from s2ld.sfm.mapping import DATABASE, map_photos, support
from s2ld.sfm.settings import build_settings

pycolmap = pytest.importorskip("pycolmap")


@dataclass
class Model:
    """A model of points with a track length and an error each."""

    points: list[tuple[int, float]]
    name: str = ""

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


@pytest.mark.parametrize("told", [True, False])
def test_the_best_of_several_focal_lengths_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    tried = []

    def run(database: Path, images: Path, output: Path, seed: int, threads: int, progress: bool) -> list[Model]:
        opened = pycolmap.Database.open(database)
        tried.append([round(camera.focal_length, 6) for camera in opened.read_all_cameras()])
        opened.close()
        focal = tried[-1][0]
        return [Model([(3, abs(focal - 600) / 500)], f"f{focal:g}"), Model([(2, 0.5)], "part")]

    monkeypatch.setattr(mapping, "run_mapper", run)
    monkeypatch.setattr(mapping._Colmap, "extract", lambda self, names: None)
    monkeypatch.setattr(mapping._Colmap, "match", lambda self, names: None)
    groups = [CameraGroup([0], (1000, 500), 700.0 if told else None), CameraGroup([1], (800, 600), 900.0)]
    write_database(tmp_path / DATABASE, ["a.jpg", "b.jpg"], groups)
    config = build_settings([], ["SFM.FOCALS", "[1.2, 0.5, 2.0]"])
    folders = map_photos(tmp_path, [], tmp_path, config, 1, progress=False)
    assert tried == ([[700, 900]] if told else [[1200, 900], [500, 900], [2000, 900]])
    assert [(folder / "name").read_text() for folder in folders] == ["f700" if told else "f500", "part"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [DATABASE, "sparse"]  # nothing else is left
