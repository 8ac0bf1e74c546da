"""The tracker is a function of what was measured; the filter is the one that its formula says."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from s2ld.video.tracker import REST, SPEED, Smoothing, Track, advance, corners_of, is_plausible, outline

SIZE, FRAME = (200, 100), (320, 240)
DT = 1 / 30


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def run(homographies: list[np.ndarray | None], smoothing: Smoothing) -> list[Track]:
    tracks = [Track(SIZE)]
    for number, H in enumerate(homographies):
        tracks.append(advance(tracks[-1], H, 50, number * DT, FRAME, smoothing))
    return tracks[1:]


def slow_filter(xs: np.ndarray, lag: float) -> np.ndarray:
    """The formula of `Smoothing`, number by number, for corners (T, 4, 2)."""
    s, v, found = xs[0].copy(), (xs[1] - xs[0]) / DT, [xs[0].copy()]
    for number, x in enumerate(xs[1:]):
        a = 1 / (1 + 1 / (2 * math.pi * SPEED * DT)) if number else 0.0
        for k in range(4):
            for c in range(2):
                v[k, c] = v[k, c] + a * ((x[k, c] - s[k, c]) / DT - v[k, c])
        f = REST + math.sqrt(sum(v[k, 0] ** 2 + v[k, 1] ** 2 for k in range(4)) / 4) / (2 * math.pi * lag)
        a = 1 / (1 + 1 / (2 * math.pi * f * DT))
        for k in range(4):
            for c in range(2):
                s[k, c] = s[k, c] + a * (x[k, c] - s[k, c])
        found.append(s.copy())
    return np.array(found)


def test_the_filter_is_its_formula() -> None:
    generator = np.random.default_rng(0)
    steps = [shift(20 + 2 * i + generator.normal(), 30 + generator.normal()) for i in range(12)]
    tracks = run(steps, Smoothing(0.7))
    measured = np.array([outline(H, SIZE) for H in steps])
    assert np.allclose([track.corners for track in tracks], slow_filter(measured, 0.7), atol=1e-9)


@pytest.mark.parametrize("speed", [6.0, 60.0, 600.0])
def test_corners_at_a_steady_speed_fall_behind_by_less_than_the_lag(speed: float) -> None:
    steps = [shift(speed * i * DT, 0) for i in range(200)]
    last = run(steps, Smoothing(0.5))[-1]
    assert last.corners is not None
    assert last.speed is not None
    behind = steps[-1][0, 2] - last.corners[0, 0]
    assert behind == pytest.approx(speed / (2 * math.pi * REST + last.speed[0, 0] / 0.5), rel=1e-6)
    assert 0 < behind < 0.5


def test_a_picture_at_rest_stops_trembling() -> None:
    generator = np.random.default_rng(1)
    steps = [shift(*generator.normal(50, 0.3, 2)) for _ in range(300)]
    raw, smooth = (run(steps, Smoothing(lag))[50:] for lag in (0.0, 0.5))
    tremble = [np.std(np.diff([t.corners for t in tracks], axis=0)) for tracks in (raw, smooth)]  # type: ignore[arg-type]
    assert tremble[1] < 0.4 * tremble[0]
    assert np.allclose(raw[0].corners, outline(steps[50], SIZE))  # type: ignore[arg-type]


def test_lost_is_said_and_smoothing_begins_anew() -> None:
    tracks = run([shift(0, 0), shift(1, 0), None, shift(90, 0)], Smoothing(0.5))
    assert [track.state for track in tracks] == ["tracked", "tracked", "lost", "tracked"]
    assert (tracks[2].homography, tracks[2].inliers) == (None, 0)
    assert tracks[3].corners is not None
    assert np.allclose(tracks[3].corners, corners_of(SIZE) + np.array([90, 0]))


def test_the_homography_takes_the_corners_to_the_corners() -> None:
    H = np.array([[0.9, 0.1, 20], [-0.1, 1.1, 30], [1e-4, 2e-4, 1]])
    (track,) = run([-3 * H], Smoothing())
    assert track.homography is not None
    assert np.allclose(track.homography, H, atol=1e-4)


def test_the_same_measurements_make_the_same_track_and_nothing_is_changed() -> None:
    before = Track(SIZE, 0.0, corners_of(SIZE), np.zeros((4, 2)), 9)
    kept = corners_of(SIZE)
    one, other = (advance(before, shift(3, 4), 50, DT, FRAME, Smoothing()) for _ in range(2))
    assert np.array_equal(one.corners, other.corners)  # type: ignore[arg-type]
    assert np.array_equal(before.corners, kept)  # type: ignore[arg-type]


TURN = np.array([[0.0, -1, 120], [1, 0, 10], [0, 0, 1]])


@pytest.mark.parametrize(
    ("H", "plausible"),
    [
        (TURN, True),
        (shift(-1000, 0), True),  # outside, as a camera that pans sees it
        (np.diag([-1.0, 1, 1]), False),  # mirrored
        (np.diag([0.02, 0.02, 1]), False),  # tiny
        (np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]]), False),  # through infinity
        (np.full((3, 3), np.nan), False),
    ],
)
def test_what_no_flat_picture_looks_like_is_lost(H: np.ndarray, plausible: bool) -> None:
    assert (run([H], Smoothing())[0].state == "tracked") == plausible


def test_a_bow_tie_is_not_plausible() -> None:
    corners = 50.0 * np.array([[0, 0], [1, 1], [1, 0], [0, 1]])
    assert not is_plausible(corners, FRAME)
    assert is_plausible(corners[[0, 2, 1, 3]], FRAME)


def test_an_outline_is_where_opencv_puts_the_corners() -> None:
    generator = np.random.default_rng(2)
    for _ in range(20):
        corners = corners_of(SIZE) + generator.uniform(-20, 20, (4, 2))
        H = cv2.getPerspectiveTransform(corners_of(SIZE).astype(np.float32), corners.astype(np.float32))
        found = outline(H, SIZE)
        assert found is not None
        assert np.allclose(found, corners, atol=1e-3)
