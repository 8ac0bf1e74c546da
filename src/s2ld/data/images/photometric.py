"""Photometric change of one rendered or warped view: what light, lens, sensor and compression do to a photograph."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images.photometric_lineage import dark, mobile
from s2ld.data.images.reading import UInt8Image, to_grey
from s2ld.data.images.strong_light import draw_film, has_strong_light, haze, local_light, lost_texture, night
from s2ld.errors import S2LDError

SHADOW_REDUCTION = 4  # shadows are smooth: their map is drawn this many times smaller
LINEAGE = {"dark": dark, "mobile": mobile}
Float = TypeVar("Float", np.float32, np.float64)
MOTION_PER_SIGMA = 12.0**0.5  # a box of length 12^(1/2) sigma has the standard deviation sigma


def change_view(
    image: UInt8Image, depth: NDArray[Float], config: CN, rng: np.random.Generator, change: float = 1.0
) -> tuple[UInt8Image, NDArray[Float]]:
    """Return `augment`'s view, and its depth, unknown (0) where strong light has left nothing of the texture.

    Args:
        image, config, rng, change: as for `augment`.
        depth: (H, W) z; not written to.
    """
    grey = augment(image, config, rng, change)
    if has_strong_light(config):
        depth = np.where(lost_texture(to_grey(image), grey), depth.dtype.type(0), depth)
    return grey, depth


def augment(image: UInt8Image, config: CN, rng: np.random.Generator, change: float | None = 1.0) -> UInt8Image:
    """Return a grey view of `image` as another camera at another hour would have taken it.

    Of the kind ladder, exposure, gamma and colour cast always change; shadow, blur, noise and JPEG each with
    `config.PROBABILITY`, in the order in which light, lens, sensor and file follow each other. Before these come the
    strong changes of `s2ld.data.images.strong_light`, each with its own probability, of which pairs of little change of
    viewpoint have a share. The kinds dark and mobile are LoFTR's (`s2ld.data.images.photometric_lineage`).

    Args:
        image: (H, W, 3) RGB or (H, W) grey uint8.
        config: the DATA.PHOTOMETRIC node; without ENABLED the plain grey image is returned.
        rng: source of all randomness.
        change: of the viewpoint between the views (`s2ld.data.viewpoint`), in [0, 1]; None: nothing strong.

    Returns:
        (H, W) uint8 grey.
    """
    if not config.ENABLED:
        return to_grey(image)
    if config.KIND in LINEAGE:
        return LINEAGE[config.KIND](image, rng)
    share = 0.0 if change is None else config.NARROW + (1 - config.NARROW) * change

    def comes(probability: float) -> bool:
        return probability > 0 and bool(rng.random() < probability * share)

    grey = _develop(image, config, rng, draw_film(rng) if comes(config.FILM) else None)
    for probability, strong in ((config.LOCAL_LIGHT, local_light), (config.HAZE, haze), (config.NIGHT, night)):
        if comes(probability):
            grey = strong(grey, rng)
    if rng.random() < config.PROBABILITY:
        grey = _shadow(grey, config.SHADOW, rng)
    if rng.random() < config.PROBABILITY:
        grey = _blur(grey, config.BLUR, rng)
    if rng.random() < config.PROBABILITY:
        grey = _noise(grey, config.NOISE, rng)
    if rng.random() < config.PROBABILITY:
        grey = _jpeg(grey, config.JPEG, rng)
    return grey


def _develop(image: UInt8Image, config: CN, rng: np.random.Generator, film: NDArray[np.float32] | None) -> UInt8Image:
    """Exposure (stops), gamma and a gain a channel, by one look-up table a channel, then grey, by shares if given."""
    exposure = 2.0 ** rng.uniform(-config.EXPOSURE, config.EXPOSURE)
    gamma = np.exp(rng.uniform(*np.log(config.GAMMA)))
    gains = exposure * (1.0 + rng.uniform(-config.COLOUR_CAST, config.COLOUR_CAST, 3))
    levels = np.linspace(0.0, 1.0, 256)[:, None]
    table = np.rint(255.0 * np.clip(gains * levels, 0.0, 1.0) ** gamma).astype(np.uint8)
    if image.ndim == 2:
        return np.asarray(cv2.LUT(image, table[:, 1]), np.uint8)
    developed = np.asarray(cv2.LUT(image, table.reshape(1, 256, 3)), np.uint8)
    return to_grey(developed) if film is None else np.asarray(cv2.transform(developed, film), np.uint8)


def _shadow(grey: UInt8Image, strength: float, rng: np.random.Generator) -> UInt8Image:
    """Darken by up to `strength` inside a soft random polygon, or along a gradient across the image."""
    height, width = (max(2, side // SHADOW_REDUCTION) for side in grey.shape)
    if rng.random() < 0.5:
        shade = _gradient(height, width, rng)
    else:
        corners = rng.uniform(-0.2, 1.2, (int(rng.integers(3, 7)), 2)) * (width, height)
        shade = np.zeros((height, width), np.float32)
        cv2.fillPoly(shade, [np.rint(corners).astype(np.int32)], 1.0)
        shade = np.asarray(cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.5, 0.03 * width + 0.5)), np.float32)
    light = 1.0 - rng.uniform(0.0, strength) * shade
    full = cv2.resize(light.astype(np.float32), grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(grey, full, dtype=cv2.CV_8U), np.uint8)


def _gradient(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    x, y = np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height)[:, None]
    slope = np.cos(angle) * x + np.sin(angle) * y
    return np.asarray(np.clip(0.5 + 0.5 * slope, 0.0, 1.0), np.float32)


def _blur(grey: UInt8Image, largest: float, rng: np.random.Generator) -> UInt8Image:
    """Blur by a Gaussian, or along a line (camera shake), of a standard deviation of up to `largest` px."""
    sigma = rng.uniform(0.0, largest)
    length = sigma * MOTION_PER_SIGMA
    angle = rng.uniform(0.0, np.pi)
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(grey, (0, 0), max(sigma, 1e-3)), np.uint8)
    radius = int(np.ceil(0.5 * length)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    for step in np.linspace(-0.5, 0.5, 4 * radius + 1):  # dense enough that each crossed tap is hit
        x, y = radius + step * length * np.cos(angle), radius + step * length * np.sin(angle)
        left, top = int(x), int(y)
        fx, fy = x - left, y - top
        kernel[top : top + 2, left : left + 2] += np.outer((1 - fy, fy), (1 - fx, fx))
    return np.asarray(cv2.filter2D(grey, -1, kernel / kernel.sum()), np.uint8)


def _noise(grey: UInt8Image, largest: float, rng: np.random.Generator) -> UInt8Image:
    """Add white noise of a standard deviation of up to `largest` of the full range."""
    noise = rng.standard_normal(grey.shape, np.float32)
    noise *= 255.0 * rng.uniform(0.0, largest)
    return np.asarray(cv2.add(grey, noise, dtype=cv2.CV_8U), np.uint8)


def _jpeg(grey: UInt8Image, quality: tuple[int, int], rng: np.random.Generator) -> UInt8Image:
    done, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(quality[0], quality[1] + 1))])
    if not done:
        raise S2LDError(f"DATA.PHOTOMETRIC.JPEG: this OpenCV cannot encode an image of {grey.shape} as JPEG")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
