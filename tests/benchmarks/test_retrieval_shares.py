"""Shares of overlapping pairs that are found: by hand, and pycolmap's tree on pictures with something in common."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.benchmarks.retrieval_shares import TruePairs, join_scenes, most_overlapping, share_found, tree_pairs
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.errors import S2LDError
from s2ld.sfm.photos.usable import find_photos


def scene(root: Path, name: str, overlaps: dict[tuple[int, int], float], images: int = 4) -> None:
    """Write an index with these overlaps, and its photographs."""
    random = np.random.default_rng(ord(name))
    paths = [f"{name}/images/{i}.jpg" for i in range(images)]
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), random.integers(0, 255, (64, 80, 3), np.uint8))
    cameras, poses = np.tile(np.eye(3), (images, 1, 1)), np.tile(np.eye(4), (images, 1, 1))
    pairs, values = np.array(list(overlaps)), np.array(list(overlaps.values()), np.float32)
    index = SceneIndex(name, np.array(paths), np.array([""] * images), cameras, poses, pairs, values)
    write_index(index, root / f"index/{name}.npz")


def test_scenes_are_joined_and_shares_counted(tmp_path: Path) -> None:
    scene(tmp_path / "data", "a", {(1, 0): 0.9, (0, 2): 0.2, (2, 3): 0.5})
    scene(tmp_path / "data", "b", {(0, 1): 0.1})
    scene(tmp_path / "else", "c", {(0, 1): 0.1})
    other = tmp_path / "else/c/images"
    for _ in range(2):  # again, with the links there
        first, second = join_scenes([tmp_path / "data"], [other], tmp_path / "out", 0.3)
    assert first.overlap == pytest.approx({("a/0.jpg", "a/1.jpg"): 0.9, ("a/2.jpg", "a/3.jpg"): 0.5})
    assert second.overlap == {}
    folder = find_photos(tmp_path / "out", progress=False)
    assert [photo.name for photo in folder.photos] == [f"{s}/{i}.jpg" for s in ("a", "b", "images") for i in range(4)]
    assert share_found({("a/0.jpg", "a/1.jpg"), ("a/0.jpg", "a/3.jpg")}, first) == 0.5
    assert np.isnan(share_found(set(), second))
    (tmp_path / "data/b/images/3.jpg").unlink()
    with pytest.raises(S2LDError, match=r"b/images/3\.jpg: no such photograph"):
        join_scenes([tmp_path / "data"], [], tmp_path / "new", 0.3)


def test_the_most_overlapping_partners() -> None:
    true = TruePairs("a", {("0", "1"): 0.9, ("0", "2"): 0.8, ("1", "2"): 0.7, ("0", "3"): 0.6})
    assert most_overlapping(true, 1) == {("0", "1"), ("0", "2"), ("0", "3")}
    assert most_overlapping(true, 9) == set(true.overlap)


def test_pycolmaps_tree_finds_what_overlaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for place in range(2):
        wall = cv2.resize(random.integers(0, 255, (40, 60), np.uint8), (480, 320), interpolation=cv2.INTER_CUBIC)
        for view in range(2):
            cv2.imwrite(str(tmp_path / f"photos/{view}{place}.png"), wall[20 * view :, 30 * view : 30 * view + 400])
    folder = find_photos(tmp_path / "photos", progress=False)
    assert tree_pairs(folder, tmp_path, 1, 0, 1) == [(0, 2), (1, 3)]
    monkeypatch.delattr(pycolmap, "extract_features")  # features are there
    assert tree_pairs(folder, tmp_path, 1, 0, 1) == [(0, 2), (1, 3)]
