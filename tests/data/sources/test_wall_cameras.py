"""Cameras of large changes: their ranges, how these grow, and that the views overlap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from s2ld.config import CN, build_config
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.sources.wall_cameras import WallCamera, draw_cameras, wall_overlap, wide_ranges

SIZE, PHOTO = (96, 64), (400, 300)


def data_config(*overrides: str) -> CN:
    wide = ["DATA.HOMOGRAPHY.WIDE", "True", "DATA.HOMOGRAPHY.TILT", "60.0", "DATA.HOMOGRAPHY.ZOOM", "[0.25, 1.0]"]
    wide += ["DATA.HOMOGRAPHY.OVERLAP", "[0.5, 1.0]", "DATA.PHOTOMETRIC.ENABLED", "False"]
    return build_config(overrides=["DATA.IMAGE_SIZE", str(list(SIZE)), *wide, *overrides]).DATA


def tilt(camera: WallCamera) -> float:
    return float(np.degrees(np.arccos(camera.R[2, 2])))


def texture_px(camera: WallCamera) -> float:
    """Texture px that a px covers where the camera looks at, across the tilt."""
    centre = -camera.R.T @ camera.t
    return float(-centre[2] / camera.R[2, 2] / camera.K[0, 0])


def roll(camera: WallCamera) -> float:
    """In-plane rotation against a camera of no roll: the angle of the wall's x axis that is kept level by it."""
    z = camera.R[2]
    x = np.array([1.0, 0, 0]) - z[0] * z
    x /= np.linalg.norm(x)
    return float(np.degrees(np.arctan2(camera.R[0] @ np.cross(z, x), camera.R[0] @ x)))


def test_ranges_grow_with_the_number_of_pairs_and_end() -> None:
    node = data_config("DATA.HOMOGRAPHY.CURRICULUM", "1000").HOMOGRAPHY
    ranges = [wide_ranges(node, drawn) for drawn in (0, 1, 250, 500, 999, 1000, 10**9)]
    assert (ranges[0].tilt, ranges[0].zoom[1], ranges[0].turn) == (35.0, 1.0, 26.0)
    assert ranges[0].zoom[0] == pytest.approx(0.5)
    for before, after in pairwise(ranges):
        assert before.tilt <= after.tilt
        assert before.zoom[0] >= after.zoom[0]
        assert before.turn <= after.turn
    assert ranges[3].tilt == 47.5
    assert ranges[3].zoom[0] == pytest.approx(np.sqrt(0.5 * 0.25))
    full = wide_ranges(node)
    assert ranges[-1] == ranges[-2] == full
    assert (full.tilt, full.turn) == (60.0, 45.0)
    assert full.zoom == (pytest.approx(0.25), 1.0)
    assert wide_ranges(data_config().HOMOGRAPHY, 0) == full


def test_all_of_the_ranges_is_drawn_evenly_and_the_views_overlap() -> None:
    config = data_config()
    pairs = [draw_cameras(*PHOTO, config, np.random.default_rng(seed)) for seed in range(300)]
    view = np.array(SIZE, np.float64)
    overlaps = [max(wall_overlap(a, b, view, *PHOTO), wall_overlap(b, a, view, *PHOTO)) for a, b in pairs]
    assert np.mean([overlap >= 0.5 for overlap in overlaps]) > 0.97
    tilts = np.array([max(tilt(a), tilt(b)) for a, b in pairs])
    assert tilts.max() <= 60.01
    assert np.mean(tilts > 45) > 0.2
    zooms = np.array([abs(np.log2(texture_px(a) / texture_px(b))) for a, b in pairs])
    assert zooms.max() <= 2.001
    assert np.histogram(zooms, 4, (0, 2.001))[0].min() > 50
    turns = np.array([(roll(b) - roll(a) + 180) % 360 - 180 for a, b in pairs])
    assert np.abs(turns).max() <= 45.01
    assert np.histogram(turns, 4, (-45.01, 45.01))[0].min() > 50


def test_training_begins_with_small_changes_and_validation_has_all_of_them() -> None:
    config = data_config("DATA.HOMOGRAPHY.CURRICULUM", "100000")
    growing, full = (HomographyPairs(config, 0, 200000, train=train) for train in (True, False))
    early = [growing[index].T_0to1 for index in range(40)]
    angles = [np.degrees(np.arccos(np.clip((np.trace(T[:3, :3].numpy()) - 1) / 2, -1, 1))) for T in early]
    late = [full[index].T_0to1 for index in range(40)]
    wide = [np.degrees(np.arccos(np.clip((np.trace(T[:3, :3].numpy()) - 1) / 2, -1, 1))) for T in late]
    assert np.mean(angles) < 0.8 * np.mean(wide)
    assert np.array_equal(growing[150000].view0.image, full[150000].view0.image)
