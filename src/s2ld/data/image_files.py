"""From a picture's file to its pixels as they are stored; what would not fit into memory is refused by its header."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from s2ld.errors import S2LDError
from s2ld.files import printable, read_file
from s2ld.memory import available_memory

HEIF_SUFFIXES = frozenset({".heic", ".heif"})
"""Of the pictures that pillow-heif reads."""
PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".avif", ".jp2"}
) | (HEIF_SUFFIXES if find_spec("pillow_heif") else frozenset())
"""Files in a folder that count as photographs, in lower case."""
MOST_PIXELS = 2**28
"""Of a picture: 268 megapixels, 0.8 GB in colour."""
_ALWAYS_FITS = 2**24  # pixels for which the memory is not asked
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF", "JPEG2000", "AVIF")  # no EPS: it runs a program
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_DEEP = ("I", "F")  # Pillow's modes of more than 8 bits, beside I;16 and its kin
_lock = threading.Lock()


def read_pixels(path: str | Path, grey: bool = False, upright: bool = True) -> NDArray[Any]:
    """Return the pixels of a picture's file: (H, W) or (H, W, 3) RGB of the type that it stores, without transparency.

    Args:
        path: the file.
        grey: one channel, where OpenCV can make it.
        upright: apply the EXIF rotation.

    Raises:
        S2LDError: the file is missing, no picture, damaged, or too large to decode.
    """
    data = read_file(path, "image", "check the path")
    header = check_header(data, path)
    pixels = _by_opencv(data, grey, upright, header)
    if pixels is None:
        pixels = _by_pillow(data, upright)
    if pixels is None:
        raise S2LDError(f"{printable(path)}: {_no_picture(data)}")
    return pixels


def check_header(data: bytes, path: str | Path) -> tuple[int, int, bool]:
    """Return width and height of a picture by its header, px as stored, and whether its channels lie apart (TIFF).

    Raises:
        S2LDError: there is no such header, or what it declares is too large to decode; `path` is named.
    """
    try:
        width, height, apart = _tiff_header(data) if data[:2] in (b"II", b"MM") else (*_size(data), False)
    except Exception as error:  # whatever damaged or invented bytes may lead Pillow into
        raise S2LDError(f"{printable(path)}: {_no_picture(data)}") from error
    check_size(width, height, path)
    return width, height, apart


def check_size(width: int, height: int, name: str | Path) -> None:
    """Raise `S2LDError` for a picture that is too large to decode."""
    pixels = width * height
    if pixels <= _ALWAYS_FITS:
        return
    available = available_memory()
    if pixels > MOST_PIXELS or (available is not None and 3 * pixels > available):
        most = min(MOST_PIXELS, (available or MOST_PIXELS * 3) // 3)
        raise S2LDError(
            f"{printable(name)}: {width} x {height} px are too many to decode; make it smaller, at most "
            f"{most // 10**6} megapixels here"
        )


@contextmanager
def open_header(source: Path | bytes) -> Iterator[Image.Image]:
    """Open a picture by Pillow, which reads its header alone; its own limit of the size does not count.

    Raises what Pillow raises, OSError mostly.
    """
    formats = (*_FORMATS, "HEIF") if _reads_heif() else _FORMATS
    with _lock:  # the limit is one for all threads
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def pillow_pixels(image: Image.Image) -> NDArray[Any]:
    """Return a Pillow image as (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, of the type that its mode has.

    Raises what Pillow raises for images that cannot be decoded or converted, OSError, SyntaxError or ValueError.
    """
    plain = image.mode in ("L", "RGB", "RGBA", *_DEEP) or image.mode.startswith("I;")
    return np.asarray(image if plain else image.convert("RGB"))


@cache
def _reads_heif() -> bool:
    """Tell whether pillow-heif is installed, and let Pillow know it."""
    if find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def _size(data: bytes) -> tuple[int, int]:
    with open_header(data) as image:
        return image.size


def _tiff_header(data: bytes) -> tuple[int, int, bool]:
    """As `check_header`; Pillow's reader of tags knows files whose pixels Pillow does not."""
    start = data[: 16 if 43 in data[2:4] else 8]  # 43: BigTIFF
    tags = TiffImagePlugin.ImageFileDirectory_v2(start)
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1) > 1
    return int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH]), apart


def _by_opencv(data: bytes, grey: bool, upright: bool, header: tuple[int, int, bool]) -> NDArray[Any] | None:
    # OpenCV decodes floats of one channel only as grey, those of three only as colours, and with channels that lie
    # apart it gets more than 8 bits wrong, as it does when it exchanges their order itself
    kinds = [cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR] if grey else [cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE]
    extra = (0 if header[2] else cv2.IMREAD_ANYDEPTH) | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    encoded = np.frombuffer(data, np.uint8)
    for kind in kinds:
        try:
            pixels = cv2.imdecode(encoded, kind | extra)
        except cv2.error:
            continue
        if pixels is None:
            continue
        if pixels.ndim == 2:
            return np.asarray(pixels)
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.dtype == np.uint8 else pixels[..., ::-1])
    return None


def _by_pillow(data: bytes, upright: bool) -> NDArray[Any] | None:
    try:
        with open_header(data) as image:
            pixels = pillow_pixels(ImageOps.exif_transpose(image) if upright else image)
    except Exception:  # as in `check_header`
        return None
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def _no_picture(data: bytes) -> str:
    container, brand = data[4:8] == b"ftyp", data[8:12]
    if container and brand in _HEIF_BRANDS and not _reads_heif():
        return "a HEIC picture; pip install pillow-heif to read it, or convert it to JPEG"
    if container and brand not in (*_HEIF_BRANDS, b"avif", b"avis"):
        return "a film, not an image; give photographs, or frames of it"
    return "not an image that OpenCV can decode; is the file complete?"
