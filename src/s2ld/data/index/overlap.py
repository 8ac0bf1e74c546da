"""How much of one image another one shows, by depth: overlap, triangulation angle and scale of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.log import Progress

Depth = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairMeasures:
    """All pairs (i, j), i < j, of n images whose overlap is not 0."""

    pairs: NDArray[np.int64]
    """(m, 2)."""
    overlap: NDArray[np.float32]
    """(m) in [0, 1]: the smaller of both directions."""
    angle_deg: NDArray[np.float32]
    """(m) median triangulation angle over the points that image i sees in image j, degrees."""
    scale_ratio: NDArray[np.float32]
    """(m) median over the same points of the size in image j over the size in image i, px."""


@dataclass(frozen=True)
class _Points:
    """What one image knows, on its grid."""

    count: int
    world: Array
    """(P, 3)."""
    size: Array
    """(P) px that a unit of length takes, f / z."""


@dataclass(frozen=True)
class _Direction:
    share: float
    angle: float
    scale: float


def measure_pairs(
    depths: Sequence[Depth], K: Array, poses: Array, grid: int, tolerance: float, progress: bool = True
) -> PairMeasures:
    """Measure all pairs of n images.

    Overlap is the share of the pixels with depth of image i, on a grid, that land in image j on a pixel whose depth
    agrees; those that land where image j knows no depth count as not overlapping, so that the visible overlap is
    larger.

    Args:
        depths: (n) of (H, W) z, 0 unknown.
        K: (n, 3, 3) px of the depth maps, pixel centres at integers.
        poses: (n, 4, 4) world to camera.
        grid: px between rows and columns that are looked at.
        tolerance: relative difference of depths that agree.
        progress: show a bar.
    """
    count = len(depths)
    points = [_grid_points(depths[i], K[i], poses[i], grid) for i in range(count)]
    rows: list[tuple[int, int]] = []
    values: list[tuple[float, float, float]] = []
    for i in Progress(range(count), "overlap", unit="image", disable=not progress):
        for j in range(i + 1, count):
            there = _see(points[i], depths[j], K[j], poses[i], poses[j], tolerance)
            if not there.share:
                continue
            back = _see(points[j], depths[i], K[i], poses[j], poses[i], tolerance)
            if back.share:
                rows.append((i, j))
                values.append((min(there.share, back.share), there.angle, there.scale))
    overlap, angle, scale = np.array(values, np.float32).reshape(-1, 3).T
    return PairMeasures(np.array(rows, np.int64).reshape(-1, 2), overlap, angle, scale)


def _grid_points(depth: Depth, K: Array, pose: Array, grid: int) -> _Points:
    y, x = np.meshgrid(np.arange(0, depth.shape[0], grid), np.arange(0, depth.shape[1], grid), indexing="ij")
    z = depth[y, x].astype(np.float64)
    known = z > 0
    x, y, z = x[known], y[known], z[known]
    rays = np.stack([(x - K[0, 2] - K[0, 1] * (y - K[1, 2]) / K[1, 1]) / K[0, 0], (y - K[1, 2]) / K[1, 1]], 1)
    local = np.column_stack([rays * z[:, None], z]) - pose[:3, 3]
    return _Points(len(z), local @ pose[:3, :3], K[0, 0] / z)


def _see(points: _Points, depth: Depth, K: Array, own: Array, pose: Array, tolerance: float) -> _Direction:
    """Look at the points of the image of pose `own` in the one of `depth`, `K` and `pose`."""
    local = points.world @ pose[:3, :3].T + pose[:3, 3]
    ahead = np.flatnonzero(local[:, 2] > 0)
    z = local[ahead, 2]
    pixels = np.floor((local[ahead] @ K[:2].T) / z[:, None] + 0.5)
    inside = ((pixels >= 0) & (pixels < depth.shape[::-1])).all(1)
    ahead, z, (column, row) = ahead[inside], z[inside], pixels[inside].astype(np.int64).T
    found = depth[row, column]
    agree = (found > 0) & (np.abs(z - found) <= tolerance * found)
    chosen = ahead[agree]
    if not len(chosen):
        return _Direction(0.0, 0.0, 1.0)
    world = points.world[chosen]
    rays = [world + p[:3, :3].T @ p[:3, 3] for p in (own, pose)]
    across = np.linalg.norm(np.cross(*rays), axis=1)
    angle = np.degrees(np.arctan2(across, (rays[0] * rays[1]).sum(1)))
    scale = K[0, 0] / z[agree] / points.size[chosen]
    return _Direction(len(chosen) / points.count, float(np.median(angle)), float(np.median(scale)))
