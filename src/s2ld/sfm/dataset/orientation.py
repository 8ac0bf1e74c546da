"""Whether a model's photographs were turned by their EXIF entry when it was made, as `s2ld reconstruct` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags

from s2ld.data.images.image_files import open_header
from s2ld.data.images.reading import read_image
from s2ld.errors import S2LDError
from s2ld.sfm.mapping.camera_models import as_pycolmap
from s2ld.sfm.mapping.read_model import ColmapImage, ColmapModel

Size = tuple[int, int]
"""Width and height, px."""
MOST_IMAGES, LEAST_POINTS = 16, 20
"""That the colours of points are compared with, and of."""
LEAST_SPREAD = 3.0
"""Standard deviation of colours that tell anything, grey levels."""
CLEARLY = 0.8
"""Of the error of the other way of reading."""


def upright_images(model: ColmapModel, folder: Path) -> frozenset[str]:
    """Return the names of the images that the model saw upright, of those whose EXIF entry turns them.

    A quarter turn shows in the shape of the camera. Half turns, mirrored and square images do not: they are as the
    colours of the model's points say, or else as most of the others; where nothing tells, as they are stored.

    Args:
        model: what COLMAP knows.
        folder: of its images.
    """
    by_shape: dict[str, bool] = {}
    unclear: list[ColmapImage] = []
    for image in model.images:
        sizes = _turned_sizes(folder / image.name)
        if sizes is None:
            continue
        stored, upright = (same_shape(size, model.cameras[image.camera].size) for size in sizes)
        if stored == upright:
            unclear.append(image)
        else:
            by_shape[image.name] = upright
    found = {name for name, upright in by_shape.items() if upright}
    by_colour = _by_colour(model, unclear, folder) if unclear else None
    if by_colour if by_colour is not None else 2 * len(found) > len(by_shape):
        found |= {image.name for image in unclear}
    return frozenset(found)


def same_shape(first: Size, second: Size) -> bool:
    """Return whether two sizes have one ratio of sides, to a pixel."""
    (width, height), (w, h) = first, second
    return abs(width * h - height * w) <= max(width, height, w, h)


def _turned_sizes(path: Path) -> tuple[Size, Size] | None:
    """Return the sizes of an image as stored and upright; None where EXIF does not turn it."""
    if not path.is_file():
        return None
    try:
        with open_header(path) as image:
            size, orientation = image.size, image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # whatever damaged bytes may lead Pillow into; reading the image tells
        return None
    if orientation not in range(2, 9):
        return None
    return size, (size if orientation < 5 else (size[1], size[0]))


def _by_colour(model: ColmapModel, images: Sequence[ColmapImage], folder: Path) -> bool | None:
    """Return whether points have the colours of the upright images rather than of the stored ones, None if unclear."""
    if not len(model.colours) or model.colours.std(0).max() < LEAST_SPREAD:
        return None
    errors, count = np.zeros(2), 0
    for image in images[:MOST_IMAGES]:
        try:
            pictures = [read_image(folder / image.name, upright=upright) for upright in (False, True)]
        except S2LDError:
            continue
        places, colours = _seen(model, image)
        errors += [np.abs(_pick(picture, places) - colours).sum() for picture in pictures]
        count += len(places)
    if count < LEAST_POINTS or errors.min() > CLEARLY * errors.max():
        return None
    return bool(errors[1] < errors[0])


def _seen(model: ColmapModel, image: ColmapImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where an image sees points, in [0, 1) of its width and height, and their colours."""
    camera = model.cameras[image.camera]
    local = model.points[image.points] @ image.pose[:3, :3].T + image.pose[:3, 3]
    ahead = local[:, 2] > 0
    places = np.asarray(as_pycolmap(camera).img_from_cam(local[ahead]), np.float64).reshape(-1, 2) / camera.size
    inside = ((places >= 0) & (places < 1)).all(1)  # false for NaN
    return places[inside], model.colours[image.points][ahead][inside].astype(np.float64)


def _pick(picture: NDArray[np.uint8], places: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = picture.shape[:2]
    columns, rows = (places * (width, height)).astype(np.int64).T
    return np.asarray(picture[rows, columns], np.float64)
