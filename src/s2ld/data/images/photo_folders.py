"""Which files of a folder are photographs, and which pictures in it are not read and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2ld.data.images.image_files import HEIF_SUFFIXES, PHOTO_SUFFIXES
from s2ld.errors import S2LDError
from s2ld.files import printable

_RAW = frozenset({".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"})
_FILMS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".insv"})
_PICTURES = frozenset({".gif", ".jxl", ".psd", ".exr", ".hdr", ".tga", ".jfif", ".jpe", ".pnm", ".j2k", ".insp"})
_ADVICE = {
    **dict.fromkeys(HEIF_SUFFIXES, "pip install pillow-heif to read it, or convert it to JPEG"),
    **dict.fromkeys(_RAW, "a raw picture; develop it to JPEG or TIFF"),
    **dict.fromkeys(_FILMS, "a film; take frames of it"),
    **dict.fromkeys(_PICTURES, "pictures of this kind are not read; convert it to JPEG or PNG"),
}


@dataclass(frozen=True)
class PhotoListing:
    """The files of a folder."""

    folder: Path
    photos: Sequence[Path]
    """Files with one of `PHOTO_SUFFIXES`, by path."""
    others: Sequence[tuple[Path, str]]
    """Pictures, films and folders that are not read, by path, and the reason."""

    def nothing(self, what: str = "image") -> S2LDError:
        """Return the error that a folder without photographs is; `what` it has none of."""
        found = ""
        if self.others:
            path, reason = self.others[0]
            found = f"; {len(self.others)} cannot be read, the first: {printable(path.name)}: {reason}"
        kinds = " ".join(sorted(PHOTO_SUFFIXES))
        return S2LDError(f"{printable(self.folder)}: no {what} in this folder ({kinds}){found}")


def list_photos(folder: Path, deeper: bool = True) -> PhotoListing:
    """Return the photographs of a folder.

    Folders behind links count as well. Each folder is looked into once, so that no link leads round for ever.

    Args:
        folder: to look into.
        deeper: look into the folders in it too.

    Raises:
        S2LDError: it is no folder, or cannot be listed.
    """
    if not folder.is_dir():
        raise S2LDError(f"{printable(folder)}: no such folder of images; check the path")
    photos: list[Path] = []
    others: list[tuple[Path, str]] = []
    for path, problem in _files(folder, deeper):
        suffix = path.suffix.lower()
        if problem:
            others.append((path, problem))
        elif suffix in PHOTO_SUFFIXES:
            if path.is_file():
                photos.append(path)
            else:
                others.append((path, "no file: a pipe, a device, or a link that leads nowhere"))
        elif suffix in _ADVICE:
            others.append((path, _ADVICE[suffix]))
    return PhotoListing(folder, sorted(photos), sorted(others))


def _files(folder: Path, deeper: bool) -> Iterator[tuple[Path, str]]:
    """Yield what lies in a folder and is none, and folders that cannot be listed with the reason.

    Links are followed after all else: what is there and behind a link too has the name without the link.
    """
    seen: set[tuple[int, int]] = set()
    own, linked = [folder], list[Path]()
    while own or linked:
        here = (own or linked).pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if here == folder:
                raise S2LDError(f"{printable(folder)}: cannot list this folder ({error.strerror})") from error
            yield here, f"cannot list this folder ({error.strerror})"
            continue
        for entry in entries:
            path = here / entry.name
            if not path.is_dir():
                yield path, ""
            elif deeper:
                (linked if entry.is_symlink() else own).append(path)
