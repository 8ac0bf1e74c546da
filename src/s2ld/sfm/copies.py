"""Working copies of photographs for SfM: upright, of one kind, not larger than needed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath

import cv2
from PIL import Image
from tqdm import tqdm

from s2ld.data.images import UInt8Image, read_image, resize
from s2ld.errors import S2LDError
from s2ld.files import whole_file
from s2ld.sfm.photos import Photo

JPEG_QUALITY = 95
KEPT = (".jpg", ".jpeg")
"""Files that are copied as they are where nothing has to be changed."""
_UPRIGHT = 1  # of the EXIF entry of that number
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class WorkingPhoto:
    """A working copy."""

    name: str
    """Relative to the folder of the copies, ends with .jpg."""
    source: str
    """Name of the photograph."""
    size: tuple[int, int]
    """Width and height of the copy, px."""
    focal: float | None
    """Focal length by EXIF, px of the copy."""
    camera: str
    """As `Photo.camera`."""


def copy_photos(
    photos: Sequence[Photo], folder: Path, max_side: int, jobs: int, progress: bool = True
) -> list[WorkingPhoto]:
    """Write the copies that are not there yet, in `jobs` threads.

    Args:
        photos: usable ones.
        folder: where to write.
        max_side: longer side of a copy, px; larger photographs are reduced.
        jobs: threads.
        progress: show a bar.

    Raises:
        S2LDError: a photograph has become unreadable, or a copy cannot be written.
    """
    copies = [
        _plan(photo, name, max_side)
        for photo, name in zip(photos, jpeg_names([photo.name for photo in photos]), strict=True)
    ]
    with ThreadPoolExecutor(jobs) as pool:
        tasks = pool.map(lambda pair: _write(pair[0], pair[1], folder / pair[1].name), zip(photos, copies, strict=True))
        list(tqdm(tasks, "copies", len(copies), unit="image", disable=not progress))
    return copies


def jpeg_names(names: Sequence[str]) -> list[str]:
    """Return a name that ends with .jpg for each image: no two are the same, none has a blank (lists hold names)."""
    taken: set[str] = set()
    found = []
    for name in names:
        clean = "_".join(name.split())
        choices = (PurePosixPath(clean).with_suffix("").as_posix(), clean.replace(".", "_"))
        numbered = (f"{choices[1]}_{number}" for number in count(2))
        stem = next(choice for choice in chain(choices, numbered) if choice.casefold() not in taken)
        taken.add(stem.casefold())
        found.append(f"{stem}.jpg")
    return found


def write_jpeg(image: UInt8Image, path: Path) -> None:
    """Write an RGB image, whole or not at all; raises `S2LDError` where it cannot be written."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise S2LDError(f"{path}: this OpenCV cannot encode JPEG; install opencv-python-headless anew")
    with whole_file(path) as part:
        part.write_bytes(data.tobytes())


def _plan(photo: Photo, name: str, max_side: int) -> WorkingPhoto:
    scale = min(1.0, max_side / max(photo.size))
    size = max(1, round(photo.size[0] * scale)), max(1, round(photo.size[1] * scale))
    return WorkingPhoto(name, photo.name, size, None if photo.focal is None else photo.focal * scale, photo.camera)


def _write(photo: Photo, copy: WorkingPhoto, path: Path) -> None:
    if path.exists():
        return
    if copy.size == photo.size and photo.path.suffix.lower() in KEPT and _is_upright(photo.path):
        with whole_file(path) as part:
            shutil.copyfile(photo.path, part)
        return
    write_jpeg(resize(read_image(photo.path), copy.size)[0], path)


def _is_upright(path: Path) -> bool:
    """Tell whether an image is stored upright; where its header cannot be read, it is written anew."""
    try:
        with Image.open(path) as image:
            return bool(image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT and image.mode in ("RGB", "L"))
    except (OSError, ValueError, SyntaxError):
        return False
