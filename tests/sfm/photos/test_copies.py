from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from s2ld.data.images.reading import read_image
from s2ld.sfm.photos.copies import copy_photos, jpeg_names
from s2ld.sfm.photos.usable import find_photos


def save(path: Path, size: tuple[int, int], seed: int, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = orientation, "Maker", "M"
    exif.get_ifd(0x8769)[0xA405] = 50  # focal length as on 35 mm film
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, exif=exif, quality=95)


def test_no_two_names_are_the_same_and_none_has_a_blank() -> None:
    names = ["a/x.png", "a/x.jpg", "b/x.JPG", "a/X.tif", "my photo.jpg", "a/x_png.jpg"]
    given = jpeg_names(names)
    assert given == ["a/x.jpg", "a/x_jpg.jpg", "b/x.jpg", "a/X_tif.jpg", "my_photo.jpg", "a/x_png.jpg"]
    stems = [name.rsplit(".", 1)[0].casefold() for name in jpeg_names([*names, "a/x_png.png", "a/x.png.jpg"])]
    assert len(set(stems)) == len(stems)


def test_copies_are_upright_small_enough_and_know_their_focal_length(tmp_path: Path) -> None:
    save(tmp_path / "in/plain.jpg", (120, 80), 0)
    save(tmp_path / "in/sub/turned.png", (120, 80), 1, orientation=6)
    save(tmp_path / "in/large.jpg", (400, 300), 2)
    photos = find_photos(tmp_path / "in", progress=False).photos
    large, plain, turned = copy_photos(photos, tmp_path / "out", 200, 1, progress=False)
    assert (large.size, plain.size, turned.size) == ((200, 150), (120, 80), (80, 120))
    assert (turned.source, turned.name) == ("sub/turned.png", "sub/turned.jpg")
    assert photos[0].focal is not None
    assert large.focal == photos[0].focal / 2
    assert (tmp_path / "out/plain.jpg").read_bytes() == (tmp_path / "in/plain.jpg").read_bytes()
    for copy, photo in zip((large, plain, turned), photos, strict=True):
        image = read_image(tmp_path / "out" / copy.name, upright=False).astype(float)
        assert image.shape[1::-1] == copy.size
        expected = np.asarray(Image.fromarray(read_image(photo.path)).resize(copy.size, Image.Resampling.BOX), float)
        assert np.abs(image - expected).mean() < 4


def test_copies_that_are_there_are_kept(tmp_path: Path) -> None:
    save(tmp_path / "in/a.jpg", (120, 80), 0)
    photos = find_photos(tmp_path / "in", progress=False).photos
    (copy,) = copy_photos(photos, tmp_path / "out", 200, 1, progress=False)
    (tmp_path / "out" / copy.name).write_bytes(b"kept")
    copy_photos(photos, tmp_path / "out", 200, 1, progress=False)
    assert (tmp_path / "out" / copy.name).read_bytes() == b"kept"
