"""What a folder of photographs holds: links are followed, and no picture is left out without a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s2ld.data.images import photo_folders
from s2ld.data.images.image_files import HEIF_SUFFIXES, PHOTO_SUFFIXES
from s2ld.data.images.photo_folders import list_photos
from s2ld.errors import S2LDError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path, deeper: bool = True) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_photos(folder, deeper).photos]


def test_linked_folders_are_followed_and_no_loop(tmp_path: Path) -> None:
    photos, disk = tmp_path / "photos", tmp_path / "disk"
    touch(photos / "cam0/0.jpg", disk / "cam1/0.JPG", disk / "cam1/deep/1.avif", photos / "a.jp2")
    (photos / "cam1").symlink_to(disk / "cam1")
    (photos / "again").symlink_to(photos / "cam0")  # the name without a link counts
    (photos / "cam0/up").symlink_to(photos)
    (disk / "cam1/other").symlink_to(photos / "cam0")
    (disk / "cam1/self").symlink_to(disk / "cam1")
    (photos / "linked.png").symlink_to(disk / "cam1/0.JPG")
    assert found(photos) == ["a.jp2", "cam0/0.jpg", "cam1/0.JPG", "cam1/deep/1.avif", "linked.png"]
    assert found(photos, deeper=False) == ["a.jp2", "linked.png"]
    (tmp_path / "way").symlink_to(photos)
    assert len(found(tmp_path / "way")) == 5


def test_pictures_that_are_not_read_have_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_folders, "PHOTO_SUFFIXES", PHOTO_SUFFIXES - HEIF_SUFFIXES)
    names = ("a.gif", "b.HEIC", "c.dng", "d.mov", "e.psd")
    touch(*(tmp_path / "deep" / name for name in names), tmp_path / "notes.txt", tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    others = {path.name: reason for path, reason in list_photos(tmp_path).others}
    assert sorted(others) == sorted([*names, "pipe.png", "lost.jpg"])
    assert "pip install pillow-heif" in others["b.HEIC"]
    assert "film" in others["d.mov"]
    assert "leads nowhere" in others["lost.jpg"]
    (tmp_path / "x.jpg").unlink()
    message = str(list_photos(tmp_path).nothing())
    assert "no image in this folder" in message
    assert "7 cannot be read, the first: a.gif: " in message


def test_heic_counts_where_it_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_folders, "PHOTO_SUFFIXES", frozenset({".jpg", ".heic"}))
    touch(tmp_path / "b.HEIC")
    assert found(tmp_path) == ["b.HEIC"]


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    for path in (tmp_path / "nowhere", tmp_path / "a.jpg"):
        with pytest.raises(S2LDError, match="no such folder"):
            list_photos(path)
