"""Which photographs of a folder can be used, as they are: mixed cameras, rotated by EXIF, damaged, twice there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import hypot
from pathlib import Path

from PIL import ExifTags

from s2ld.data.images.image_files import open_header
from s2ld.data.images.photo_folders import list_photos
from s2ld.data.images.reading import read_image
from s2ld.errors import S2LDError
from s2ld.files import is_portable, printable
from s2ld.log import Progress

LEAST_SIDE = 64
"""Shorter side of a photograph that can be used, px."""
DIAGONAL_35MM = hypot(36, 24)
"""mm; "35 mm equivalent" focal lengths compare the diagonals (CIPA DCG-001)."""
PLAIN_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
PLAIN_FORMATS = ("BMP", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of what every program reads alike: no CMYK, no more than 8 bits, no format of which few know."""


@dataclass(frozen=True)
class Photo:
    """A photograph that can be decoded, upright by its EXIF entry."""

    name: str
    """Relative to the folder, with "/"."""
    path: Path
    size: tuple[int, int]
    """Width and height of the upright image, px."""
    focal: float | None
    """Focal length by EXIF, px; None where it does not tell."""
    camera: str
    """Make, model and focal length by EXIF: photographs of one size that agree in it share a camera; "" is unknown."""
    plain: bool
    """Stored upright, in a usual form: every program reads from the file the pixels that are matched."""


@dataclass(frozen=True)
class PhotoFolder:
    """The photographs of a folder."""

    folder: Path
    photos: Sequence[Photo]
    """By name; no two have the same pixels."""
    rejected: Sequence[tuple[str, str]]
    """Name and reason of each file that cannot be used."""


def find_photos(folder: Path, progress: bool = True) -> PhotoFolder:
    """Decode all images below a folder, in threads, with a progress bar.

    Raises:
        S2LDError: there is no such folder, or not one usable photograph in it.
    """
    if not folder.is_dir():
        raise S2LDError(f"{folder}: no such folder; give one with photographs")
    listing = list_photos(folder)
    paths = listing.photos
    if not paths:
        raise listing.nothing()
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda path: _read(path, folder), paths)
        outcomes = list(Progress(read, total=len(paths), desc="photographs", unit="image", disable=not progress))
    photos: list[Photo] = []
    rejected = [(path.relative_to(folder).as_posix(), reason) for path, reason in listing.others]
    by_digest: dict[str, str] = {}
    for path, outcome in zip(paths, outcomes, strict=True):
        name = path.relative_to(folder).as_posix()
        if isinstance(outcome, str):
            rejected.append((name, outcome))
            continue
        photo, digest = outcome
        if digest in by_digest:
            rejected.append((name, f"the same pixels as {by_digest[digest]}"))
            continue
        by_digest[digest] = name
        photos.append(photo)
    if not photos:
        raise S2LDError(f"{folder}: none of {len(paths)} images can be used; the first: {': '.join(rejected[0])}")
    return PhotoFolder(folder, photos, rejected)


def read_photo(path: Path, folder: Path) -> Photo | str:
    """Return a photograph below a folder, or why it cannot be used."""
    outcome = _read(path, folder)
    return outcome if isinstance(outcome, str) else outcome[0]


def _read(path: Path, folder: Path) -> tuple[Photo, str] | str:
    """Return the photograph and a digest of its pixels, or why it cannot be used."""
    if not is_portable(path.relative_to(folder).as_posix()):
        return "its name is not in UTF-8 or has control characters, which lists and data bases cannot hold; rename it"
    try:
        pixels = read_image(path)
    except S2LDError as error:
        return str(error).removeprefix(f"{printable(path)}: ")
    height, width = pixels.shape[:2]
    if min(width, height) < LEAST_SIDE:
        return f"{width} x {height} px; the shorter side must have at least {LEAST_SIDE}"
    photo = Photo(path.relative_to(folder).as_posix(), path, (width, height), *_header(path, (width, height)))
    return photo, hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _header(path: Path, size: tuple[int, int]) -> tuple[float | None, str, bool]:
    """Return focal length in px and the camera's description by EXIF, and whether the file is plain."""
    try:
        with open_header(path) as image:
            exif = image.getexif()
            details = exif.get_ifd(ExifTags.IFD.Exif)
            upright = exif.get(ExifTags.Base.Orientation, 1) == 1
            plain = upright and image.mode in PLAIN_MODES and image.format in PLAIN_FORMATS
    except Exception:  # whatever damaged or invented bytes may lead Pillow into
        return None, "", False
    equivalent = _number(details.get(ExifTags.Base.FocalLengthIn35mmFilm))
    length = _number(details.get(ExifTags.Base.FocalLength))
    tags = (exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model))
    parts = [str(tag).strip(" \0") for tag in tags if tag] + [f"{mm:g} mm" for mm in (length, equivalent) if mm]
    return (equivalent / DIAGONAL_35MM * hypot(*size) if equivalent else None), " ".join(parts), plain


def _number(value: object) -> float:
    """Return a tag as a number, 0 where it is none (an absent tag, text, or a ratio over 0)."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if 0 < number < 1e6 else 0.0
