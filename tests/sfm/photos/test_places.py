"""Scenes of one place are found together, those of unlike places are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.data.images.reading import write_image
from s2ld.data.images.textures import TextureBank
from s2ld.sfm.photos.places import same_places


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Walls photographed obliquely: two scenes of one wall, two of others."""
    folder, bank = tmp_path_factory.mktemp("places"), TextureBank("")
    found: dict[str, list[Path]] = {}
    for name, texture, seed in (("a", 3, 0), ("again", 3, 5), ("b", 7, 0), ("c", 12, 0)):
        wall = cv2.resize(bank.get(texture), (600, 600), interpolation=cv2.INTER_CUBIC)
        rng = np.random.default_rng(seed)
        for view in range(3):
            corners = np.array([[60, 60], [540, 60], [540, 540], [60, 540]], np.float32)
            moved = corners + rng.uniform(-60, 60, (4, 2)).astype(np.float32)
            target = np.array([[0, 0], [400, 0], [400, 400], [0, 400]], np.float32)
            image = cv2.warpPerspective(wall, cv2.getPerspectiveTransform(moved, target), (400, 400))
            path = folder / name / f"{view}.jpg"
            write_image(np.asarray(image, np.uint8), path)
            found.setdefault(name, []).append(path)
    return found


def test_two_scenes_of_one_wall_are_one_place(scenes: dict[str, list[Path]]) -> None:
    assert same_places(scenes, [], 1, progress=False) == [["a", "again"], ["b"], ["c"]]


def test_what_is_known_is_kept(scenes: dict[str, list[Path]]) -> None:
    unlike = {name: scenes[name] for name in ("a", "b", "c")}
    assert same_places(unlike, [("c", "a")], 1, progress=False) == [["a", "c"], ["b"]]
