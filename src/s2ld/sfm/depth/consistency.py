"""Which depths of a map to believe: those that the maps of other images confirm, in pieces that are not specks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.geometry.camera import project, unproject
from s2ld.geometry.pose import relative_pose, transform
from s2ld.geometry.warp import sample_depth

_LEVELS = 4  # whole numbers a speckle step, for OpenCV compares those


@dataclass(frozen=True)
class DepthView:
    """A depth map and its camera at the same size."""

    depth: Tensor
    """(H, W) float32 z, 0 unknown."""
    K: Tensor
    """(3, 3) float64, px of `depth`."""
    pose: Tensor
    """(4, 4) float64, world to camera."""


def count_agreeing(view: DepthView, others: Sequence[DepthView], tolerance: float) -> Tensor:
    """Return how many other maps confirm each depth, (H, W) int64, 0 where it is unknown.

    A map confirms a point where its z there differs from the depth at the nearest pixel by at most `tolerance`,
    relative to it.
    """
    height, width = view.depth.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2).to(view.K)
    depth = view.depth.reshape(-1).to(view.K)
    known = depth > 0
    points = unproject(pixels[known], depth[known], view.K)
    count = torch.zeros(height * width, dtype=torch.int64)
    for other in others:
        there, z = project(transform(relative_pose(view.pose, other.pose), points), other.K)
        found = sample_depth(other.depth[None].to(z), there[None])[0]
        count[known] += ((found > 0) & ((z - found).abs() <= tolerance * found)).long()
    return count.reshape(height, width)


def remove_speckles(depth: NDArray[np.float32], size: int, step: float) -> NDArray[np.float32]:
    """Return a map (H, W) without the connected pieces (4 neighbours, relative steps up to `step`) below `size` px."""
    known = depth > 0
    if not known.any() or size <= 1:
        return depth
    logarithm = np.log(depth, where=known, out=np.zeros_like(depth))
    levels = (logarithm - logarithm[known].min()) * (_LEVELS / step) + 1
    image = np.where(known, np.minimum(levels, np.iinfo(np.int16).max), 0).astype(np.int16)
    cv2.filterSpeckles(image, 0, size - 1, _LEVELS)
    return np.where(image > 0, depth, np.float32(0))
