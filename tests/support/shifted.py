"""Two cuts of one texture, of which every true match is known."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHIFT = (12, 5)
"""px right and down from image 1 to image 0."""


def shifted_pair(height: int, width: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return two images (height, width, 3); what is at p in image 0 is at p - `SHIFT` in image 1."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 5, width // 5, 3), np.uint8)
    whole = cv2.resize(small, (width + SHIFT[0], height + SHIFT[1]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(whole[:height, :width], np.uint8), np.asarray(whole[SHIFT[1] :, SHIFT[0] :], np.uint8)


def as_tensor(image: NDArray[np.uint8]) -> Tensor:
    """Return (3, H, W) float32 in [0, 1] of (H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1) / 255


def share_right(points0: Tensor, points1: Tensor) -> float:
    """Return the share of matches (M, 2) px that are within 1 px of the truth."""
    error = (points0 - torch.tensor(SHIFT) - points1).norm(dim=1)
    return float((error <= 1).float().mean())
