"""Which folders are scenes, and what the lists, the config and the report say."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from s2ld.config import build_config
from s2ld.data.index.files import SceneIndex, read_index, write_index
from s2ld.errors import S2LDError
from s2ld.sfm.dataset.build import Built, find_sets
from s2ld.sfm.dataset.files import make_split, write_lists, write_report
from s2ld.sfm.dataset.scene import SceneResult, index_file
from s2ld.sfm.dataset.settings import build_settings


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(folder: Path, one_scene: bool = False) -> list[tuple[str, str]]:
    return [(photos.name, photos.folder.name) for photos in find_sets(folder, one_scene)]


def test_a_folder_with_images_is_one_scene(tmp_path: Path) -> None:
    touch(tmp_path / "my place/a.JPG", tmp_path / "my place/more/b.png")
    assert names(tmp_path / "my place") == [("my_place", "my place")]


def test_a_folder_of_folders_is_several(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    touch(root / "a b/x.jpg", root / "a_b/deep/images/y.jpg", root / "notes/z.txt", root / "work/w.jpg")
    touch(root / "readme.md")
    expected = [("a_b", "a b"), ("a_b_2", "a_b"), ("work_photos", "work")]
    assert names(root) == expected
    assert names(root, one_scene=True) == [("photos", "photos")]


def test_images_are_called_after_the_folder_above(tmp_path: Path) -> None:
    touch(tmp_path / "church/images/a.jpg")
    assert names(tmp_path / "church/images") == [("church", "images")]
    with pytest.raises(S2LDError, match="no such folder"):
        find_sets(tmp_path / "nothing", False)


def scene(out: Path, name: str, images: int) -> SceneResult:
    pairs = np.array(list(combinations(range(images), 2)))
    paths = np.array([f"{name}/images/{i}.jpg" for i in range(images)])
    eye = np.tile(np.eye(4), (images, 1, 1))
    sizes = np.tile([600, 800], (images, 1))
    overlap = np.full(len(pairs), 0.5, np.float32)
    index = SceneIndex(name, paths, paths, eye[:, :3, :3], eye, pairs, overlap, None, sizes)
    write_index(index, index_file(out, name))
    return SceneResult(name, images, len(pairs), 0.5, 0.001, (600, 800), [], [])


def test_lists_and_config_of_several_places(tmp_path: Path) -> None:
    scenes = [scene(tmp_path, name, count) for name, count in (("a", 6), ("b", 9), ("c", 5), ("d", 4))]
    built = Built(scenes, [["a"], ["b", "d"], ["c"]], [("a/x.jpg", "broken")])
    split = make_split(tmp_path, built, build_settings([], []))
    assert split.lists["train"] == ["b", "d"]
    write_lists(tmp_path, built, split)
    data = build_config([tmp_path / "dataset.yaml"]).DATA
    assert data.IMAGE_SIZE == [480, 640]
    assert Path(data.MEGADEPTH.SCENES).read_text().split() == ["b", "d"]
    others = [Path(path).read_text().split() for path in (data.MEGADEPTH.VAL_SCENES, data.MEGADEPTH.TEST_SCENES)]
    assert sorted(others) == [["a"], ["c"]]
    report = write_report(tmp_path, built, split)
    assert "the same place: b = d" in report
    assert "a/x.jpg: broken" in report
    assert (tmp_path / "report.txt").read_text() == report + "\n"


def test_images_of_one_place_are_held_out_and_that_is_said(tmp_path: Path) -> None:
    built = Built([scene(tmp_path, "a", 10), scene(tmp_path, "b", 2)], [["a", "b"]], [])
    split = make_split(tmp_path, built, build_settings([], []))
    assert split.lists == {"train": ["a_train", "b"], "val": ["a_val"], "test": ["a_val"]}
    assert "SAME PLACE" in split.note
    assert len(read_index(index_file(tmp_path, "a_train"))) == 28  # of 8 of 10 images
    with pytest.raises(S2LDError, match="too few pairs"):
        make_split(tmp_path, Built([scene(tmp_path, "b", 2)], [["b"]], []), build_settings([], []))
