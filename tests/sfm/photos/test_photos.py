import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from s2ld.errors import S2LDError
from s2ld.sfm.photos.usable import DIAGONAL_35MM, find_photos


def save(path: Path, seed: int = 0, size: tuple[int, int] = (96, 80), **tags: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    exif = Image.Exif()
    for name, value in tags.items():
        holder = exif if name in ("Make", "Model", "Orientation") else exif.get_ifd(ExifTags.IFD.Exif)
        holder[ExifTags.Base[name]] = value
    Image.fromarray(pixels).save(path, exif=exif)


def test_sizes_are_upright_and_cameras_come_from_exif(tmp_path: Path) -> None:
    save(tmp_path / "b/turned.png", 1, Orientation=6, Make="Maker", Model="M1", FocalLengthIn35mmFilm=50)
    save(tmp_path / "a.PNG", 2)
    found = find_photos(tmp_path, progress=False)
    assert [photo.name for photo in found.photos] == ["a.PNG", "b/turned.png"]
    plain, turned = found.photos
    assert (plain.size, plain.focal, plain.camera) == ((96, 80), None, "")
    assert turned.size == (80, 96)
    assert turned.camera == "Maker M1 50 mm"
    assert turned.focal == pytest.approx(50 / DIAGONAL_35MM * np.hypot(80, 96))
    assert not found.rejected


def test_files_that_other_programs_read_as_other_pixels_are_not_plain(tmp_path: Path) -> None:
    save(tmp_path / "plain.jpg", 1, Orientation=1)
    save(tmp_path / "turned.jpg", 2, Orientation=3)
    with Image.open(tmp_path / "plain.jpg") as image:
        image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).convert("CMYK").save(tmp_path / "print.jpg")
    photos = find_photos(tmp_path, progress=False).photos
    assert [photo.name for photo in photos if photo.plain] == ["plain.jpg"]
    assert len(photos) == 3


def test_what_cannot_be_used_is_named_with_its_reason(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    save(tmp_path / "same.png", 1)
    save(tmp_path / "tiny.png", 2, size=(1, 1))
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "notes.txt").write_text("no image")
    found = find_photos(tmp_path, progress=False)
    assert [photo.name for photo in found.photos] == ["a.png"]
    reasons = dict(found.rejected)
    assert reasons.keys() == {"broken.jpg", "same.png", "tiny.png"}
    assert "decode" in reasons["broken.jpg"]
    assert reasons["same.png"] == "the same pixels as a.png"
    assert reasons["tiny.png"].startswith("1 x 1 px")


def test_nonsense_in_exif_is_no_focal_length(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1, FocalLengthIn35mmFilm=0)
    assert find_photos(tmp_path, progress=False).photos[0].focal is None


def test_folders_without_photographs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match="no such folder"):
        find_photos(tmp_path / "nowhere", progress=False)
    with pytest.raises(S2LDError, match="no image in this folder"):
        find_photos(tmp_path, progress=False)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(S2LDError, match="none of 1 images"):
        find_photos(tmp_path, progress=False)


def test_nothing_is_left_out_without_a_line(tmp_path: Path) -> None:
    photos, disk = tmp_path / "photos", tmp_path / "disk"
    save(photos / "a.png", 1)
    save(disk / "deep/b.png", 2)
    (photos / "linked").symlink_to(disk)
    (photos / "linked_again").symlink_to(disk / "deep")
    (photos / "round").symlink_to(photos)
    shutil.copy(photos / "a.png", os.fsencode(photos) + b"/fa\xe7ade.png")
    for name in ("c.HEIC", "d.gif"):
        (photos / name).touch()
    os.mkfifo(photos / "pipe.jpg")
    found = find_photos(photos, progress=False)
    assert len(found.photos) == 2
    reasons = dict(found.rejected)
    assert reasons.keys() == {"c.HEIC", "d.gif", "pipe.jpg", "fa\udce7ade.png"}
    assert "not in UTF-8" in reasons["fa\udce7ade.png"]


def test_what_other_programs_read_otherwise_is_not_plain(tmp_path: Path) -> None:
    greys = np.random.default_rng(0).integers(0, 256, (4, 80, 96), np.uint8)
    wide, real = greys[1].astype(np.uint16) * 257, greys[2] / np.float32(255)
    for name, pixels in (("a.png", greys[0]), ("b.tif", wide), ("c.tif", real), ("d.avif", greys[3])):
        Image.fromarray(pixels).save(tmp_path / name)
    photos = find_photos(tmp_path, progress=False).photos
    assert [photo.name for photo in photos if photo.plain] == ["a.png"]
    assert len(photos) == 4
