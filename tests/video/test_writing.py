"""What is written is whole, however it ends."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from full_disk import largest_file

from s2ld.data.images.reading import UInt8Image
from s2ld.errors import S2LDError
from s2ld.video.tracker import Track, corners_of
from s2ld.video.writing import COLUMNS, table_file, video_file


def noise(number: int, size: tuple[int, int] = (64, 48)) -> UInt8Image:
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)


def count(path: Path) -> int:
    video, number = cv2.VideoCapture(str(path)), 0
    while video.read()[0]:
        number += 1
    return number


def test_ctrl_c_leaves_a_video_that_plays_and_a_table(tmp_path: Path) -> None:
    def work() -> None:
        with table_file(tmp_path / "a.csv") as table, video_file(tmp_path / "a.mp4", 30.0) as video:
            for number in range(5):
                table.write(number, Track((64, 48)))
                video.write(noise(number), times=2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a.csv"}
    assert count(tmp_path / "a.mp4") == 10
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 6


def test_an_earlier_video_stays_where_nothing_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("earlier")
    with video_file(tmp_path / "a.mp4", 30.0):
        pass
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]


def test_odd_sides_lose_a_row_and_one_pixel_is_one_line(tmp_path: Path) -> None:
    with video_file(tmp_path / "a.mp4", 30.0) as video:
        video.write(noise(0, (65, 49)))
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1].shape == (48, 64, 3)
    with pytest.raises(S2LDError, match="cannot write this file"), video_file(tmp_path / "b.mp4", 30.0) as video:
        video.write(noise(0, (1, 1)))


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def work() -> None:
        with video_file(tmp_path / "a.mp4", 30.0) as video:
            for number in range(60):
                video.write(noise(number, (320, 240)))

    with largest_file(50_000), pytest.raises(S2LDError, match=r"a\.part\.mp4: cannot write this file"):
        work()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_a_table_in_one_line(tmp_path: Path) -> None:
    def work() -> None:
        with table_file(tmp_path / "a.csv") as table:
            for number in range(50):
                table.write(number, Track((8, 8)))

    with largest_file(500), pytest.raises(S2LDError, match=r"a\.csv: cannot write this file"):
        work()


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match="cannot write"), table_file(tmp_path / "no" / "a.csv"):
        pass


def test_a_table_holds_the_homography_row_by_row(tmp_path: Path) -> None:
    track = Track((8, 6), 0.5, corners_of((8, 6)) + np.array([10, 20]), np.zeros((4, 2)), 33)
    with table_file(tmp_path / "a.csv") as table:
        table.write(4, track)
        table.write(5, Track((8, 6), 0.6))
    head, first, second = (tmp_path / "a.csv").read_text().splitlines()
    assert head == ",".join(COLUMNS)
    values = first.split(",")
    assert (values[0], values[1], values[-2:]) == ("4", "0.5000", ["33", "tracked"])
    assert np.allclose(np.array(values[2:11], float), [1, 0, 10, 0, 1, 20, 0, 0, 1], atol=1e-5)
    assert second == "5,0.6000," + "nan," * 9 + "0,lost"
