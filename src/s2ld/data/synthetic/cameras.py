"""Random cameras of a scene, chosen by how much of the first view the second one sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.config import CN
from s2ld.data.crops import JITTER, Crops, draw_scales
from s2ld.data.synthetic.cast import Grid, cast, prepare
from s2ld.data.synthetic.render import pixel_grid
from s2ld.data.synthetic.scene import Array, Camera, Scene, pinhole

_DOWN = np.array([0.0, 1.0, 0.0])

CANDIDATES = 4  # second cameras that are drawn and judged together
ROUNDS = 4  # of candidates before the best one so far is taken
COARSE_WIDTH = 32  # rays across an image that judge overlap
VISIBLE = 1e-3  # relative depth difference of a point that is not hidden
START = (0.4, 0.2, 0.4)  # scene units: the first camera stands within these of the origin
TILT = (15.0, 10.0)  # degrees: largest turn of the first camera to the side, and up or down
SIDEWAYS = (1.0, 0.6, 0.5)  # how a baseline spreads over x, y, z of the first camera
AIM = (0.7, 1.8)  # the second camera looks at a point on the first one's axis at this share of the median depth ...
NATIVE_WIDTH = 480.0  # px: width of the rendering that crops are parts of; textures have no more detail
AIM_JITTER = 0.2  # ... shifted by a normal deviate of this share


def draw_first(config: CN, size: tuple[int, int], rng: np.random.Generator) -> Camera:
    """Draw a camera near the origin that looks along +z, for images of `size` (width, height) px."""
    centre = rng.uniform(-1.0, 1.0, 3) * START
    aside, up = np.tan(np.radians(rng.uniform(-1.0, 1.0, 2) * TILT))
    roll = np.radians(rng.normal(0.0, config.ROTATION))
    return Camera(pinhole(rng.uniform(*config.FOV), size), _look(centre, np.array([aside, up, 1.0]), _DOWN, roll))


def draw_second(
    config: CN, scene: Scene, first: Camera, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Camera, float]:
    """Draw a camera whose overlap with `first` lies in `config.OVERLAP`, or comes closest after a bounded search.

    Returns:
        The camera and the overlap: the share of view 0's pixels with known depth that view 1 sees.
    """
    known = known_points(scene, first, size)
    median = float(np.median(known.z)) if len(known.z) else 1.0
    best: tuple[float, Camera, float] | None = None
    for _ in range(ROUNDS):
        candidates = [_draw_candidate(config, first, median, rng) for _ in range(CANDIDATES)]
        shares = visible_share(scene, known.world, candidates, size)
        for camera, share in zip(candidates, shares, strict=True):
            miss = max(config.OVERLAP[0] - share, share - config.OVERLAP[1], 0.0) + _blocked(scene, first, camera)
            if best is None or miss < best[0]:
                best = miss, camera, share
        if best is not None and best[0] == 0.0:
            break
    assert best is not None
    return best[1], best[2]


def _blocked(scene: Scene, first: Camera, second: Camera) -> bool:
    """Tell whether the way from the first camera to the second leads through a surface (a relief counts to its top)."""
    start, end = (camera.pose[:3, :3].T @ -camera.pose[:3, 3] for camera in (first, second))
    quads, relief = scene.quads, scene.relief
    if relief is not None and (end - relief.centre) @ relief.normal < relief.top:
        return True
    frames = np.stack([quads.u, quads.v, np.cross(quads.u, quads.v)], -1)
    before, behind = (np.linalg.solve(frames, (at - quads.centre)[..., None])[..., 0] for at in (start, end))
    fall = before[:, 2] - behind[:, 2]
    way = before[:, 2] / np.where(fall > 0, fall, 1.0)
    at = before + way[:, None] * (behind - before)
    passes = (before[:, 2] > 0) & (behind[:, 2] <= 0) & (np.abs(at[:, :2]) <= 1).all(1)
    return bool(passes.any())


def _look(centre: Array, forward: Array, down: Array, roll: float) -> Array:
    """Return the world-to-camera pose (4, 4) of a camera at `centre` that looks `forward`, turned by `roll` radians."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(down, z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    cos, sin = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([cos * x + sin * y, cos * y - sin * x, z])
    pose[:3, 3] = -pose[:3, :3] @ centre
    return pose


def _draw_candidate(config: CN, first: Camera, median: float, rng: np.random.Generator) -> Camera:
    rotation = first.pose[:3, :3]
    centre = -rotation.T @ first.pose[:3, 3]
    side = rng.normal(size=3) * SIDEWAYS
    offset = side / np.linalg.norm(side) * rng.uniform(*config.BASELINE) * median
    aim = np.array([0.0, 0.0, rng.uniform(*AIM)]) + rng.normal(0.0, AIM_JITTER, 3)
    forward = rotation.T @ (aim * median - offset)
    K = first.K.copy()
    K[[0, 1], [0, 1]] *= np.exp(rng.uniform(*np.log(config.ZOOM)))
    roll = np.radians(rng.normal(0.0, config.ROTATION))
    return Camera(K, _look(centre + rotation.T @ offset, forward, rotation.T @ _DOWN, roll))


@dataclass(frozen=True)
class KnownPoints:
    """The points that the pixels of a view see, on a coarse grid."""

    z: Array
    """(P,)."""
    world: Array
    """(P, 3)."""


def known_points(scene: Scene, camera: Camera, size: tuple[int, int]) -> KnownPoints:
    """Return the points that `camera` sees through a grid of 32 columns over its image of `size` (width, height)."""
    grid = pixel_grid(size, COARSE_WIDTH / size[0])
    depth = cast(prepare([scene], [camera]), grid).depth[0].double().numpy()
    x, y = np.meshgrid(grid.x[0, 0].double().numpy(), grid.y[0, :, 0].double().numpy())
    seen = depth > 0
    rays = np.stack([x[seen], y[seen], np.ones(seen.sum())], 1) @ np.linalg.inv(camera.K).T
    local = rays * depth[seen][:, None] - camera.pose[:3, 3]
    return KnownPoints(depth[seen], local @ camera.pose[:3, :3])


def visible_share(scene: Scene, points: Array, cameras: Sequence[Camera], size: tuple[int, int]) -> list[float]:
    """Return the share of `points` (P, 3) that each camera sees: inside its image, and met first by their ray."""
    if not len(points):
        return [0.0] * len(cameras)
    return [float(share) for share in see_points(scene, points, cameras, size)[1].mean(1)]


def see_points(
    scene: Scene, points: Array, cameras: Sequence[Camera], size: tuple[int, int]
) -> tuple[Array, NDArray[np.bool_]]:
    """Return where each of C cameras sees `points` (P, 3), (C, P, 2) px, and which of them it does, (C, P)."""
    poses, K = np.stack([c.pose for c in cameras]), np.stack([c.K for c in cameras])
    local = points @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    z = local[..., 2]
    ahead = z > VISIBLE
    pixels = (local @ K.transpose(0, 2, 1))[..., :2] / np.where(ahead, z, 1.0)[..., None]
    inside = ahead & ((pixels >= -0.5) & (pixels <= np.array(size) - 0.5)).all(-1)
    x, y = (torch.from_numpy(np.where(inside, pixels[..., i], 0.0)).float()[:, None, :] for i in range(2))
    depth: Tensor = cast(prepare([scene] * len(cameras), cameras), Grid(x, y)).depth[:, 0]
    near = np.abs(depth.double().numpy() - z) < VISIBLE * z
    return np.asarray(pixels, np.float64), np.asarray(inside & near, np.bool_)


def draw_crops(
    scene: Scene, cameras: tuple[Camera, Camera], size: tuple[int, int], crops: Crops, rng: np.random.Generator
) -> tuple[Camera, Camera]:
    """Return the cameras of crops, `size` px, of larger renderings (`NATIVE_WIDTH`), around a point that both see.

    Cameras that see no point in common are returned as they are.
    """
    world = known_points(scene, cameras[0], size).world
    if not len(world):
        return cameras
    pixels, seen = see_points(scene, world, cameras, size)
    both = np.flatnonzero(seen.all(0))
    if not len(both):
        return cameras
    point = int(rng.choice(both))
    whole = NATIVE_WIDTH / size[0]
    scales = draw_scales(crops, [whole, whole], rng)
    first, second = (
        _crop(camera, pixels[number, point], whole / scales[number], size, rng) for number, camera in enumerate(cameras)
    )
    return first, second


def _crop(camera: Camera, point: Array, factor: float, size: tuple[int, int], rng: np.random.Generator) -> Camera:
    """Return the camera that sees the part of an image around `point` px, enlarged by `factor` to the same size."""
    sides = np.array(size, np.float64) / factor
    shift = 0.5 + rng.uniform(-JITTER, JITTER, 2)
    corner = np.clip(point + 0.5 - shift * sides, 0.0, np.maximum(size - sides, 0.0))  # from the outer edge of pixel 0
    K = camera.K.copy()
    K[:2, 2] += 0.5 - corner
    K[:2] *= factor
    K[:2, 2] -= 0.5
    return Camera(K, camera.pose)
