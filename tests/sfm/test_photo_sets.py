"""Which folders of photographs are scenes of their own, with a model that is there and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.sfm.dataset.build import find_sets


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder for each of two cameras, or scenes."""
    for name in ("0/a.jpg", "1/deep/b.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    return tmp_path / "photos"


def with_models(folder: Path, *places: str) -> Path:
    for place in places:
        (folder / place).mkdir(parents=True)
        (folder / place / "cameras.txt").write_text("")
    return folder


@pytest.mark.parametrize("places", ["", "sparse", "0", "sparse/0"])
def test_one_model_of_all_folders_is_one_scene(photos: Path, tmp_path: Path, places: str) -> None:
    model = with_models(tmp_path / "model", places)
    assert [found.folder for found in find_sets(photos, False, model)] == [photos]


def test_a_model_for_each_folder_is_a_scene_for_each(photos: Path, tmp_path: Path) -> None:
    folders = [photos / "0", photos / "1"]
    for model in (None, tmp_path / "none", with_models(tmp_path / "model", "0", "1/sparse/0")):
        assert [found.folder for found in find_sets(photos, False, model)] == folders
    assert [found.folder for found in find_sets(photos, True, tmp_path / "model")] == [photos]
