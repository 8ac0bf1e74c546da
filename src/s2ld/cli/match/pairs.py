"""Which image files are to be matched: two paths, one or two folders, or a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.data.images.photo_folders import list_photos
from s2ld.data.index.pair_lists import read_pair_list
from s2ld.errors import S2LDError

if TYPE_CHECKING:  # it loads torch
    from s2ld.pair_matching import PathPair

TILE = 8  # images of a folder that are matched with as many others before the next ones come


def pairs_from_folders(folder0: Path, folder1: Path) -> tuple[list[PathPair], list[str]]:
    """Pair the images of two folders by name, or in sorted order where no name is in both.

    Equal file names are partners; of the images that are left, those whose names without suffix are equal and occur
    once in each folder. Where they occur more often, it cannot be told which belong together.

    Returns:
        The pairs, and one line for each image without a partner and for each picture that is not read.

    Raises:
        S2LDError: a folder is missing or has no images, or there are no common names and unlike counts.
    """
    (images0, alone0), (images1, alone1) = _images(folder0), _images(folder1)
    by_name0, by_name1 = {path.name: path for path in images0}, {path.name: path for path in images1}
    pairs = [(by_name0[name], by_name1[name]) for name in by_name0.keys() & by_name1.keys()]
    used = {path for pair in pairs for path in pair}
    stems0, stems1 = (_by_stem(path for path in images if path not in used) for images in (images0, images1))
    doubtful: list[str] = []
    for stem in stems0.keys() & stems1.keys():
        same = stems0.pop(stem), stems1.pop(stem)
        if len(same[0]) == len(same[1]) == 1:
            pairs.append((same[0][0], same[1][0]))
        else:
            names = [" and ".join(path.name for path in paths) for paths in same]
            doubtful += [
                f"{path}: which images belong together, {names[0]} of {folder0} or {names[1]} of {folder1}, their "
                "names do not tell"
                for path in (*same[0], *same[1])
            ]
    if not pairs and not doubtful:
        if len(images0) != len(images1):
            raise S2LDError(
                f"{folder0} has {len(images0)} images, {folder1} has {len(images1)}, and no file name is in both; "
                "give the partners equal names, or list them with --pairs"
            )
        return list(zip(images0, images1, strict=True)), [*alone0, *alone1]
    if not pairs:
        raise S2LDError(f"{sorted(doubtful)[0]}; give the partners equal names, or list them with --pairs")
    lonely0 = [f"{path}: no image of this name in {folder1}" for paths in stems0.values() for path in paths]
    lonely1 = [f"{path}: no image of this name in {folder0}" for paths in stems1.values() for path in paths]
    return sorted(pairs), [*sorted(doubtful), *sorted(lonely0), *sorted(lonely1), *alone0, *alone1]


def all_pairs(folder: Path) -> list[PathPair]:
    """Pair each image of a folder with each other one.

    They come in tiles, pairs among 2 x `TILE` images after each other, so that the features of few images need be kept.

    Raises:
        S2LDError: the folder is missing or has less than two images.
    """
    images, _ = _images(folder)
    if len(images) < 2:
        raise S2LDError(f"{folder}: one image makes no pair; put more into the folder")
    order = sorted(combinations(range(len(images)), 2), key=lambda pair: (pair[0] // TILE, pair[1] // TILE))
    return [(images[i], images[j]) for i, j in order]


def unread_pictures(folder: Path) -> list[str]:
    """Return a line for each picture of a folder that is not read, with the reason; raises as `all_pairs`."""
    return _images(folder)[1]


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


def _images(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images of a folder, and a line for each picture in it that is not read."""
    listing = list_photos(folder, deeper=False)
    if not listing.photos:
        raise listing.nothing("images")
    return list(listing.photos), [f"{path}: {reason}" for path, reason in listing.others]


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found
