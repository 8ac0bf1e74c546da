"""Reading, writing and resizing photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from s2ld.data.images.image_files import HEIF_SUFFIXES, read_pixels
from s2ld.data.images.pixels import UInt8Image as UInt8Image
from s2ld.data.images.pixels import to_uint8
from s2ld.errors import S2LDError
from s2ld.files import printable, whole_file

MULTIPLE = 8  # the network's cell, px
SUFFIXES = (".ppm", ".png", ".jpg", ".jpeg")
"""Files of data sets that are named without a suffix, in the order in which they are looked for."""


def read_image(path: str | Path, grey: bool = False, upright: bool = True) -> UInt8Image:
    """Read a photograph as (H, W, 3) RGB, or (H, W) grey, uint8; alpha is left out, other depths see `to_uint8`.

    Args:
        path: the file.
        grey: one channel.
        upright: apply the EXIF rotation; off for images whose intrinsics belong to the pixels as stored.

    Raises:
        S2LDError: the file is missing, no image, unreadable, or too large to decode.
    """
    image = to_uint8(read_pixels(path, grey, upright), printable(path), measured=True)
    if grey:
        return to_grey(image)
    return image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)


def write_image(image: UInt8Image, path: str | Path, quality: int = 95) -> None:
    """Write (H, W, 3) RGB to a .jpg, .png or other file that OpenCV encodes, whole or not at all.

    Args:
        image: the pixels.
        path: the file; its suffix says which kind, and .heic is written as JPEG, which readers tell by its content.
        quality: of a JPEG file, up to 100.

    Raises:
        S2LDError: the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    kind = ".jpg" if path.suffix.lower() in HEIF_SUFFIXES else path.suffix
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind.lower() in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    except cv2.error:
        done, data = False, np.zeros(0, np.uint8)
    if not done:
        raise S2LDError(f"{path}: cannot write a picture of this kind; use .png or .jpg")
    with whole_file(path) as part:
        part.write_bytes(data.tobytes())


def jpeg_bytes(image: UInt8Image, quality: int = 95) -> bytes:
    """Return (H, W) grey or (H, W, 3) RGB as a JPEG file of a quality up to 100."""
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def find_image(folder: Path, stem: str) -> Path:
    """Return the image of `folder` whose name without suffix is `stem`, the first of `SUFFIXES` that is there.

    Raises:
        S2LDError: there is none.
    """
    paths = [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise S2LDError(f"{folder / stem}: no such image ({' '.join(SUFFIXES)}); is the data set complete?")
    return found


def to_grey(image: UInt8Image) -> UInt8Image:
    """Return (H, W) grey of an (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA uint8 image."""
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return np.ascontiguousarray(image[..., 0])
    code = cv2.COLOR_RGBA2GRAY if image.shape[2] == 4 else cv2.COLOR_RGB2GRAY
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def network_size(width: int, height: int, long_side: float, multiple: int = MULTIPLE) -> tuple[int, int]:
    """Return (width, height), longer side about `long_side`, both rounded down to multiples of `multiple`."""
    factor = long_side / max(width, height)

    def side(length: int) -> int:
        return max(multiple, round(length * factor) // multiple * multiple)

    return side(width), side(height)


def resize(image: UInt8Image, size: tuple[int, int]) -> tuple[UInt8Image, tuple[float, float]]:
    """Resize to `size` (width, height), pixel edges aligned; area-averaged when it shrinks.

    Returns the image and its scale (x, y): px of the given image per resized px.
    """
    height, width = image.shape[:2]
    scale = (width / size[0], height / size[1])
    if size == (width, height):
        return image, scale
    shrinks = scale[0] > 1 or scale[1] > 1
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8), scale
