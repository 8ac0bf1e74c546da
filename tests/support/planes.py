"""Textured planes seen by pinhole cameras, rendered exactly: the texture where the ray of a pixel meets one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.sfm.depth.plane_sweep import SweepView
from s2ld.sfm.mapping.model import SparseModel

Array = NDArray[np.float64]
Texture = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Plane:
    """The points (x, y, z) with z = offset + slope_x x + slope_y y, and x in a range."""

    offset: float
    slope_x: float
    slope_y: float
    texture: Texture
    least_x: float = -np.inf
    most_x: float = np.inf


def waves(seed: int, shortest: float = 0.15, longest: float = 0.8, count: int = 60) -> Texture:
    """Grey values 0 to 255 of random waves; lengths in the unit of the scene."""
    rng = np.random.default_rng(seed)
    lengths, angles, phases = rng.uniform(shortest, longest, count), *rng.uniform(0, 2 * np.pi, (2, count))
    kx, ky = (2 * np.pi / lengths * f(angles) for f in (np.cos, np.sin))

    def texture(x: Array, y: Array) -> Array:
        total = sum(np.sin(a * x + b * y + c) for a, b, c in zip(kx, ky, phases, strict=True))
        return np.clip(127.5 + 180 / np.sqrt(count) * total, 0, 255)

    return texture


def flat(x: Array, y: Array) -> Array:
    return np.full_like(x, 100.0)


def stripes(x: Array, y: Array) -> Array:
    return 127.5 + 100 * np.sin(2 * np.pi * x / 0.3)


def camera(centre: Sequence[float], size: tuple[int, int] = (96, 72), yaw: float = 0.0) -> tuple[Array, Array]:
    """K and pose of a camera that looks along z, turned by `yaw` degrees about y."""
    width, height = size
    K = np.array([[1.1 * width, 0, width / 2 - 0.5], [0, 1.1 * width, height / 2 - 0.5], [0, 0, 1.0]])
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    pose = np.eye(4)
    pose[:3, :3] = [[c, 0, -s], [0, 1, 0], [s, 0, c]]
    pose[:3, 3] = -pose[:3, :3] @ np.array(centre)
    return K, pose


def render(planes: Sequence[Plane], K: Array, pose: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Grey values (H, W) of 0 to 255 and z (H, W) of the nearest plane."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    R, centre = pose[:3, :3], -pose[:3, :3].T @ pose[:3, 3]
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K).T @ R  # of z = 1 in the camera, in the world
    grey, depth = np.zeros(x.shape), np.full(x.shape, np.inf)
    for plane in planes:
        normal = np.array([-plane.slope_x, -plane.slope_y, 1.0])
        z = (plane.offset - centre @ normal) / (rays @ normal)
        points = centre + z[..., None] * rays
        nearer = (z > 0) & (z < depth) & (points[..., 0] >= plane.least_x) & (points[..., 0] <= plane.most_x)
        depth = np.where(nearer, z, depth)
        grey = np.where(nearer, plane.texture(points[..., 0], points[..., 1]), grey)
    return grey, depth


def sweep_view(grey: Array, K: Array, pose: Array) -> SweepView:
    return SweepView(torch.from_numpy(grey).float(), torch.from_numpy(K), torch.from_numpy(pose))


def sparse_model(
    cameras: Sequence[tuple[Array, Array]], depths: Sequence[Array], size: tuple[int, int], points: int = 100
) -> SparseModel:
    """A model of the images ``0.png``, ...: points at random pixels of each, seen where they are not hidden."""
    rng = np.random.default_rng(0)
    found = []
    for (K, pose), depth in zip(cameras, depths, strict=True):
        x, y = rng.integers(0, size[0], points), rng.integers(0, size[1], points)
        inside = np.stack([x, y, np.ones(points)], -1) @ np.linalg.inv(K).T * depth[y, x, None]
        found.append((inside - pose[:3, 3]) @ pose[:3, :3])
    world = np.concatenate(found)
    visible = []
    for (K, pose), depth in zip(cameras, depths, strict=True):
        here = world @ pose[:3, :3].T + pose[:3, 3]
        x, y = np.round((here @ K.T)[:, :2] / here[:, 2:]).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < size[0]) & (y < size[1])
        z = depth[np.clip(y, 0, size[1] - 1), np.clip(x, 0, size[0] - 1)]
        visible.append(np.flatnonzero(inside & (np.abs(z / here[:, 2] - 1) < 0.02)))
    count = len(cameras)
    return SparseModel(
        [f"{number}.png" for number in range(count)],
        np.tile(np.array(size), (count, 1)),
        np.stack([K for K, _ in cameras]),
        np.stack([pose for _, pose in cameras]),
        world,
        visible,
    )
