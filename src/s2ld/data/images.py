"""Reading, writing and resizing photographs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.decoders import quiet_decoders
from s2ld.errors import S2LDError
from s2ld.files import whole_file

UInt8Image = NDArray[np.uint8]
MULTIPLE = 8  # the network's cell, px
SUFFIXES = (".ppm", ".png", ".jpg", ".jpeg")
"""Files of data sets that are named without a suffix, in the order in which they are looked for."""
PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Files in a folder that count as photographs, in lower case."""


def read_image(path: str | Path, grey: bool = False, upright: bool = True) -> UInt8Image:
    """Read a photograph as (H, W, 3) RGB, or (H, W) grey, uint8; 16-bit and alpha are reduced.

    Args:
        path: the file.
        grey: one channel.
        upright: apply the EXIF rotation; off for images whose intrinsics belong to the pixels as stored.

    Raises:
        S2LDError: the file is missing, unreadable or no image.
    """
    path = Path(path)
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this image ({error.strerror}); check the path") from error
    flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    flags |= 0 if upright else cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with quiet_decoders():
            image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise S2LDError(f"{path}: not an image that OpenCV can decode; is the file complete?")
    return np.ascontiguousarray(image, dtype=np.uint8)


def write_image(image: UInt8Image, path: str | Path, quality: int = 95) -> None:
    """Write (H, W, 3) RGB to a .jpg, .png or other file that OpenCV encodes, whole or not at all.

    Args:
        image: the pixels.
        path: the file; its suffix says which kind.
        quality: of a JPEG file, up to 100.

    Raises:
        S2LDError: the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    except cv2.error:
        done, data = False, np.zeros(0, np.uint8)
    if not done:
        raise S2LDError(f"{path}: cannot write a picture of this kind; use .png or .jpg")
    with whole_file(path) as part:
        part.write_bytes(data.tobytes())


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
