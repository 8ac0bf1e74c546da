"""Models are written whole or not at all: pycolmap does not notice that a disk is full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from full_disk import largest_file

from s2ld.errors import S2LDError
from s2ld.sfm.dataset.settings import build_settings
from s2ld.sfm.mapping import pipeline as mapping
from s2ld.sfm.mapping import reconstruction
from s2ld.sfm.mapping.mapper import run_mapper
from s2ld.sfm.mapping.pipeline import map_photos
from s2ld.sfm.mapping.read_model import read_model
from s2ld.sfm.mapping.reconstruction import reconstruct
from s2ld.sfm.mapping.write_model import write_model, write_points

pycolmap = pytest.importorskip("pycolmap")


@pytest.fixture(scope="module")
def model() -> Any:
    """Two cameras on each of two rigs."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 2, 3
    options.num_points3D = 40
    return pycolmap.synthesize_dataset(options)


def test_whatever_file_is_cut_is_noticed(model: Any, tmp_path: Path) -> None:
    write_model(model, tmp_path)
    write_points(model, tmp_path / "points.ply")
    assert len(read_model(tmp_path).images) == 12
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin", "points.ply"}
    for name, size in sizes.items():
        writer = write_points if name.endswith("ply") else write_model
        place = tmp_path / name if name.endswith("ply") else tmp_path
        for room in (0, 1, size // 2, size - 1):
            with (
                pytest.raises(OSError, match=r"(ends too early|too many); \d+ MiB are free"),
                largest_file(room),
            ):
                writer(model, place)
        with largest_file(max(sizes.values())):
            writer(model, place)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["rigs", "frames", "cameras", "images", "points3D", "points.ply"])
def test_one_cut_file_leaves_the_earlier_model(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Cut:
        def write_binary(self, folder: Path) -> None:
            model.write_binary(folder)
            if name != "points.ply":
                cut(folder / f"{name}.bin")

        def export_PLY(self, path: Path) -> None:  # noqa: N802 (pycolmap's)
            model.export_PLY(path)
            if name == "points.ply":
                cut(path)

    models = [model]
    monkeypatch.setattr(reconstruction, "run_mapper", lambda *_: models)
    reconstruct(tmp_path / "database.db", tmp_path, tmp_path, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    assert len(before) == 6
    models.append(Cut())
    words = rf"sparse: cannot write this folder \({name}.* ends too early; .* choose another"
    with pytest.raises(S2LDError, match=words):
        reconstruct(tmp_path / "database.db", tmp_path, tmp_path, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_a_cut_mapping_does_not_count_as_finished(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping._Colmap, "register", lambda self, photos: None)
    monkeypatch.setattr(mapping._Colmap, "extract", lambda self, names: None)
    monkeypatch.setattr(mapping._Colmap, "match", lambda self, names: None)
    monkeypatch.setattr(mapping._Colmap, "_best", lambda self, scratch: [model])

    def run() -> list[Path]:
        return map_photos(tmp_path, [], tmp_path, build_settings([], []), 1, progress=False)

    with pytest.raises(S2LDError, match="sparse: cannot write this folder"), largest_file(100):
        run()
    assert not list(tmp_path.iterdir())
    assert len(read_model(run()[0]).images) == 12


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "database.db").write_bytes(b"no database" * 100)
    with pytest.raises(S2LDError, match=r"COLMAP's mapper failed .* MiB are free") as refused:
        run_mapper(tmp_path / "database.db", tmp_path, tmp_path / "out", progress=False)
    assert "\n" not in str(refused.value)
