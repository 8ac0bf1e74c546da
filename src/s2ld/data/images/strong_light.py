"""Strong changes of light in one view: night, lamps, hard shadows, haze, other film; and what they leave to match."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images.reading import UInt8Image

DISPLAY_GAMMA = 2.2  # of stored grey values: light is the grey value to this power
MAP_REDUCTION = 4  # smooth maps of light are drawn this many times smaller
AMBIENT = (1.0, 5.0)  # stops by which a night is darker than the photograph
LAMPS = 5  # of a night or less
BRIGHTEST = (0.15, 0.9)  # display range: where a night's exposure puts the brightest twentieth of the view
LONGEST_EXPOSURE = 5.0  # stops that it brightens at most
SHOT_NOISE, READ_NOISE = 2e-3, 4e-3  # largest variance for a unit of light, and largest deviation in the dark
SPOT = (0.5, 3.0)  # stops by which what is beside a spot of light is darker
SHADOW = (1.0, 3.5)  # stops of a hard shadow
HAZE = (0.15, 0.7)  # share of the light that comes through
LOST_WINDOW = 15  # px: side of the square in which the texture of before and after is compared
LOST_DEVIATION = 3.0  # grey levels: what had less texture before cannot lose it
LOST_CORRELATION = 0.3  # below it the texture of before is gone

Rng = np.random.Generator
Map = NDArray[np.float32]


def has_strong_light(config: CN) -> bool:
    """Tell whether the DATA.PHOTOMETRIC node asks for any of these changes."""
    asked = max(config.NIGHT, config.LOCAL_LIGHT, config.HAZE, config.FILM) > 0
    return bool(asked and config.ENABLED and config.KIND == "ladder")


def draw_film(rng: Rng) -> NDArray[np.float32]:
    """Draw shares (1, 3) of red, green and blue in grey, any that sum to 1: filters, films, sensors, strong casts."""
    return rng.dirichlet((1.0, 1.0, 1.0)).astype(np.float32)[None]


def night(grey: UInt8Image, rng: Rng) -> UInt8Image:
    """Take most of the light away, put up to `LAMPS` lamps in and expose for what is left, with its noise."""
    height, width = grey.shape
    light = np.asarray(cv2.LUT(grey, _LINEAR), np.float32)
    lit, glare = _lamps(height, width, rng)
    light = cv2.multiply(light, _full(lit, width, height)) + _full(glare, width, height)
    gain = min(rng.uniform(*BRIGHTEST) ** DISPLAY_GAMMA / max(float(np.quantile(light[::4, ::4], 0.95)), 1e-6), 1e6)
    gain = min(gain, 2.0**LONGEST_EXPOSURE)
    shot, read = rng.uniform(0, SHOT_NOISE), rng.uniform(0, READ_NOISE)
    light += rng.standard_normal(light.shape, np.float32) * np.sqrt(shot * light + np.float32(read**2))
    black = rng.uniform(0.0, 0.5) * max(float(np.median(light[::4, ::4])), 0.0)
    return _display((light - np.float32(black)) * np.float32(gain))


def local_light(grey: UInt8Image, rng: Rng) -> UInt8Image:
    """Light one spot of the view, or throw hard shadows over it: some shapes, or the bars of a fence."""
    height, width = grey.shape
    mask = np.zeros((height, width), np.float32)
    if rng.random() < 0.5:
        _ellipse(mask, rng)
        mask, stops = 1 - mask, rng.uniform(*SPOT)
        sigma = rng.uniform(0.5, 0.05 * width)
    else:
        (_bars if rng.random() < 0.4 else _shapes)(mask, rng)
        stops, sigma = rng.uniform(*SHADOW), rng.uniform(0.3, 1.5)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)
    brighten = rng.uniform(0.0, 0.6) * stops  # the exposure follows what has become dark
    factor = 2.0 ** ((brighten - stops * mask) / DISPLAY_GAMMA)
    return np.asarray(cv2.multiply(grey, factor.astype(np.float32), dtype=cv2.CV_8U), np.uint8)


def haze(grey: UInt8Image, rng: Rng) -> UInt8Image:
    """Mix bright air in, of a share that changes over the view."""
    height, width = grey.shape
    ends = rng.uniform(*HAZE, 2)
    air = rng.uniform(130.0, 250.0)
    y, x = np.linspace(0, 1, 8, dtype=np.float32)[:, None], np.linspace(0, 1, 8, dtype=np.float32)
    slant = rng.uniform(-0.5, 0.5)
    through = np.clip(ends[0] + (ends[1] - ends[0]) * (y + slant * (x - 0.5)), *HAZE).astype(np.float32)
    through = _full(through, width, height)
    return np.asarray(np.clip(grey * through + np.float32(air) * (1 - through), 0, 255), np.uint8)


def lost_texture(before: UInt8Image, after: UInt8Image) -> NDArray[np.bool_]:
    """Return (H, W) where `before` has texture that `after` does not show: too dark, burnt out, or under noise.

    Args:
        before, after: (H, W) grey.
    """
    square = (LOST_WINDOW, LOST_WINDOW)
    a, b = before.astype(np.float32), after.astype(np.float32)
    mean_a, mean_b = cv2.blur(a, square), cv2.blur(b, square)
    variance_a = cv2.sqrBoxFilter(a, cv2.CV_32F, square) - mean_a * mean_a
    variance_b = cv2.sqrBoxFilter(b, cv2.CV_32F, square) - mean_b * mean_b
    covariance = cv2.blur(a * b, square) - mean_a * mean_b
    alike = covariance > LOST_CORRELATION * np.sqrt(np.maximum(variance_a * variance_b, 0.25))
    return np.asarray((variance_a > LOST_DEVIATION**2) & ~alike, np.bool_)


_LINEAR = ((np.arange(256) / 255.0) ** DISPLAY_GAMMA).astype(np.float32)
_STEPS = 4095
_DISPLAYED = np.rint(255 * (np.arange(_STEPS + 1) / _STEPS) ** (1 / DISPLAY_GAMMA)).astype(np.uint8)


def _display(light: Map) -> UInt8Image:
    return np.asarray(_DISPLAYED[np.clip(light * np.float32(_STEPS), 0, _STEPS).astype(np.uint16)], np.uint8)


def _full(small: Map, width: int, height: int) -> Map:
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _lamps(height: int, width: int, rng: Rng) -> tuple[Map, Map]:
    """Return how much of the day's light falls on each place, and the glare of lamps in sight, in small maps."""
    rows, columns = max(2, height // MAP_REDUCTION), max(2, width // MAP_REDUCTION)
    lit = np.full((rows, columns), 2.0 ** -rng.uniform(*AMBIENT), np.float32)
    glare = np.zeros_like(lit)
    y, x = np.arange(rows, dtype=np.float32)[:, None], np.arange(columns, dtype=np.float32)
    for _ in range(int(rng.integers(0, LAMPS + 1))):
        at, side = rng.uniform(-0.1, 1.1, 2) * (columns, rows), max(rows, columns)
        square = (x - np.float32(at[0])) ** 2 + (y - np.float32(at[1])) ** 2
        strength, reach = 2.0 ** -rng.uniform(0, 2), rng.uniform(0.08, 0.5) * side
        lit += np.float32(strength) / (1 + square / np.float32(reach**2)) ** 1.5
        glare += np.float32(strength * rng.uniform(0, 1)) * np.exp(-square / np.float32((0.02 * side) ** 2))
    return lit, glare


def _ellipse(mask: Map, rng: Rng) -> None:
    height, width = mask.shape
    centre = rng.uniform(0.1, 0.9, 2) * (width, height)
    axes = rng.uniform(0.15, 0.5, 2) * max(width, height)
    box = (centre.tolist(), (2 * axes).tolist(), float(rng.uniform(0, 180)))
    cv2.ellipse(mask, box, 1.0, -1)


def _shapes(mask: Map, rng: Rng) -> None:
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 4))):
        corners = rng.uniform(-0.3, 1.3, (int(rng.integers(3, 6)), 2)) * (width, height)
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1.0)


def _bars(mask: Map, rng: Rng) -> None:
    height, width = mask.shape
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.05, 0.3) * max(width, height)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    phase = (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y) / np.float32(period) + rng.random()
    mask[phase % 1 < rng.uniform(0.2, 0.6)] = 1.0
