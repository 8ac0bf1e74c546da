"""The photometric changes `dark` and `mobile` of LoFTR and its descendants, on OpenCV alone.

Which effects, in which order, how probable and how strong are LoFTR's settings (Sun et al., CVPR 2021,
``src/utils/augment.py``) with the defaults and formulas of albumentations 0.5 behind them, which it is written for; the
random numbers are others. Strengths are fixed, since they are what the names stand for: other DATA.PHOTOMETRIC keys say
nothing here. Effects follow each other on 8-bit RGB, and the result turns grey at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.reading import UInt8Image, to_grey

Rng = np.random.Generator
Effect = Callable[[UInt8Image, Rng], UInt8Image]
LEVELS = np.arange(256, dtype=np.float64)


def dark(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Return a grey image as at night, (H, W) uint8, of an RGB or grey one; one in four stays as it is."""
    return _apply(image, _DARK if rng.random() < 0.75 else (), rng)


def mobile(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Return a grey image as of a phone in the hand, (H, W) uint8, of an RGB or grey one."""
    return _apply(image, _MOBILE, rng)


def _apply(image: UInt8Image, effects: Sequence[tuple[float, Effect]], rng: Rng) -> UInt8Image:
    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8) if image.ndim == 2 else image
    for probability, effect in effects:
        if rng.random() < probability:
            rgb = effect(rgb, rng)
    return to_grey(rgb)


def _look_up(image: UInt8Image, table: NDArray[np.float64]) -> UInt8Image:
    """Replace each level by that of a table (256,), clipped to 8 bits."""
    return np.asarray(cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)), np.uint8)


def _dim(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Contrast times 0.5 to 1.3, then up to 0.6 of the full range less."""
    return _look_up(image, rng.uniform(0.5, 1.3) * LEVELS - rng.uniform(0.0, 0.6) * 255)


def _box_blur(image: UInt8Image, rng: Rng) -> UInt8Image:
    side = _odd(3, 9, rng)
    return np.asarray(cv2.blur(image, (side, side)), np.uint8)


def _motion_blur(largest: int) -> Effect:
    """Return the mean along a random line in a square of 3 to `largest` px."""

    def effect(image: UInt8Image, rng: Rng) -> UInt8Image:
        side = _odd(3, largest, rng)
        start, end = (divmod(int(cell), side) for cell in rng.choice(side * side, 2, replace=False))
        kernel = np.zeros((side, side), np.float32)
        cv2.line(kernel, start, end, 1.0)
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)

    return effect


def _odd(least: int, largest: int, rng: Rng) -> int:
    return int(rng.choice(np.arange(least, largest + 1, 2)))


def _gamma(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Exponent 0.15 to 0.65: this one brightens, in a change that is called dark."""
    return _look_up(image, 255 * (LEVELS / 255) ** rng.uniform(0.15, 0.65))


def _darken_value(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Hue (of 180), saturation and value shifted, the value by 40 to 100 levels down."""
    hsv = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    shifts = (rng.uniform(-20, 20), rng.uniform(-30, 30), rng.uniform(-100, -40))
    tables = ((LEVELS + shifts[0]) % 180, LEVELS + shifts[1], LEVELS + shifts[2])
    shifted = [_look_up(np.asarray(plane, np.uint8), table) for plane, table in zip(hsv, tables, strict=True)]
    return np.asarray(cv2.cvtColor(cv2.merge(shifted), cv2.COLOR_HSV2RGB), np.uint8)


def _jitter(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Brightness, contrast and saturation times 0.8 to 1.2 and hue by a fifth of the circle, in random order."""

    def brightness(rgb: UInt8Image, factor: float) -> UInt8Image:
        return _look_up(rgb, LEVELS * factor)

    def contrast(rgb: UInt8Image, factor: float) -> UInt8Image:
        return _look_up(rgb, LEVELS * factor + float(to_grey(rgb).mean()) * (1 - factor))

    def saturation(rgb: UInt8Image, factor: float) -> UInt8Image:
        grey = cv2.cvtColor(to_grey(rgb), cv2.COLOR_GRAY2RGB)
        return np.asarray(cv2.addWeighted(rgb, factor, grey, 1 - factor, 0), np.uint8)

    def hue(rgb: UInt8Image, factor: float) -> UInt8Image:
        hsv = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), np.uint8)
        hsv[..., 0] = _look_up(hsv[..., 0], (LEVELS + 180 * (factor - 1)) % 180)
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)

    steps = (brightness, contrast, saturation, hue)
    for step in rng.permutation(len(steps)):
        image = steps[step](image, rng.uniform(0.8, 1.2))
    return image


def _rain(image: UInt8Image, rng: Rng) -> UInt8Image:
    """A slanted grey stroke of 20 px for every 600 px², blurred by a box of 7 px, lightness times 0.7."""
    height, width = image.shape[:2]
    slant, length = int(rng.integers(-10, 11)), 20
    wet = image.copy()
    columns = rng.integers(min(slant, 0), width - max(slant, 0) + 1, height * width // 600)
    rows = rng.integers(0, max(height - length, 0) + 1, len(columns))
    for x, y in zip(columns.tolist(), rows.tolist(), strict=True):
        cv2.line(wet, (x, y), (x + slant, y + length), (200, 200, 200), 1)
    hls = np.asarray(cv2.cvtColor(cv2.blur(wet, (7, 7)), cv2.COLOR_RGB2HLS), np.uint8)
    hls[..., 1] = _look_up(hls[..., 1], 0.7 * LEVELS)
    return np.asarray(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB), np.uint8)


def _sun_flare(image: UInt8Image, rng: Rng) -> UInt8Image:
    """A sun of 400 px radius in the upper half that fades outwards, and 6 to 10 faint discs on a line through it."""
    height, width = image.shape[:2]
    sun = np.array([rng.uniform(0, width), rng.uniform(0, height / 2)])
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    flared = image.copy()
    for _ in range(int(rng.integers(6, 11))):
        centre = sun + rng.uniform(-1, 1) * max(height, width) * direction
        colour = rng.integers(205, 256, 3).tolist()
        radius = int(rng.integers(1, max(height // 100 - 2, 2) + 1)) ** 3
        flared = _disc(flared, centre, radius, colour, rng.uniform(0.05, 0.2))
    rings = 40
    for ring in range(1, rings):  # from the middle outwards, ever fainter
        flared = _disc(flared, sun, 400 * ring // rings, (255, 255, 255), (1 - ring / rings) ** 3)
    return flared


def _disc(
    image: UInt8Image, centre: NDArray[np.float64], radius: int, colour: Sequence[int], opacity: float
) -> UInt8Image:
    covered = cv2.circle(image.copy(), np.rint(centre).astype(int).tolist(), radius, list(colour), -1)
    return np.asarray(cv2.addWeighted(covered, opacity, image, 1 - opacity, 0), np.uint8)


def _jpeg(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Quality 99 or 100: next to nothing, but what the lineage's default is."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(99, 101))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _sensor_noise(image: UInt8Image, rng: Rng) -> UInt8Image:
    """Poisson noise on the lightness, as large as its deviation times 0.1 to 0.5, and normal noise on the hue."""
    hls = np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HLS), np.float32)
    hue, lightness = hls[..., 0], hls[..., 1]
    strength, colour_shift = rng.uniform(0.1, 0.5), rng.uniform(0.01, 0.05)
    brighter = rng.poisson(255 * strength * float(lightness.std()), lightness.shape) / 255
    noisy_hue = (hue + rng.normal(0, 360 * colour_shift * strength, hue.shape)) % 360
    noisy = np.stack([noisy_hue, lightness + brighter * (1 - lightness), hls[..., 2]], -1).astype(np.float32)
    return np.asarray(np.clip(255 * cv2.cvtColor(noisy, cv2.COLOR_HLS2RGB), 0, 255), np.uint8)


_DARK: tuple[tuple[float, Effect], ...] = (
    (0.75, _dim),
    (0.1, _box_blur),
    (0.2, _motion_blur(25)),
    (0.1, _gamma),
    (0.1, _darken_value),
)
_MOBILE: tuple[tuple[float, Effect], ...] = (
    (0.25, _motion_blur(7)),
    (0.5, _jitter),
    (0.1, _rain),
    (0.1, _sun_flare),
    (0.25, _jpeg),
    (0.25, _sensor_noise),
)
"""Probability and effect, in the order in which they are applied."""
