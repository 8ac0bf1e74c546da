"""What surfaces look like: photographs from a folder or, where there is none, procedural patterns."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.given import given
from s2ld.data.images.photo_folders import list_photos
from s2ld.data.images.reading import UInt8Image, read_image
from s2ld.errors import S2LDError

PROCEDURAL_COUNT = 1024  # patterns that a bank without photographs offers
PROCEDURAL_SIDE = 512  # px

Rng = np.random.Generator
Pattern = NDArray[np.float32]


class TextureBank:
    """Textures by index: the photographs of a folder in the order of their names, or procedural patterns.

    Args:
        folder: folder of photographs (not searched deeper), or "" for `PROCEDURAL_COUNT` procedural patterns.
        cache: number of decoded textures kept, the least recently used one leaves first. A photograph of
            640×480 px takes 0.9 MB, in each loader process.
        exclude: beginnings of file names that are left out.
        held_out: share of the photographs, by their names (`is_held_out`), that is left out.
        unseen: take these instead of the others; all where the share is 0.

    Raises:
        S2LDError: the folder is missing or has no photographs.
    """

    def __init__(
        self, folder: str, cache: int = 0, exclude: Sequence[str] = (), held_out: float = 0.0, unseen: bool = False
    ) -> None:
        self._photos: list[Path] = []
        self._cache: OrderedDict[int, UInt8Image] = OrderedDict()
        self._capacity = cache
        if not folder:
            return
        try:
            photos = list_photos(Path(folder), deeper=False).photos
        except S2LDError as error:
            raise S2LDError(f"{error}; set DATA.PHOTOS") from error
        self._photos = [p for p in photos if not p.name.startswith(tuple(exclude))]
        if not self._photos:
            raise S2LDError(
                f"{folder}: no photographs here, or all are in DATA.PHOTOS_EXCLUDE; set DATA.PHOTOS, or empty it"
            )
        if held_out:
            self._photos = [p for p in self._photos if is_held_out(p.name, held_out) == unseen]
        if not self._photos:
            raise S2LDError(
                f"{folder}: none of its photographs is {'' if unseen else 'not '}held out; there are too few for "
                f"DATA.PHOTOS_HELD_OUT {held_out:g}"
            )

    @classmethod
    def of(cls, config: CN, cache: int = 0, unseen: bool = False) -> TextureBank:
        """Return the bank of a DATA node: what training may show or, `unseen`, what is held out from it.

        Raises:
            S2LDError: DATA.PHOTOS is asked for and not given, or what the class says.
        """
        return cls(str(given(config.PHOTOS, "PHOTOS")), cache, config.PHOTOS_EXCLUDE, config.PHOTOS_HELD_OUT, unseen)

    @classmethod
    def of_files(cls, photos: Sequence[Path], cache: int = 0) -> TextureBank:
        """Return a bank of these photographs, in this order; `cache` is that of the class."""
        bank = cls("", cache)
        bank._photos = list(photos)
        return bank

    @property
    def names(self) -> list[str]:
        """Names of the photographs, by index; empty where there are none."""
        return [p.name for p in self._photos]

    def __len__(self) -> int:
        return len(self._photos) or PROCEDURAL_COUNT

    def get(self, index: int) -> UInt8Image:
        """Return texture `index` as (H, W, 3) RGB uint8, not to be written to.

        Raises:
            S2LDError: the photograph cannot be read; the message names the file.
            IndexError: there is no such texture.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"texture {index} of {len(self)}")
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        image = read_image(self._photos[index]) if self._photos else procedural_texture(index)
        if self._capacity > 0:
            if len(self._cache) >= self._capacity:
                self._cache.popitem(last=False)
            self._cache[index] = image
        return image


def is_held_out(name: str, share: float) -> bool:
    """Tell whether a photograph is among the `share` that is held out, a function of its file name alone.

    So other photographs in the folder change nothing, and those of a smaller share are among those of a larger one.
    """
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def procedural_texture(index: int) -> UInt8Image:
    """Return pattern `index`, (512, 512, 3) RGB uint8: two colours mixed by a pattern, over cloudy noise."""
    rng = np.random.Generator(np.random.PCG64([index, PROCEDURAL_SIDE]))
    mix = PATTERNS[index % len(PATTERNS)](rng)
    dark, light = rng.uniform(0, 140, 3), rng.uniform(110, 255, 3)
    colour = dark + (light - dark) * mix[..., None]
    clouds = 1.0 + rng.uniform(0.1, 0.5) * (_clouds(rng) - 0.5)
    return np.asarray(np.clip(colour * clouds[..., None], 0, 255), np.uint8)


def _clouds(rng: Rng) -> Pattern:
    """Noise of several octaves in [0, 1]: a random grid is doubled and finer noise added, up to the full size."""
    persistence = rng.uniform(0.6, 0.95)
    total, side = np.zeros((4, 4), np.float32), 4
    while side < PROCEDURAL_SIDE:
        total = np.float32(1 / persistence) * total + rng.random(total.shape, np.float32)
        side *= 2
        total = np.asarray(cv2.resize(total, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
    low, high = total.min(), total.max()
    return np.asarray((total - low) / (high - low), np.float32)


def _checkers(rng: Rng) -> Pattern:
    """A board of fields in random greys, so that no two places look alike."""
    fields = rng.random((int(rng.integers(6, 33)), int(rng.integers(6, 33))), np.float32)
    board = cv2.resize(fields, (PROCEDURAL_SIDE, PROCEDURAL_SIDE), interpolation=cv2.INTER_NEAREST)
    return np.asarray(board, np.float32)


def _canvas(rng: Rng) -> UInt8Image:
    return np.full((PROCEDURAL_SIDE, PROCEDURAL_SIDE), int(rng.integers(60, 200)), np.uint8)


def _unit(canvas: UInt8Image) -> Pattern:
    return canvas.astype(np.float32) / np.float32(255.0)


def _lines(rng: Rng) -> Pattern:
    canvas = _canvas(rng)
    for _ in range(int(rng.integers(40, 160))):
        start, end = rng.integers(0, PROCEDURAL_SIDE, (2, 2)).tolist()
        cv2.line(canvas, start, end, int(rng.integers(256)), int(rng.integers(1, 8)), cv2.LINE_AA)
    return _unit(canvas)


def _spots(rng: Rng) -> Pattern:
    canvas = _canvas(rng)
    for _ in range(int(rng.integers(100, 500))):
        centre = rng.integers(0, PROCEDURAL_SIDE, 2).tolist()
        axes = rng.integers(2, 30, 2).tolist()
        angle = rng.uniform(0.0, 180.0)
        cv2.ellipse(canvas, centre, axes, angle, 0.0, 360.0, int(rng.integers(256)), -1, cv2.LINE_AA)
    return _unit(canvas)


def _letters(rng: Rng) -> Pattern:
    canvas = _canvas(rng)
    for _ in range(int(rng.integers(60, 220))):
        text = "".join(chr(code) for code in rng.integers(33, 127, int(rng.integers(1, 6))))
        at = rng.integers(-20, PROCEDURAL_SIDE, 2).tolist()
        font, size = int(rng.integers(0, 8)), rng.uniform(0.4, 3.0)
        cv2.putText(canvas, text, at, font, size, int(rng.integers(256)), int(rng.integers(1, 5)), cv2.LINE_AA)
    return _unit(canvas)


def _bricks(rng: Rng) -> Pattern:
    """Courses of bricks, every second one shifted by half a brick; bricks differ a little in brightness."""
    canvas = np.full((PROCEDURAL_SIDE, PROCEDURAL_SIDE), int(rng.integers(0, 256)), np.uint8)
    height, width, joint = int(rng.integers(16, 64)), int(rng.integers(32, 128)), int(rng.integers(2, 6))
    base, spread = rng.uniform(80, 180), rng.uniform(10, 60)
    for row, top in enumerate(range(0, PROCEDURAL_SIDE, height)):
        for left in range(-(row % 2) * width // 2, PROCEDURAL_SIDE, width):
            level = int(np.clip(base + rng.uniform(-spread, spread), 0, 255))
            cv2.rectangle(canvas, (left, top), (left + width - joint, top + height - joint), level, -1)
    return _unit(canvas)


PATTERNS: tuple[Callable[[Rng], Pattern], ...] = (_clouds, _checkers, _lines, _spots, _letters, _bricks)
