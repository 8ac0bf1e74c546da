"""What cameras before a wall see of the photograph on it: the warped image, its depth, and both views as a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images import UInt8Image, to_grey
from s2ld.data.photometric import augment
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.wall_cameras import Array, WallCamera, inverse, map_points

WALL_DISTANCE = 10.0  # depth unit: the first camera's distance, as in MegaDepth-like scenes


@dataclass(frozen=True)
class Wall:
    """What hangs on the wall."""

    photos: tuple[UInt8Image, UInt8Image]
    """(H, W, 3) RGB that each view shows: the same one, or two of one size that agree pixel by pixel."""
    unknown: NDArray[np.uint8] | None = None
    """(H, W) not 0 where the depth counts as unknown."""


def see_wall(
    wall: Wall,
    cameras: tuple[WallCamera, WallCamera],
    config: CN,
    rng: np.random.Generator,
    backdrop: Callable[[], UInt8Image],
    source: str,
    photometric: CN | None,
) -> PairSample:
    """Return the pair that two cameras see of a wall, with depth, pose and the homography between the views.

    Args:
        wall: the photographs.
        cameras: of view 0 and view 1.
        config: the DATA node.
        rng: of the photometric change.
        backdrop: draws what is seen beside the photograph, which has no depth.
        source: name of the pair's source.
        photometric: the DATA.PHOTOMETRIC node; None: plain grey views.
    """
    unit = WALL_DISTANCE / float(np.linalg.norm(cameras[0].t))
    views = []
    for photo, camera in zip(wall.photos, cameras, strict=True):
        image, depth = _look(photo, wall.unknown, camera, config, backdrop())
        grey = to_grey(image) if photometric is None else augment(image, photometric, rng)
        views.append(
            ViewSample(
                torch.from_numpy(grey)[None].float() / 255,
                torch.from_numpy(camera.K).float(),
                torch.from_numpy(depth * unit).float(),
            )
        )
    T = np.eye(4)
    T[:3, :3] = cameras[1].R @ cameras[0].R.T
    T[:3, 3] = (cameras[1].t - T[:3, :3] @ cameras[0].t) * unit
    H = torch.from_numpy(cameras[1].wall_to_image @ inverse(cameras[0].wall_to_image))
    return PairSample(views[0], views[1], torch.from_numpy(T).float(), source, H.float())


def _look(
    photo: UInt8Image, unknown: NDArray[np.uint8] | None, camera: WallCamera, config: CN, backdrop: UInt8Image
) -> tuple[UInt8Image, Array]:
    """Return the image (H, W, 3) and the z (H, W), texture px, that a camera sees."""
    size = (int(config.IMAGE_SIZE[0]), int(config.IMAGE_SIZE[1]))
    image = cv2.resize(backdrop, size, interpolation=cv2.INTER_LINEAR)
    texture, H = shrink_to_scale(photo, camera.wall_to_image, size)
    cv2.warpPerspective(texture, H, size, image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    depth = wall_depth(camera, size, photo.shape[1], photo.shape[0])
    if unknown is not None:
        depth[cv2.warpPerspective(unknown, camera.wall_to_image, size, flags=cv2.INTER_NEAREST) > 0] = 0.0
    return np.asarray(image, np.uint8), depth


def shrink_to_scale(texture: UInt8Image, H: Array, size: tuple[int, int]) -> tuple[UInt8Image, Array]:
    """Halve the texture while the view shows it smaller than half size at its centre, against aliasing."""
    centre = np.array([[size[0] / 2, size[1] / 2], [size[0] / 2 + 1, size[1] / 2]])
    ends, _ = map_points(inverse(H), centre)
    texture_px = float(np.linalg.norm(ends[1] - ends[0]))
    while texture_px > 1.5 and min(texture.shape[:2]) > 32:
        height, width = texture.shape[0] // 2, texture.shape[1] // 2
        step_x, step_y = texture.shape[1] / width, texture.shape[0] / height
        texture = np.asarray(cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        # pixel edges stay aligned: a big = step * (a small + 1/2) - 1/2
        H = H @ np.array([[step_x, 0, (step_x - 1) / 2], [0, step_y, (step_y - 1) / 2], [0, 0, 1]])
        texture_px /= 2
    return texture, H


def wall_depth(camera: WallCamera, size: tuple[int, int], width: int, height: int) -> Array:
    """(H, W) z of the wall in texture px, 0 where the photograph is not seen."""
    x, y = np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64)[:, None]
    inverse = np.linalg.inv(camera.wall_to_image)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in inverse)
    # the inverse maps (x, y, 1) z to (u, v, 1): z is 1 / w
    with np.errstate(divide="ignore", invalid="ignore"):
        z = 1.0 / w
        inside = (z > 0) & (u * z >= 0) & (u * z <= width - 1) & (v * z >= 0) & (v * z <= height - 1)
    return np.where(inside, z, 0.0)
