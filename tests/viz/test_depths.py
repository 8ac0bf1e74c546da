from __future__ import annotations

from pathlib import Path

import numpy as np

from s2ld.data.images.reading import write_image
from s2ld.viz.depths import COLUMNS, SHOWN, TILE, depth_montage, depth_picture


def test_near_is_red_far_is_blue_unknown_is_black() -> None:
    near, far, unknown = depth_picture(np.array([[1.0, 10.0, 0.0]], np.float32), (1.0, 10.0))[0].astype(int)
    assert near[0] > near[2]
    assert far[2] > far[0]
    assert unknown.tolist() == [0, 0, 0]


def test_photographs_of_all_shapes_stand_beside_their_depth(tmp_path: Path) -> None:
    paths, depths = [], []
    for number in range(SHOWN + 2):
        height, width = (40, 60) if number % 2 else (60, 40)
        write_image(np.full((height, width, 3), 200, np.uint8), tmp_path / f"{number}.jpg")
        paths.append(tmp_path / f"{number}.jpg")
        depths.append(np.full((height, width), 1.0 + number, np.float32))
    picture = depth_montage(paths, depths)
    assert picture.shape == (TILE[1] * SHOWN // COLUMNS, 2 * TILE[0] * COLUMNS, 3)
    assert (picture[TILE[1] // 2, TILE[0] // 2] > 190).all()
    assert depth_montage(paths[:1], [np.zeros((60, 40), np.float32)]).shape == (TILE[1], 2 * TILE[0] * COLUMNS, 3)
