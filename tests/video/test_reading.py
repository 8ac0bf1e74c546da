"""Frames of files of all kinds, and what is no video."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.data.images.reading import UInt8Image, write_image
from s2ld.errors import S2LDError
from s2ld.video import reading
from s2ld.video.reading import DEFAULT_RATE, Video


def image(number: int, size: tuple[int, int] = (64, 48)) -> UInt8Image:
    """A wide bar whose grey tells the number, red left of it."""
    picture = np.full((size[1], size[0], 3), 20 * (number % 12), np.uint8)
    picture[:, : size[0] // 2] = (250, 0, 0)
    return picture


def write(path: Path, count: int, codec: str = "mp4v", rate: float = 25.0) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    for number in range(count):
        video.write(image(number)[..., ::-1])
    video.release()
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mp4v"), ("a.avi", "MJPG")])
def test_frames_come_in_order_in_colour_and_with_their_times(tmp_path: Path, name: str, codec: str) -> None:
    with Video(write(tmp_path / name, 6, codec)) as video:
        frames = list(video)
    assert (video.rate, video.count, video.camera) == (25.0, 6, False)
    assert [frame.number for frame in frames] == list(range(6))
    assert np.allclose([frame.seconds for frame in frames], np.arange(6) / 25, atol=1e-3)
    for number, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        assert abs(int(frame.image[24, 50, 1]) - 20 * number) < 8
        assert frame.image[24, 10, 0] > 200 > 60 > frame.image[24, 10, 2]


def test_a_digit_is_a_file_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.mp4", 2).rename(tmp_path / "0")
    monkeypatch.chdir(tmp_path)
    with Video("0") as video:
        assert len(list(video)) == 2


def test_a_camera_that_is_not_there_is_one_line() -> None:
    for source in (97, "97"):
        with pytest.raises(S2LDError, match="camera 97: there is no such camera"):
            Video(source)


def mjpeg(path: Path, sizes: list[tuple[int, int]]) -> Path:
    encoded = [cv2.imencode(".jpg", image(i, size))[1].tobytes() for i, size in enumerate(sizes)]
    path.write_bytes(b"".join(encoded))
    return path


def test_frames_of_another_size_are_scaled_to_the_first_one(tmp_path: Path) -> None:
    frames = list(Video(mjpeg(tmp_path / "a.mjpeg", [(64, 48)] * 3 + [(96, 64)] * 3)))
    assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 6


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 5000])
def test_what_is_no_video_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(S2LDError, match=r"a\.mp4: not a video that can be decoded"):
        Video(tmp_path / "a.mp4")


def test_a_video_without_frames_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match=r"a\.mp4: not"):
        list(Video(write(tmp_path / "a.mp4", 0)))


def test_a_picture_and_a_missing_file_are_named(tmp_path: Path) -> None:
    write_image(image(1), tmp_path / "a.png")
    with pytest.raises(S2LDError, match="a picture, not a video"):
        Video(tmp_path / "a.png")
    for path in (tmp_path / "b.mp4", tmp_path):
        with pytest.raises(S2LDError, match="no such video"):
            Video(path)


def test_a_file_that_breaks_off_is_told(tmp_path: Path, told: list[str]) -> None:
    whole = write(tmp_path / "a.avi", 40, "MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    with Video(tmp_path / "cut.avi") as video:
        count = len(list(video))
    assert 0 < count < 35
    assert any(f"ends after {count} of 40 frames" in line for line in told)


class Camera:
    """Stands for OpenCV's capture of a camera: three frames, no rate, no times."""

    def __init__(self, *_: object) -> None:
        self.left = 3

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return True

    def set(self, *_: object) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, UInt8Image | None]:
        self.left -= 1
        return (self.left >= 0), (image(2) if self.left >= 0 else None)

    def release(self) -> None:
        self.left = 0


def test_a_camera_has_the_times_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.5, 100.5, 102.0])
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(reading.time, "monotonic", lambda: next(clock))
    with Video("3") as video:
        assert (video.camera, video.rate, video.count) == (True, DEFAULT_RATE, None)
        times = [frame.seconds for frame in video]
    assert times == pytest.approx([0.5, 0.5 + 1 / DEFAULT_RATE, 2.0])


def test_a_camera_that_changes_its_size_ends_with_the_frame_s_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class Turning(Camera):
        def read(self) -> tuple[bool, UInt8Image | None]:
            self.left -= 1
            return True, image(1, (64, 48) if self.left else (48, 64))

    monkeypatch.setattr(cv2, "VideoCapture", Turning)
    seen = []
    with pytest.raises(S2LDError, match="camera 3: frame 2 has 48 x 64 px, those before it 64 x 48"):
        seen.extend(frame.number for frame in Video(3))
    assert seen == [0, 1]
