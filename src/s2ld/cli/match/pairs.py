"""Which image files are to be matched: two paths, one or two folders, or a list."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.data.images.reading import PHOTO_SUFFIXES
from s2ld.data.index.pair_lists import read_pair_list
from s2ld.errors import S2LDError

if TYPE_CHECKING:  # it loads torch
    from s2ld.pair_matching import PathPair

TILE = 8  # images of a folder that are matched with as many others before the next ones come


def pairs_from_folders(folder0: Path, folder1: Path) -> tuple[list[PathPair], list[str]]:
    """Pair the images of two folders: by file name without suffix, or in sorted order where no name is in both.

    Returns:
        The pairs, and one line for each image whose name the other folder lacks.

    Raises:
        S2LDError: a folder is missing or has no images, or there are no common names and unlike counts.
    """
    images0, images1 = _images(folder0), _images(folder1)
    by_name0, by_name1 = {p.stem: p for p in images0}, {p.stem: p for p in images1}
    common = by_name0.keys() & by_name1.keys()
    if common:
        alone = [f"{p}: no image of this name in {folder1}" for p in images0 if p.stem not in common]
        alone += [f"{p}: no image of this name in {folder0}" for p in images1 if p.stem not in common]
        return [(by_name0[name], by_name1[name]) for name in sorted(common)], alone
    if len(images0) != len(images1):
        raise S2LDError(
            f"{folder0} has {len(images0)} images, {folder1} has {len(images1)}, and no file name is in both; "
            "give the partners equal names, or list them with --pairs"
        )
    return list(zip(images0, images1, strict=True)), []


def all_pairs(folder: Path) -> list[PathPair]:
    """Pair each image of a folder with each other one.

    They come in tiles, pairs among 2 x `TILE` images after each other, so that the features of few images need be kept.

    Raises:
        S2LDError: the folder is missing or has less than two images.
    """
    images = _images(folder)
    if len(images) < 2:
        raise S2LDError(f"{folder}: one image makes no pair; put more into the folder")
    order = sorted(combinations(range(len(images)), 2), key=lambda pair: (pair[0] // TILE, pair[1] // TILE))
    return [(images[i], images[j]) for i, j in order]


def pairs_from_list(path: Path) -> list[PathPair]:
    """Read a text file with two image paths a line, relative to its folder; empty lines and # comments are skipped.

    A path that holds spaces is separated from the other by a tab or a comma.

    Raises:
        S2LDError: the list is missing, empty, or a line has not two paths.
    """
    pairs = []
    for number, names in read_pair_list(path):
        if len(names) != 2:
            raise S2LDError(f"{path}:{number}: a line must hold two image paths, not {len(names)}")
        pairs.append((path.parent / names[0], path.parent / names[1]))
    if not pairs:
        raise S2LDError(f"{path}: this list holds no pairs; write two image paths a line")
    return pairs


def unique_names(pairs: Sequence[PathPair]) -> list[str]:
    """Return a name for the output files of each pair, all of them different: STEM0-STEM1, with a number if needed."""
    taken: set[str] = set()
    names = []
    for path0, path1 in pairs:
        base = name = f"{path0.stem}-{path1.stem}"
        number = 2
        while name.lower() in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise S2LDError(f"{folder}: no such folder of images; check the path")
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file())
    if not images:
        raise S2LDError(f"{folder}: no images in this folder ({' '.join(sorted(PHOTO_SUFFIXES))})")
    return images
