"""Decoded photographs with depth and intrinsics: kept in memory, and cut."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.data.images.photo_files import nearest
from s2ld.data.images.reading import UInt8Image, resize
from s2ld.geometry.camera import rescale_intrinsics

Depth = NDArray[np.float32]
Window = tuple[int, int, int, int]
"""Left, top, width, height of a part of an image, px."""
Key = tuple[int, int, bool]
"""Scene, image, and whether it is as stored."""


@dataclass(frozen=True)
class Photo:
    """A decoded image, whole or a part of it, as stored or resized."""

    image: UInt8Image
    """(H, W, 3) RGB or (H, W) grey."""
    depth: Depth | None
    """(H, W) z, 0 unknown; None where none is read."""
    K: NDArray[np.float64]
    """(3, 3) px of `image`, pixel centres at integers."""
    scale: tuple[float, float]
    """px of the stored image per px of `image`, (x, y)."""

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return self.image.nbytes + (0 if self.depth is None else self.depth.nbytes)


class PhotoCache:
    """Keeps the photos used last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._photos: OrderedDict[Key, Photo] = OrderedDict()

    def get(self, key: Key) -> Photo | None:
        """Return the photo of a key, which is then the last used, or None."""
        if key in self._photos:
            self._photos.move_to_end(key)
        return self._photos.get(key)

    def put(self, key: Key, photo: Photo) -> None:
        """Keep a photo that is not there yet; the least recently used leave for it."""
        self._photos[key] = photo
        self._used += photo.size_bytes
        while self._used > self._limit:
            self._used -= self._photos.popitem(last=False)[1].size_bytes


class RescaledImages:
    """Warns of images whose size is not that of their intrinsics: at the 1st, 10th, 100th ... that this process meets.

    Args:
        counts: number of images of each scene.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self._starts = np.cumsum([0, *counts])
        self._seen = np.zeros(int(self._starts[-1]), bool)

    def add(self, which: int, image: int, path: Path) -> None:
        """Count image `image` of scene `which`, once however often it is read."""
        place = int(self._starts[which]) + image
        if self._seen[place]:
            return
        self._seen[place] = True
        count = int(self._seen.sum())
        if 10 ** round(math.log10(count)) == count:
            warnings.warn(
                f"{path}: of another size than its intrinsics, which are rescaled (image {count} of this kind in this "
                "process; s2ld check-data counts all)",
                stacklevel=2,
            )


def cut(photo: Photo, window: Window, size: tuple[int, int]) -> Photo:
    """Return a part of a photo as stored, resized.

    Args:
        photo: the whole, of scale (1, 1).
        window: the part.
        size: (width, height) that it is resized to, px.
    """
    left, top, width, height = window
    rows, columns = slice(top, top + height), slice(left, left + width)
    image, scale = resize(np.ascontiguousarray(photo.image[rows, columns]), size)
    depth = None if photo.depth is None else nearest(photo.depth[rows, columns], image.shape[:2], scale)
    K = torch.tensor(photo.K)
    K[:2, 2] -= torch.tensor([left, top], dtype=K.dtype)
    K = rescale_intrinsics(K, torch.tensor(scale, dtype=K.dtype))
    return Photo(image, depth, K.numpy(), scale)


def middle(height: int, width: int, to_width: int, to_height: int) -> Window:
    """Return the largest part of the shape `to_width` to `to_height`, at the middle."""
    factor = min(width / to_width, height / to_height)
    part_height, part_width = min(round(factor * to_height), height), min(round(factor * to_width), width)
    return (width - part_width) // 2, (height - part_height) // 2, part_width, part_height
