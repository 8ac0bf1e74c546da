"""What is drawn into frames, and that the frames themselves stay."""

from __future__ import annotations

import numpy as np
import pytest

from s2ld.viz.tracks import OUTLINE, POINT, draw_outline, draw_overlay, write_corner

CORNERS = np.array([[10.0, 10], [50, 10], [50, 40], [10, 40]])


def grey() -> np.ndarray:
    return np.full((60, 80, 3), 100, np.uint8)


def test_an_outline_and_points_lie_where_they_are() -> None:
    frame = grey()
    drawn = draw_outline(frame, CORNERS, np.array([[30.0, 25.0]]))
    assert (frame == 100).all()
    assert drawn[10, 30].tolist() == list(OUTLINE)
    assert drawn[25, 30].tolist() == list(POINT)
    assert drawn[25, 40].tolist() == drawn[55, 70].tolist() == [100] * 3


def test_an_outline_far_outside_is_cut_off() -> None:
    far = np.array([[-1e9, 30.0], [1e9, 30], [1e9, 1e9], [-1e9, 1e9]])
    assert draw_outline(grey(), far)[30, 40].tolist() == list(OUTLINE)


def test_an_overlay_takes_the_place_of_the_outline() -> None:
    frame = grey()
    picture = np.random.default_rng(0).integers(0, 256, (31, 41, 3), np.uint8)
    drawn = draw_overlay(frame, picture, CORNERS)  # its pixels fall on those of the frame
    assert (frame == 100).all()
    assert np.array_equal(drawn[10:41, 10:51], picture)
    drawn[10:41, 10:51] = 100
    assert np.array_equal(drawn, frame)


@pytest.mark.parametrize("size", [(480, 640), (60, 80), (2, 2)])
def test_text_fits_into_any_frame(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 100, np.uint8)
    drawn = write_corner(frame, "7.1 frames/s  412 inliers")
    assert (frame == 100).all()
    assert drawn.shape == frame.shape
    assert drawn[0, 0].tolist() == [33] * 3
    if size[0] == 480:
        assert drawn.max() > 240
        assert (drawn[100:] == 100).all()
