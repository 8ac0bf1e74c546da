"""From a picture's file to its pixels as they are stored; what would not fit into memory is refused by its header."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from s2ld.data.images.decoders import quiet_decoders
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
    return decode_pixels(read_file(path, "image", "check the path"), path, grey, upright)


def decode_pixels(data: bytes, name: str | Path, grey: bool = False, upright: bool = True) -> NDArray[Any]:
    """Return the pixels of a picture whose file is in memory, and `name` for errors, as `read_pixels` does."""
    header = check_header(data, name)
    pixels = _by_opencv(data, grey, upright, header)
    if pixels is None:
        pixels = _by_pillow(data, upright)
    if pixels is None:
        raise S2LDError(f"{printable(name)}: {_no_picture(data)}")
    return pixels


@dataclass(frozen=True)
class Header:
    """What a file says of its picture."""

    width: int
    """px, as stored."""
    height: int
    samples: int = 0
    """Values a pixel, where they have more than 16 bits, which only TIFF has; else 0."""
    apart: bool = False
    """The channels of a TIFF lie one behind the other."""


def check_header(data: bytes, path: str | Path) -> Header:
    """Return the header of a picture's file.

    Raises:
        S2LDError: there is none, or what it declares is too large to decode; `path` is named.
    """
    try:
        header = _tiff_header(data) if data[:2] in (b"II", b"MM") else _header(data)
    except Exception as error:  # whatever damaged or invented bytes may lead Pillow into
        raise S2LDError(f"{printable(path)}: {_no_picture(data)}") from error
    check_size(header.width, header.height, path)
    return header


def check_size(width: int, height: int, name: str | Path) -> None:
    """Raise `S2LDError` for a picture that is too large to decode."""
    pixels = width * height
    if pixels <= _ALWAYS_FITS:
        return
    available = available_memory()
    if pixels > MOST_PIXELS or 3 * pixels > available:
        most = min(MOST_PIXELS, available // 3)
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


def _header(data: bytes) -> Header:
    with open_header(data) as image:
        return Header(*image.size)


def _tiff_header(data: bytes) -> Header:
    """Read a TIFF's tags, which Pillow does of more files than it knows the pixels of."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])  # 43: BigTIFF
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    samples = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    deep = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 16
    apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and samples > 1
    size = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    return Header(*size, samples if deep else 0, apart)


def _by_opencv(data: bytes, grey: bool, upright: bool, header: Header) -> NDArray[Any] | None:
    # of more than 16 bits OpenCV decodes one channel only as grey, and three only as colours
    kind = cv2.IMREAD_GRAYSCALE if header.samples == 1 or (grey and not header.samples) else cv2.IMREAD_COLOR
    # channels that lie apart it reads right in 8 bits alone, and colours of 16 only in its own order
    depth = 0 if header.apart else cv2.IMREAD_ANYDEPTH
    try:
        with quiet_decoders():
            pixels = cv2.imdecode(
                np.frombuffer(data, np.uint8), kind | depth | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
            )
    except cv2.error:
        return None
    if pixels is None or pixels.ndim == 2:
        return None if pixels is None else np.asarray(pixels)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.dtype == np.uint8 else pixels[..., ::-1])


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
