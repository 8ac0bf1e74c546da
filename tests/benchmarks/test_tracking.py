"""What the benchmark films is what it says, and its numbers are those of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skimage")
from s2ld.benchmarks.tracking import LEAST, MovingPicture, corner_errors, measure
from s2ld.video.tracker import Track, corners_of, outline
from s2ld.video.writing import table_file

MOVING = MovingPicture((160, 120), period=60)
REFERENCE = (144, 108)


def test_the_picture_is_where_its_homography_says_and_hidden_when_told() -> None:
    first, second = MOVING.frames(2, range(1, 2))
    assert first.image.shape == second.image.shape == (120, 160, 3)
    x, y, w = MOVING.homography(0) @ [60, 50, 1]
    colour = MOVING.reference[50, 60].astype(int)
    assert np.abs(first.image[round(y / w), round(x / w)] - colour).max() < 40
    changed = np.abs(first.image.astype(int) - second.image).max(2) > 0
    corners = outline(MOVING.homography(0), REFERENCE)
    assert corners is not None
    (left, top), (right, bottom) = corners.min(0), corners.max(0)
    rows, columns = np.nonzero(changed)
    assert left - 1 <= columns.min() <= columns.max() <= right + 1
    assert top - 1 <= rows.min() <= rows.max() <= bottom + 1
    assert changed.mean() > 0.3


def test_errors_of_a_table_by_hand(tmp_path: Path) -> None:
    true = outline(MOVING.homography(0), REFERENCE)
    assert true is not None
    with table_file(tmp_path / "a.csv") as table:
        table.write(0, Track(REFERENCE, 0.0, true + np.array([3.0, 4.0]), None, 30))
        table.write(1, Track(REFERENCE, 0.1))
    errors = corner_errors(tmp_path / "a.csv", MOVING)
    assert errors[0] == pytest.approx(5.0, abs=1e-3)
    assert np.isnan(errors[1])
    assert np.array_equal(corners_of(REFERENCE)[2], [143, 107])


def test_measure_tells_rate_time_and_errors() -> None:
    rate, cpu, tracked, mean, largest = measure(3, 1, 1, 160, "fp32", MOVING)
    assert (rate.target, rate.at_least) == (LEAST, True)
    assert rate.value is not None
    assert rate.value > 0
    assert cpu.value is not None
    assert cpu.value > 0
    assert tracked.value == 1.0
    assert mean.value is not None
    assert largest.value is not None
    assert mean.value <= largest.value < 1.5
