"""Pictures of matches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.viz.matches import Panel, choose_lines, draw_matches, draw_panels

GREY = np.full((48, 64), 128, np.uint8)
ONE = np.array([[32.0, 24.0]])


def changed(picture: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.abs(picture.astype(int) - without).max(2) > 20).nonzero()


def test_a_match_is_drawn_from_point_to_point() -> None:
    empty = draw_matches(GREY, GREY, ONE[:0], ONE[:0], np.zeros(0))
    drawn = draw_matches(GREY, GREY, ONE, ONE + np.array([0, 10]), np.ones(1))
    y, x = changed(drawn, empty)
    assert empty.shape == drawn.shape
    assert abs(x.min() - 324.5) < 4  # image 0 is enlarged tenfold: (32 + ½) · 10 − ½
    assert abs(x.max() - (648 + 324.5)) < 4  # image 1 lies 8 px to its right
    assert abs((y.max() - y.min()) - 100) < 8


def test_points_outside_do_not_shrink_the_images() -> None:
    empty = draw_matches(GREY, GREY, ONE[:0], ONE[:0], np.zeros(0))
    drawn = draw_matches(GREY, GREY, ONE, ONE + np.array([500, 500]), np.ones(1))
    assert np.array_equal(drawn[40:, :300], empty[40:, :300])


def test_colour_follows_the_value() -> None:
    def colour(value: float) -> np.ndarray:
        panel = Panel(ONE, ONE, np.array([value]), colours="RdYlGn")
        return draw_panels(GREY, GREY, [panel])[24 * 10 + 34 + 5, 324].astype(int)

    red, green = colour(0.0), colour(1.0)
    assert red[0] > red[1] + 60
    assert green[1] > green[0] + 60


def test_lines_are_chosen_evenly_by_rank() -> None:
    values = np.random.default_rng(0).permutation(1000) / 1000
    chosen = choose_lines(values, 11)
    assert np.allclose(values[chosen], np.linspace(0, 0.999, 11), atol=1e-3)
    assert np.array_equal(choose_lines(np.array([0.5, np.nan, 0.1]), 10), [2, 0])
    assert len(choose_lines(np.zeros(0), 5)) == 0


@pytest.mark.parametrize(("shape0", "shape1"), [((1, 1), (3000, 2)), ((2, 3000, 3), (40, 50))])
def test_any_sizes(shape0: tuple[int, ...], shape1: tuple[int, ...]) -> None:
    picture = draw_matches(np.zeros(shape0, np.uint8), np.zeros(shape1, np.uint8), ONE * 0, ONE, np.ones(1))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert max(picture.shape) < 2800


def test_photographs_are_drawn_with_up_to_1200_px() -> None:
    for side, drawn in ((64, 640), (640, 640), (900, 900), (5000, 1200)):
        image = np.zeros((side * 3 // 4, side), np.uint8)
        width = draw_panels(image, image, [Panel(ONE, ONE, np.ones(1), classes=("wrong", "right"))]).shape[1]
        assert abs(width - 2 * drawn - 8 * drawn / 640) <= 1


def test_classes_have_two_colours_and_no_bar() -> None:
    def at(value: float) -> list[int]:
        panel = Panel(ONE, ONE, np.array([value]), classes=("outliers", "inliers"))
        return [int(channel) for channel in draw_panels(GREY, GREY, [panel])[24 * 10 + 34 + 5, 324]]

    (red, _, blue), (red1, _, blue1) = at(0.0), at(1.0)
    assert red > blue + 60
    assert blue1 > red1 + 60


def test_all_matches_are_points_and_some_are_lines() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(5, 40, (300, 2))
    values = np.linspace(0, 1, 300)
    empty = draw_matches(GREY, GREY, ONE[:0], ONE[:0], np.zeros(0))
    gap = [changed(draw_matches(GREY, GREY, points, points, values, max_lines=n), empty) for n in (0, 50, 300)]
    between = [int(((x >= 641) & (x < 647) & (y > 34)).sum()) for y, x in gap]
    assert between[0] == 0
    assert 0 < between[1] < between[2]
    assert all(len(y) > 1000 for y, _ in gap)


def test_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "matches.png"
    picture = draw_matches(GREY, GREY, ONE, ONE, np.ones(1), path, title="one match")
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], picture)
    with pytest.raises(S2LDError, match=r"matches\.docx: cannot write a picture of this kind"):
        draw_matches(GREY, GREY, ONE, ONE, np.ones(1), tmp_path / "matches.docx")
    with pytest.raises(S2LDError, match="cannot write this file"):  # its folder is a file
        draw_matches(GREY, GREY, ONE, ONE, np.ones(1), path / "matches.png")
