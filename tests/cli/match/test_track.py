"""`s2ld track`: a video in, files and exit statuses out."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("skimage")
from s2ld.benchmarks.tracking import RATE, MovingPicture
from s2ld.cli.match.track import build_parser, script
from s2ld.data.images.reading import write_image
from s2ld.video import follow

SIZE = (240, 184)
MOVING = MovingPicture(SIZE, period=60)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with film.mp4 of four frames, reference.png, and red.png."""
    folder = tmp_path_factory.mktemp("film")
    video = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    for frame in MOVING.frames(4):
        video.write(frame.image[..., ::-1])
    video.release()
    write_image(MOVING.reference, folder / "reference.png")
    write_image(np.full((30, 40, 3), (255, 0, 0), np.uint8), folder / "red.png")
    return folder


def run(film: Path, output: Path, *arguments: str, video: str = "film.mp4") -> int:
    return script([str(film / video), "--output", str(output), "--resize", "240", "--device", "cpu", *arguments])


def pictures(path: Path) -> list[np.ndarray]:
    video, found = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        found.append(read[1][..., ::-1])
    return found


def test_an_overlay_lies_in_the_place_of_the_reference(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--reference", str(film / "reference.png"), "--overlay", str(film / "red.png"), "--jobs", "2"]
    assert run(film, tmp_path / "out", *options) == 0
    assert "4 of 4 frames tracked" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"film-track.mp4", "film-track.csv"}
    found = pictures(tmp_path / "out/film-track.mp4")
    assert len(found) == 4
    for shown, frame in zip(found, MOVING.frames(4), strict=True):
        assert (np.abs(shown[90, 120].astype(int) - (255, 0, 0)) < 40).all()
        assert np.abs(shown[170:, 220:].astype(int) - frame.image[170:, 220:]).mean() < 15


def test_a_reference_that_never_appears_is_told(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(film, tmp_path, "--reference", str(film / "red.png"), "--frames", "2") == 1
    read = capsys.readouterr()
    assert "0 of 2 frames tracked" in read.out
    assert "red.png is in none of the frames" in read.err
    assert len(pictures(tmp_path / "film-track.mp4")) == 2


def test_ctrl_c_says_what_was_done_and_leaves_it(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, drawn = follow.draw, []

    def stopped(*arguments: object) -> np.ndarray:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(1)
        return draw(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(follow, "draw", stopped)
    assert run(film, tmp_path) == 130
    assert "interrupted; 2 of 2 frames tracked" in capsys.readouterr().err
    assert len(pictures(tmp_path / "film-track.mp4")) == 2
    assert len((tmp_path / "film-track.csv").read_text().splitlines()) >= 3


@pytest.mark.parametrize(
    ("video", "arguments", "line"),
    [
        ("no.mp4", [], "no.mp4: no such video; check the path, or give the number of a camera"),
        ("red.png", [], "red.png: a picture, not a video; s2ld match takes pictures"),
        ("text.mp4", [], "text.mp4: not a video that can be decoded; is the file complete?"),
        ("film.mp4", ["--reference", "no.png"], "cannot read this image (No such file or directory); check the path"),
        ("film.mp4", ["--jobs", "0"], "--jobs must be at least 1, not 0"),
        ("film.mp4", ["--least-inliers", "3"], "--least-inliers must be at least 4, not 3"),
        ("film.mp4", ["--smoothing", "-1"], "--smoothing must be 0 or more px, not -1.0"),
        ("film.mp4", ["--inlier-threshold", "nan"], "--inlier-threshold must be positive, not nan"),
    ],
)
def test_bad_input_is_one_line(
    film: Path, tmp_path: Path, video: str, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (film / "text.mp4").write_text("no video")
    assert run(film, tmp_path / "out", *arguments, video=video) == 2
    said = capsys.readouterr().err
    assert said.endswith(f"{line}\n")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(film / "red.png", tmp_path / "file")
    assert run(film, tmp_path / "file") == 2
    assert "cannot create this output folder" in capsys.readouterr().err


def test_a_camera_is_named_by_its_number() -> None:
    assert build_parser().parse_args(["0"]).video == "0"
    assert script(["97"]) == 2
