"""Photographs beside their depth maps, to see at a glance what a scene teaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.reading import UInt8Image, read_image, resize

SHOWN = 12
TILE = (240, 180)
"""Width and height of an image in the montage, px."""
COLUMNS = 3
"""Photographs a row, each with its depth map at its right."""


def depth_picture(depth: NDArray[np.float32], limits: tuple[float, float]) -> UInt8Image:
    """Return (H, W, 3) RGB: near is red, far is blue, even in inverse depth between `limits`; unknown is black."""
    near, far = (1 / limit for limit in limits)
    known = depth > 0
    share = (1 / np.where(known, depth, 1.0) - far) / max(near - far, 1e-12)
    colour = cv2.applyColorMap((255 * share.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(known[..., None], colour, 0).astype(np.uint8)


def depth_montage(images: Sequence[Path], depths: Sequence[NDArray[np.float32]]) -> UInt8Image:
    """Return a picture (RGB) of up to `SHOWN` images, spread over them, beside their depth maps in common colours."""
    count = min(SHOWN, len(images))
    chosen = [int((i + 0.5) * len(images) / count) for i in range(count)]
    values = np.concatenate([depths[i][depths[i] > 0] for i in chosen])
    limits = (float(np.percentile(values, 2)), float(np.percentile(values, 98))) if len(values) else (1.0, 2.0)
    tiles = []
    for i in chosen:
        image = read_image(images[i], upright=False)
        tiles.append(np.hstack([_tile(image), _tile(depth_picture(depths[i], limits))]))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[row : row + COLUMNS]) for row in range(0, len(tiles), COLUMNS)]
    return np.vstack(rows)


def _tile(image: UInt8Image) -> UInt8Image:
    """Fit an image into a tile; what is left over is black."""
    factor = min(TILE[0] / image.shape[1], TILE[1] / image.shape[0])
    small = resize(image, (max(1, int(image.shape[1] * factor)), max(1, int(image.shape[0] * factor))))[0]
    tile = np.zeros((TILE[1], TILE[0], 3), np.uint8)
    top, left = (TILE[1] - small.shape[0]) // 2, (TILE[0] - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile
