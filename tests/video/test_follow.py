"""A picture is followed where it truly is, lost where it is hidden, and found again: the shipped weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("skimage")
from s2ld import Matcher
from s2ld.benchmarks.tracking import RATE, MovingPicture
from s2ld.geometry.homography import corner_error
from s2ld.video.follow import Followed, Following, Seen, follow, follow_video
from s2ld.video.reading import Frame, Video
from s2ld.video.sightings import CANDIDATES, frame_matcher
from s2ld.video.tracker import Smoothing

SIZE = (240, 184)
MOVING = MovingPicture(SIZE, period=60)
REFERENCE = (216, 166)  # px, of its picture
HIDDEN = range(3, 6)


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    return frame_matcher("s2ld-lite", max_side=240, device="cpu", precision="fp32")


def error(seen: Seen, true: np.ndarray, size: tuple[int, int]) -> float:
    assert seen.track.homography is not None
    return float(corner_error(torch.tensor(seen.track.homography), torch.tensor(true), *size))


def states(found: list[Seen]) -> str:
    return "".join(one.track.state[0] for one in found)


def test_corners_are_where_they_are_and_a_hidden_picture_is_lost_and_found(matcher: Matcher) -> None:
    found = list(follow(MOVING.frames(9, HIDDEN), matcher, Following(MOVING.reference, jobs=2)))
    assert [one.sighting.frame.number for one in found] == list(range(9))
    assert states(found) == "tttlllttt"
    errors = [error(one, MOVING.homography(i), REFERENCE) for i, one in enumerate(found) if i not in HIDDEN]
    assert max(errors) < 1.0
    assert all(one.track.inliers >= 100 for i, one in enumerate(found) if i not in HIDDEN)


def test_frames_at_a_time_make_no_difference(matcher: Matcher) -> None:
    alone, together = (
        list(follow(MOVING.frames(4), matcher, Following(MOVING.reference, jobs=jobs))) for jobs in (1, 3)
    )
    for one, other in zip(alone, together, strict=True):
        assert np.allclose(one.track.homography, other.track.homography, atol=1e-3)  # type: ignore[arg-type]


def test_features_of_each_picture_are_extracted_once(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []
    extract = Matcher.extract
    monkeypatch.setattr(Matcher, "extract", lambda self, image: passed.append(1) or extract(self, image))
    list(follow(MOVING.frames(3), matcher, Following(MOVING.reference)))
    assert len(passed) == 1 + 3
    passed.clear()
    list(follow(MOVING.frames(3), matcher, Following()))
    assert len(passed) == 3


def test_a_matcher_for_frames_judges_fewer_candidates(matcher: Matcher) -> None:
    assert matcher.model.config.CONSENSUS.CANDIDATES == CANDIDATES < 2000
    large = cv2.resize(MOVING.reference, (640, 480))
    assert 100 < len(Matcher(matcher.model, max_side=640)(large, large)) < 2 * CANDIDATES  # densified


def scene(number: int) -> Frame:
    """The picture as large as the frame, seen from aside more and more; grey noise instead in frames 2 and 3."""
    image = cv2.resize(MOVING.reference, SIZE)
    if number in (2, 3):
        noise = np.random.default_rng(number).integers(0, 256, (*SIZE[::-1], 3), np.uint8)
        return Frame(number, number / RATE, noise)
    shown = cv2.warpPerspective(image, drift(number), SIZE, borderMode=cv2.BORDER_REFLECT_101)
    return Frame(number, number / RATE, np.asarray(shown, np.uint8))


def drift(number: int) -> np.ndarray:
    turn = 0.01 * number
    return np.array([[np.cos(turn), -np.sin(turn), 2.0 * number], [np.sin(turn), np.cos(turn), number], [0, 0, 1]])


def test_without_a_reference_the_first_frame_is_followed_over_lost_ones(matcher: Matcher) -> None:
    found = list(follow(map(scene, range(7)), matcher, Following(smoothing=Smoothing(0), jobs=2)))
    assert states(found) == "ttllttt"
    errors = [error(one, drift(i), SIZE) for i, one in enumerate(found) if i not in (2, 3)]
    assert errors[0] < 1e-3
    assert max(errors) < 1.5


def test_a_video_in_a_video_and_a_table_out(matcher: Matcher, tmp_path: Path, told: list[str]) -> None:
    film = cv2.VideoWriter(str(tmp_path / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    for frame in MOVING.frames(6, range(2, 3)):
        film.write(frame.image[..., ::-1])
    film.release()
    done = Followed()
    with Video(tmp_path / "film.mp4") as video:
        follow_video(video, matcher, Following(MOVING.reference, jobs=2, frames=5), tmp_path / "out/film-track", done)
    assert (done.frames, done.tracked) == (5, 4)
    assert [line for line in told if "at" in line][:2] == [
        "INFO: lost at 0.07 s, frame 2\n", "INFO: found again at 0.10 s, frame 3\n",
    ]  # fmt: skip
    table = np.genfromtxt(tmp_path / "out/film-track.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert table["state"].tolist() == ["tracked", "tracked", "lost", "tracked", "tracked"]
    assert np.allclose(table["time"], np.arange(5) / RATE, atol=1e-3)
    assert np.isnan(table["h00"][2])
    entries = np.array([[row[f"h{r}{c}"] for r in range(3) for c in range(3)] for row in table]).reshape(-1, 3, 3)
    for number in (0, 1, 3, 4):
        true = torch.tensor(MOVING.homography(number))
        assert corner_error(torch.tensor(entries[number]), true, *REFERENCE) < 1.5  # after compression
    with Video(tmp_path / "out/film-track.mp4") as written:
        pictures = [frame.image for frame in written]
    assert len(pictures) == 5
    assert pictures[0].shape == (SIZE[1], SIZE[0], 3)
