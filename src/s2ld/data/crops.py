"""Pairs of crops around what both views see, at the photographs' own resolution, instead of pairs of whole views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images.photo_cache import Photo, Window

PIXELS = 800  # of view 0 that are looked for in view 1
TOLERANCE = 0.05  # relative difference of depths that agree
TRIES = 8  # pairs of crops that are judged
OVERLAP = 0.5  # share of what either crop shows of the common pixels that ends the search
JITTER = 0.3  # of a crop's side: how far from its middle the common point lies at most

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Crops:
    """Which training pairs are crops, by the DATA.CROP node."""

    share: float
    """Of the pairs."""
    native: float
    """Share of the crops at the photographs' own resolution."""
    size: tuple[int, int]
    """Width and height, px."""


def crops_of(config: CN) -> Crops:
    """Return the crops of a DATA node."""
    node = config.CROP
    return Crops(node.SHARE, node.NATIVE, (int(config.IMAGE_SIZE[0]), int(config.IMAGE_SIZE[1])))


def is_crop(crops: Crops, rng: np.random.Generator) -> bool:
    """Draw whether a pair is one of crops; without a share nothing is drawn."""
    return crops.share > 0 and bool(rng.random() < crops.share)


def draw_scales(crops: Crops, whole: Sequence[float], rng: np.random.Generator) -> list[float]:
    """Draw for each view how many px of the photograph a px of its crop covers.

    All have 1, for a share `native` of the pairs, or else each its own between 1 and the whole, evenly in the
    logarithm; a photograph that is smaller than a crop is enlarged to fill it.

    Args:
        crops: which crops.
        whole: for each view, px of the photograph per px of the crop where the crop shows as much as it can.
        rng: source of all randomness.
    """
    native = rng.random() < crops.native
    return [min(1.0, most) if native else float(most ** rng.random()) if most > 1 else most for most in whole]


def common_windows(
    photos: tuple[Photo, Photo], T_0to1: Array, crops: Crops, rng: np.random.Generator
) -> tuple[Window, Window] | None:
    """Draw a window of each photo around a point that both see, by depth; None where no such point is found.

    Of `TRIES` draws the first is taken in which one window shows at least `OVERLAP` of the common points in the other,
    or the one that comes nearest.

    Args:
        photos: as stored, with depth.
        T_0to1: (4, 4).
        crops: which crops.
        rng: source of all randomness.
    """
    common = common_points(photos, T_0to1, rng)
    if not len(common[0]):
        return None
    width, height = crops.size
    sizes = [(photo.image.shape[1], photo.image.shape[0]) for photo in photos]
    best, most = None, -1.0
    for _ in range(TRIES):
        scales = draw_scales(crops, [min(w / width, h / height) for w, h in sizes], rng)
        point = int(rng.integers(len(common[0])))
        pair = [
            _window(points[point], (round(width * scale), round(height * scale)), size, rng)
            for points, scale, size in zip(common, scales, sizes, strict=True)
        ]
        inside = [_inside(points, window) for points, window in zip(common, pair, strict=True)]
        both = float((inside[0] & inside[1]).sum())
        overlap = max(both / max(float(part.sum()), 1.0) for part in inside)
        if overlap > most:
            best, most = (pair[0], pair[1]), overlap
        if most >= OVERLAP:
            break
    return best


def common_points(photos: tuple[Photo, Photo], T_0to1: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return places (P, 2) px in either photo of points that both see: the depths agree; at most `PIXELS`."""
    depth0, depth1 = photos[0].depth, photos[1].depth
    assert depth0 is not None
    assert depth1 is not None
    pixels = rng.integers(0, depth0.size, PIXELS)
    y, x = np.divmod(pixels, depth0.shape[1])
    z = depth0[y, x].astype(np.float64)
    places0 = np.stack([x, y], 1)[z > 0].astype(np.float64)
    z = z[z > 0]
    X = np.column_stack([places0, np.ones(len(z))]) @ np.linalg.inv(photos[0].K).T * z[:, None]
    X = X @ T_0to1[:3, :3].T + T_0to1[:3, 3]
    ahead = X[:, 2] > 0
    places1 = (X @ photos[1].K.T)[:, :2] / np.where(ahead, X[:, 2], 1.0)[:, None]
    nearest = np.floor(places1 + 0.5)
    inside = ahead & (nearest >= 0).all(1) & (nearest < depth1.shape[::-1]).all(1)
    column, row = np.where(inside[:, None], nearest, 0).astype(np.int64).T
    found = depth1[row, column]
    seen = inside & (found > 0) & (np.abs(X[:, 2] - found) <= TOLERANCE * found)
    return places0[seen], places1[seen]


def _window(point: Array, size: tuple[int, int], limits: tuple[int, int], rng: np.random.Generator) -> Window:
    """Return a window of `size` around a point, not always in its middle, within an image of `limits`."""
    jitter = rng.uniform(-JITTER, JITTER, 2)
    left, top = (
        int(np.clip(round(float(at) - side * (0.5 + shift)), 0, limit - side))
        for at, side, shift, limit in zip(point, size, jitter, limits, strict=True)
    )
    return left, top, size[0], size[1]


def _inside(points: Array, window: Window) -> NDArray[np.bool_]:
    left, top, width, height = window
    return np.asarray(((points >= (left, top)) & (points <= (left + width - 1, top + height - 1))).all(1))
