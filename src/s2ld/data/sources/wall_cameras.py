"""Cameras before a photograph that hangs on a wall, drawn so that two of them see much of the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN

TRIES = 20  # draws of the second camera until the overlap fits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WallCamera:
    """A camera before the wall z = 0, whose unit is one texture px; x right, y down."""

    K: Array
    R: Array
    t: Array

    @property
    def wall_to_image(self) -> Array:
        """(3, 3) homography from texture px to image px."""
        return np.asarray(self.K @ np.column_stack([self.R[:, 0], self.R[:, 1], self.t]), np.float64)


@dataclass(frozen=True)
class WideRanges:
    """Of a pair of `draw_wide_cameras`."""

    tilt: float
    """Largest tilt of the wall against a camera, degrees."""
    zoom: tuple[float, float]
    """Least and largest scale of one view against the other, both at most 1."""
    turn: float
    """Largest in-plane rotation of one view against the other, degrees, either way."""


def wide_ranges(config: CN, drawn: int | None = None) -> WideRanges:
    """Return the ranges of the DATA.HOMOGRAPHY node after so many pairs; None: the full ones.

    They grow from those of START, evenly in the angles and in the logarithm of the scale, and are a function of the
    number alone, so that a resumed run, or one of other processes, goes on with them.
    """
    share = 1.0 if drawn is None or config.CURRICULUM == 0 else min(1.0, drawn / config.CURRICULUM)

    def between(start: float, end: float) -> float:
        return start + share * (end - start)

    start = config.START
    least = float(np.exp(between(np.log(start.ZOOM), np.log(config.ZOOM[0]))))
    return WideRanges(
        between(start.TILT, config.TILT), (min(least, config.ZOOM[1]), config.ZOOM[1]), between(start.TURN, config.TURN)
    )


def draw_cameras(
    width: int,
    height: int,
    config: CN,
    rng: np.random.Generator,
    drawn: int | None = None,
    texture_px: float | None = None,
) -> tuple[WallCamera, WallCamera]:
    """Draw two cameras before a photograph of `width` × `height` px whose overlap fits the config, or comes nearest.

    Args:
        width, height: of the photograph, px.
        config: the DATA node.
        rng: source of all randomness.
        drawn: pairs of the run before this one, for HOMOGRAPHY.CURRICULUM; None: the full ranges.
        texture_px: px of the photograph that a px of the first view covers (WIDE: of both, in the mean); None: drawn so
            that the view shows half to all of the photograph.
    """
    view = np.array(config.IMAGE_SIZE, np.float64)
    h = config.HOMOGRAPHY
    if texture_px is None:
        texture_px = rng.uniform(0.5, 1.0) * whole_scale(width, height, config)
    if h.WIDE:
        return _draw_wide(width, height, config, wide_ranges(h, drawn), texture_px, rng)
    free = np.array([width, height]) - texture_px * view
    target = np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * free
    first = look_at(target, texture_px, rng.uniform(0, h.TILT), rng.normal(0, h.ROTATION) / 2, view, h.FOV, rng)
    best, best_miss = first, np.inf
    for _ in range(TRIES):
        zoom = float(np.exp(rng.uniform(*np.log(h.ZOOM))))
        zoom = 1 / zoom if rng.random() < 0.5 else zoom
        shift = rng.uniform(-0.6, 0.6, 2) * texture_px * view
        roll = rng.normal(0, h.ROTATION)
        second = look_at(target + shift, texture_px / zoom, rng.uniform(0, h.TILT), roll, view, h.FOV, rng)
        overlap = wall_overlap(first, second, view, width, height)
        miss = max(h.OVERLAP[0] - overlap, overlap - h.OVERLAP[1], 0.0)
        if miss < best_miss:
            best, best_miss = second, miss
        if miss == 0:
            break
    return (first, best) if rng.random() < 0.5 else (best, first)


def _draw_wide(
    width: int, height: int, config: CN, ranges: WideRanges, mean_px: float, rng: np.random.Generator
) -> tuple[WallCamera, WallCamera]:
    """Draw tilts, turn and scale, each evenly over its range, and then places for the cameras until they overlap.

    The overlap is that of the view which shows less. Drawing the cameras alone anew keeps the hard pairs: those of the
    largest change, which seldom fit at the first try. The tilt of the second view is at most half of the range, or two
    views from opposite sides would have next to nothing in common.
    """
    view = np.array(config.IMAGE_SIZE, np.float64)
    h, photo = config.HOMOGRAPHY, np.array([width, height], np.float64)
    tilts = rng.uniform(0, ranges.tilt), rng.uniform(0, ranges.tilt / 2)
    ratio = float(np.exp(rng.uniform(*np.log(ranges.zoom)) * rng.choice((-0.5, 0.5))))
    texture_px = mean_px * ratio, mean_px / ratio
    roll = rng.normal(0, h.ROTATION) / 2
    rolls = roll, roll + rng.uniform(-ranges.turn, ranges.turn)
    best, best_miss = None, np.inf
    for _ in range(TRIES):
        free = np.maximum(photo - texture_px[0] * view, 0.0)
        target = photo / 2 + rng.uniform(-0.5, 0.5, 2) * free
        targets = target, target + rng.uniform(-0.4, 0.4, 2) * max(texture_px) * view
        pair = [look_at(*drawn, view, h.FOV, rng) for drawn in zip(targets, texture_px, tilts, rolls, strict=True)]
        ways = (pair, pair[::-1])
        overlap = max(wall_overlap(first, second, view, width, height) for first, second in ways)
        miss = max(h.OVERLAP[0] - overlap, overlap - h.OVERLAP[1], 0.0)
        if miss < best_miss:
            best, best_miss = pair, miss
        if miss == 0:
            break
    assert best is not None
    return (best[0], best[1]) if rng.random() < 0.5 else (best[1], best[0])


def whole_scale(width: int, height: int, config: CN) -> float:
    """Return how many px of a photograph of `width` × `height` px a view's px covers where it just fills the view."""
    return float(min(width / config.IMAGE_SIZE[0], height / config.IMAGE_SIZE[1]))


def look_at(
    target: Array, texture_px: float, tilt: float, roll: float, view: Array, span: list[float], rng: np.random.Generator
) -> WallCamera:
    """A camera that looks at `target` (texture px) from `tilt` degrees off the normal, `texture_px` per image px.

    `span` are the least and largest horizontal field of view, degrees.
    """
    fov = rng.uniform(span[0], span[1])
    focal = view[0] / 2 / np.tan(np.radians(fov) / 2)
    distance = focal * texture_px
    azimuth, angle = rng.uniform(0, 2 * np.pi), np.radians(tilt)
    z = np.array([np.sin(angle) * np.cos(azimuth), np.sin(angle) * np.sin(azimuth), np.cos(angle)])
    x = np.array([1.0, 0, 0]) - z[0] * z
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    R = np.stack([c * x + s * y, c * y - s * x, z])
    centre = np.append(target, 0.0) - distance * z
    K = np.array([[focal, 0, (view[0] - 1) / 2], [0, focal, (view[1] - 1) / 2], [0, 0, 1]])
    return WallCamera(K, R, -R @ centre)


def wall_overlap(first: WallCamera, second: WallCamera, view: Array, width: int, height: int) -> float:
    """Share of the first view that shows the photograph and is seen by the second."""
    x, y = np.meshgrid(np.linspace(0, view[0] - 1, 12), np.linspace(0, view[1] - 1, 9))
    grid = np.stack([x, y], -1).reshape(-1, 2)
    on_wall, before0 = map_points(inverse(first.wall_to_image), grid)
    seen, before1 = map_points(second.wall_to_image, on_wall)
    on_photo = ((on_wall >= 0) & (on_wall <= (width - 1, height - 1))).all(1)
    in_view = ((seen >= 0) & (seen <= view - 1)).all(1)
    return float((on_photo & in_view & before0 & before1).mean())


def inverse(H: Array) -> Array:
    """Return the inverse of a homography (3, 3)."""
    return np.asarray(np.linalg.inv(H), np.float64)


def map_points(H: Array, points: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Apply H (3, 3) to points (P, 2) and tell which are before the camera (w > 0); the others mean nothing."""
    homogeneous = points @ H[:, :2].T + H[:, 2]
    w = homogeneous[:, 2]
    good = w > 1e-9
    return homogeneous[:, :2] / np.where(good, w, 1.0)[:, None], good
