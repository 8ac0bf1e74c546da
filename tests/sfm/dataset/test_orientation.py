"""Photographs that EXIF turns are read as the model saw them, whichever tool made it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from s2ld.data.images.reading import read_image
from s2ld.sfm.dataset.orientation import upright_images
from s2ld.sfm.dataset.undistort import undistort
from s2ld.sfm.mapping.camera_models import ColmapCamera
from s2ld.sfm.mapping.read_model import ColmapImage, ColmapModel

pytest.importorskip("pycolmap")
WIDE, SQUARE = (96, 64), (64, 64)


def write_photo(path: Path, size: tuple[int, int], orientation: int) -> None:
    """Write a photograph of `size`, as stored, of smooth colours."""
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (5, 7, 3), np.uint8)
    image = Image.fromarray(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, quality=98, exif=exif)


def model_of(folder: Path, names: list[str], upright: bool, coloured: bool = True) -> ColmapModel:
    """A model whose cameras look along z at a plane at depth 1, where each image sees points of its own."""
    cameras, images, points, colours = {}, [], [], []
    for number, name in enumerate(names):
        pixels = read_image(folder / name, upright=upright)
        height, width = pixels.shape[:2]
        cameras[number] = ColmapCamera("PINHOLE", (width, height), (80.0, 80.0, width / 2, height / 2))
        rng = np.random.default_rng(number)
        columns, rows = rng.integers(0, width, 60), rng.integers(0, height, 60)
        x, y = (columns + 0.5 - width / 2) / 80, (rows + 0.5 - height / 2) / 80
        seen = np.arange(60) + 60 * number
        images.append(ColmapImage(name, number, np.eye(4), seen))
        points.append(np.stack([x, y, np.ones(60)], 1))
        colours.append(pixels[rows, columns] if coloured else np.zeros((60, 3), np.uint8))
    return ColmapModel(cameras, images, np.concatenate(points), np.concatenate(colours))


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("size", [WIDE, SQUARE])
@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_one_turned_photograph_is_as_the_model_saw_it(
    tmp_path: Path, orientation: int, size: tuple[int, int], upright: bool
) -> None:
    write_photo(tmp_path / "a.jpg", size, orientation)
    write_photo(tmp_path / "plain.jpg", size, 1)
    model = model_of(tmp_path, ["a.jpg", "plain.jpg"], upright)
    assert upright_images(model, tmp_path) == ({"a.jpg"} if upright else set())
    flat = undistort(model, tmp_path, tmp_path / "out", 200, 1, progress=False)
    assert not flat.rejected
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image) if upright else image).astype(float)
    assert np.abs(read_image(tmp_path / "out/a.jpg") - expected).mean() < 3


@pytest.mark.parametrize("upright", [True, False])
def test_without_colours_the_others_tell(tmp_path: Path, upright: bool) -> None:
    names = ["half.jpg", "quarter.jpg", "plain.jpg"]
    for name, orientation in zip(names, (3, 6, 1), strict=True):
        write_photo(tmp_path / name, WIDE, orientation)
    model = model_of(tmp_path, names, upright, coloured=False)
    assert upright_images(model, tmp_path) == (set(names[:2]) if upright else set())
    assert upright_images(model_of(tmp_path, names[:1], upright, coloured=False), tmp_path) == set()  # COLMAP's way


def test_colours_that_fit_neither_tell_nothing(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", WIDE, 3)
    model = model_of(tmp_path, ["a.jpg"], upright=True)
    noise = np.random.default_rng(0).integers(0, 256, model.colours.shape, np.uint8)
    assert upright_images(ColmapModel(model.cameras, model.images, model.points, noise), tmp_path) == set()


def test_photographs_that_cannot_be_read_are_left_to_others(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg", WIDE, 3)
    model = model_of(tmp_path, ["a.jpg"], upright=True)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    assert upright_images(model, tmp_path) == set()
    (tmp_path / "a.jpg").unlink()
    assert upright_images(model, tmp_path) == set()
