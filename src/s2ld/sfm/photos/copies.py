"""Working copies of photographs for SfM: upright, of one kind, not larger than needed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath

from s2ld.data.images.reading import read_image, resize, write_image
from s2ld.files import whole_file
from s2ld.log import Progress
from s2ld.sfm.photos.usable import Photo


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
        tasks = pool.map(lambda photo, copy: copy_photo(photo, folder / copy.name, copy.size), photos, copies)
        list(Progress(tasks, "copies", len(copies), unit="image", disable=not progress))
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


def copy_photo(photo: Photo, path: Path, size: tuple[int, int]) -> None:
    """Write a photograph upright, unless the file is there already; linked where nothing has to be changed.

    Args:
        photo: what to write.
        path: the file; its suffix says which kind.
        size: width and height of the copy, px.

    Raises:
        S2LDError: the photograph has become unreadable, or the copy cannot be written.
    """
    if path.exists():
        return
    if photo.plain and size == photo.size and _kind(path) == _kind(photo.path):
        with whole_file(path) as part:
            _link(photo.path, part)
    else:
        write_image(resize(read_image(photo.path), size)[0], path)


def _plan(photo: Photo, name: str, max_side: int) -> WorkingPhoto:
    scale = min(1.0, max_side / max(photo.size))
    size = max(1, round(photo.size[0] * scale)), max(1, round(photo.size[1] * scale))
    return WorkingPhoto(name, photo.name, size, None if photo.focal is None else photo.focal * scale, photo.camera)


def _kind(path: Path) -> str:
    return path.suffix.lower().replace("jpeg", "jpg")


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it to where there are no links between disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
