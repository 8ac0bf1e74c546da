"""Photographs of one view in other light, hung on a wall: viewpoint and light change together, geometry is exact.

A folder has a file of groups in JSON: for each set (a folder below it) the places, and for each place the files that
show it from one viewpoint, pixel by pixel: ``{set: {place: [file, ...]}}``. All pairs within a place are pairs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.given import given
from s2ld.data.images.reading import UInt8Image, to_grey
from s2ld.data.images.textures import TextureBank
from s2ld.data.sample import PairSample
from s2ld.data.sources.wall_views import Wall, draw_wall_cameras, see_wall
from s2ld.data.teacher import TeacherFile
from s2ld.errors import S2LDError
from s2ld.files import portable_name, read_text

CACHED_PHOTOS = 400  # about 0.3 GB a loader process
BLANK_WINDOW = 15  # photograph px: side of the square that must be without texture around a blank pixel
BLANK_DEVIATION = 2.0  # grey levels: standard deviation in that square below which it may be blank ...
BLANK_RANGE = 10.0  # ... and the difference of its lightest and darkest level below which it is


@dataclass(frozen=True)
class Place:
    """One view, several times."""

    name: str
    """Set and place, ``set/place``."""
    files: tuple[Path, ...]
    """At least two."""

    @property
    def pairs(self) -> int:
        """Number of unordered pairs of its files."""
        return len(self.files) * (len(self.files) - 1) // 2


class LightPairs:
    """Pairs of one view in two lights, each view warped by a camera of its own, a pure function of (seed, index).

    Training draws a place with a probability that grows with the square root of its number of pairs, and changes the
    views further (DATA.PHOTOMETRIC); the other splits go through the held-out places in turn and keep the light as it
    is. What has no texture in either photograph (burnt out, black) has unknown depth.

    A teacher's points are those of the place's clearest photograph in all of its pairs, whichever light they show: so a
    point has one label and one descriptor in every light.

    Args:
        config: the DATA node (IMAGE_SIZE, LIGHT, HOMOGRAPHY, PHOTOMETRIC).
        split: train: the places that are not held out; val and test: those that are.
        seed: of the source.
        length: number of pairs.
        teacher: what another network says of the photographs, to be in the samples; it changes nothing else in them.

    Raises:
        S2LDError: DATA.LIGHT.ROOT is not given, what `read_places` says, no place is left, or the teacher lacks a
            photograph; `__getitem__`: a photograph cannot be read, or the photographs of a place are of unlike sizes.
    """

    def __init__(
        self,
        config: CN,
        split: Literal["train", "val", "test"],
        seed: int,
        length: int,
        teacher: TeacherFile | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.length = length
        self._train = split == "train"
        node = config.LIGHT
        groups = Path(str(given(node.ROOT, "LIGHT.ROOT"))) / node.GROUPS
        held_out, others = divide(read_places(groups), node.VAL_EVERY, node.VAL_PLACES)
        excluded = tuple(f"{name}/" for name in (node.TRAIN_EXCLUDE if self._train else node.VAL_EXCLUDE))
        self.places = [place for place in (others if self._train else held_out) if not place.name.startswith(excluded)]
        if not self.places:
            raise S2LDError(f"{groups}: no place is left for {split}; see DATA.LIGHT.VAL_EVERY, *_EXCLUDE and the file")
        files = [file for place in self.places for file in place.files]
        self._starts = np.cumsum([0, *(len(place.files) for place in self.places)])
        self.bank = TextureBank.of_files(files, CACHED_PHOTOS)  # all photographs, place after place
        weights = np.sqrt([place.pairs for place in self.places])
        self._bounds = np.cumsum(weights) / weights.sum()
        self.teacher = teacher
        self._clearest: dict[int, int] = {}
        if teacher is not None:
            self._names = [os.path.relpath(file, node.ROOT) for file in files]
            teacher.check(self._names)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairSample:
        if not 0 <= index < self.length:
            raise IndexError(f"pair {index} of {self.length}")
        rng = np.random.Generator(np.random.PCG64([self.seed, index]))
        which, photos = self._draw(index, rng)
        height, width = photos[0].shape[:2]
        lesson = None
        if self.teacher is not None:
            lesson = self.teacher.lesson(self._names[self._find_clearest(which)], (width, height), (self.seed, index))
        wall = Wall(photos, blank(photos), lesson)
        cameras = draw_wall_cameras(width, height, self.config, rng, index if self._train else None)
        name = f"light/{self.places[which].name.split('/')[0]}"
        photometric = self.config.PHOTOMETRIC if self._train else None
        return see_wall(wall, cameras, self.config, rng, lambda: self._backdrop(rng), name, photometric)

    def _draw(self, index: int, rng: np.random.Generator) -> tuple[int, tuple[UInt8Image, UInt8Image]]:
        """Return the number of a place and two of its photographs."""
        which = index % len(self.places)
        if self._train:
            which = min(int(np.searchsorted(self._bounds, rng.random(), side="right")), len(self.places) - 1)
        place = self.places[which]
        numbers = rng.choice(len(place.files), 2, replace=False)
        first, second = (self.bank.get(int(self._starts[which] + number)) for number in numbers)
        if first.shape != second.shape:
            raise S2LDError(f"{place.files[numbers[1]]}: not of the size of {place.files[numbers[0]]}; take it out")
        return which, (first, second)

    def _find_clearest(self, which: int) -> int:
        """Return the number, in the bank, of the photograph of a place that has the smallest blank area."""
        if which not in self._clearest:
            numbers = range(int(self._starts[which]), int(self._starts[which + 1]))
            self._clearest[which] = min(numbers, key=lambda number: float(blank([self.bank.get(number)]).mean()))
        return self._clearest[which]

    def _backdrop(self, rng: np.random.Generator) -> UInt8Image:
        return self.bank.get(int(rng.integers(len(self.bank))))


def read_places(path: Path) -> list[Place]:
    """Read a file of groups.

    Raises:
        S2LDError: it is missing, is not JSON or of another form.
    """
    text = read_text(path, "list of groups", "set DATA.LIGHT.ROOT")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise S2LDError(f"{path}: not JSON ({error}); write it anew") from error
    if not isinstance(content, dict) or not all(isinstance(places, dict) for places in content.values()):
        raise S2LDError(f"{path}: must hold {{set: {{place: [file, file, ...]}}}}; write it anew")
    return [
        _place(path, f"{name}/{place}", name, files)
        for name, places in sorted(content.items())
        for place, files in sorted(places.items())
    ]


def _place(path: Path, name: str, folder: str, files: Any) -> Place:
    if not isinstance(files, list) or len(files) < 2 or not all(isinstance(file, str) for file in files):
        raise S2LDError(f"{path}: {name} must list at least two files; correct it")
    return Place(name, tuple(path.parent / folder / portable_name(file, str(path)) for file in files))


def divide(places: Sequence[Place], every: int, names: Sequence[str]) -> tuple[list[Place], list[Place]]:
    """Return the places that are held out, and the others.

    Args:
        places: by set and name, as `read_places` returns them.
        every: of each set, the places number `every`, 2 `every` ... are held out; 0: none.
        names: further ones, ``set/place``.

    Raises:
        S2LDError: there is no place of a name.
    """
    missing = set(names) - {place.name for place in places}
    if missing:
        raise S2LDError(f"DATA.LIGHT.VAL_PLACES: there is no place {sorted(missing)[0]}; correct the list")
    counts: dict[str, int] = {}
    held_out: list[Place] = []
    others: list[Place] = []
    for place in places:
        folder = place.name.split("/")[0]
        counts[folder] = counts.get(folder, 0) + 1
        is_held = place.name in names or (every > 0 and counts[folder] % every == 0)
        (held_out if is_held else others).append(place)
    return held_out, others


def blank(photos: Sequence[UInt8Image]) -> NDArray[np.uint8]:
    """Return (H, W) 255 where any of the photographs (H, W, 3) has no texture: burnt out, black, or plain."""
    masks = []
    square = (BLANK_WINDOW, BLANK_WINDOW)
    for photo in photos:
        grey = to_grey(photo)
        values = grey.astype(np.float32)
        mean, squares = cv2.blur(values, square), cv2.sqrBoxFilter(values, cv2.CV_32F, square)
        kernel = np.ones(square, np.uint8)
        spread = cv2.subtract(cv2.dilate(grey, kernel), cv2.erode(grey, kernel))
        masks.append((squares - mean * mean < BLANK_DEVIATION**2) & (spread < BLANK_RANGE))
    return np.asarray(np.any(masks, axis=0), np.uint8) * np.uint8(255)
