"""What cameras before a wall see of the photograph on it: the warped image, its depth, and both views as a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from cv2.typing import MatLike
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.crops import crops_of, draw_scales, is_crop
from s2ld.data.images.photometric import augment, change_view
from s2ld.data.images.reading import UInt8Image, to_grey
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.sources.wall_cameras import Array, WallCamera, draw_cameras, inverse, map_points, whole_scale
from s2ld.data.teacher import Lesson
from s2ld.data.viewpoint import viewpoint_change

SMALLEST = 32  # px: a photograph's shorter side is not halved below
SUBSAMPLES = 2  # a pixel and axis, where a photograph is made smaller
GRID = 8  # px: distance of the places where its scale is looked at
WALL_DISTANCE = 10.0  # depth unit: the first camera's distance, as in MegaDepth-like scenes


@dataclass(frozen=True)
class Wall:
    """What hangs on the wall."""

    photos: tuple[UInt8Image, UInt8Image]
    """(H, W, 3) RGB that each view shows: the same one, or two of one size that agree pixel by pixel."""
    unknown: NDArray[np.uint8] | None = None
    """(H, W) not 0 where the depth counts as unknown."""
    lesson: Lesson | None = None
    """What a teacher says of one of the photographs, for both views; it changes nothing else in them."""


def draw_wall_cameras(
    width: int, height: int, config: CN, rng: np.random.Generator, drawn: int | None
) -> tuple[WallCamera, WallCamera]:
    """Draw two cameras, of crops for a share of the training pairs (DATA.CROP); the arguments are `draw_cameras`'."""
    crops, texture_px = crops_of(config), None
    if drawn is not None and is_crop(crops, rng):
        texture_px = draw_scales(crops, [whole_scale(width, height, config)], rng)[0]
    return draw_cameras(width, height, config, rng, drawn, texture_px)


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
        photometric: the DATA.PHOTOMETRIC node; None: plain grey views. Two photographs in unlike light get no strong
            light beside it.
    """
    unit = WALL_DISTANCE / float(np.linalg.norm(cameras[0].t))
    T = np.eye(4)
    T[:3, :3] = cameras[1].R @ cameras[0].R.T
    T[:3, 3] = (cameras[1].t - T[:3, :3] @ cameras[0].t) * unit
    relative, (K0, K1) = torch.from_numpy(T).float(), (torch.from_numpy(camera.K).float() for camera in cameras)
    views: list[ViewSample] = []
    change = 1.0
    for photo, camera, K in zip(wall.photos, cameras, (K0, K1), strict=True):
        image, depth = _look(photo, wall.unknown, camera, config, backdrop())
        depth = depth * unit
        if not views:
            change = viewpoint_change(torch.from_numpy(depth), K0, K1, relative)
        if photometric is None:
            grey = to_grey(image)
        elif wall.photos[0] is wall.photos[1]:
            grey, depth = change_view(image, depth, photometric, rng, change)
        else:  # in two lights already
            grey = augment(image, photometric, rng, None)
        teacher = None if wall.lesson is None else wall.lesson(camera.wall_to_image, depth)
        pixels = torch.from_numpy(grey)[None].float() / 255
        views.append(ViewSample(pixels, K, torch.from_numpy(depth).float(), teacher=teacher))
    H = torch.from_numpy(cameras[1].wall_to_image @ inverse(cameras[0].wall_to_image))
    return PairSample(views[0], views[1], relative, source, H.float())


def _look(
    photo: UInt8Image, unknown: NDArray[np.uint8] | None, camera: WallCamera, config: CN, backdrop: UInt8Image
) -> tuple[UInt8Image, Array]:
    """Return the image (H, W, 3) and the z (H, W), texture px, that a camera sees."""
    size = (int(config.IMAGE_SIZE[0]), int(config.IMAGE_SIZE[1]))
    if config.HOMOGRAPHY.WIDE:
        image = warp_filtered(photo, camera.wall_to_image, size, backdrop)
    else:
        image = np.asarray(cv2.resize(backdrop, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        texture, H = shrink_to_scale(photo, camera.wall_to_image, size)
        cv2.warpPerspective(texture, H, size, image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    depth = wall_depth(camera, size, photo.shape[1], photo.shape[0])
    if unknown is not None:
        depth[cv2.warpPerspective(unknown, camera.wall_to_image, size, flags=cv2.INTER_NEAREST) > 0] = 0.0
    return image, depth


def shrink_to_scale(texture: UInt8Image, H: Array, size: tuple[int, int]) -> tuple[UInt8Image, Array]:
    """Halve the texture while the view shows it smaller than half size at its centre, against aliasing."""
    centre = np.array([[size[0] / 2, size[1] / 2], [size[0] / 2 + 1, size[1] / 2]])
    ends, _ = map_points(inverse(H), centre)
    texture_px = float(np.linalg.norm(ends[1] - ends[0]))
    while texture_px > 1.5 and min(texture.shape[:2]) > SMALLEST:
        texture, H = _halve(texture, H)
        texture_px /= 2
    return texture, H


def _halve(texture: UInt8Image, H: Array) -> tuple[UInt8Image, Array]:
    height, width = texture.shape[0] // 2, texture.shape[1] // 2
    step_x, step_y = texture.shape[1] / width, texture.shape[0] / height
    texture = np.asarray(cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    # pixel edges stay aligned: a big = step * (a small + 1/2) - 1/2
    return texture, H @ np.array([[step_x, 0, (step_x - 1) / 2], [0, step_y, (step_y - 1) / 2], [0, 0, 1]])


def warp_filtered(photo: UInt8Image, H: Array, size: tuple[int, int], backdrop: UInt8Image) -> UInt8Image:
    """Warp a photograph over a backdrop without aliasing, however its scale changes over the view.

    Each place is read from the level of a pyramid of the photograph that fits its largest scale there, at
    `SUBSAMPLES`² points a pixel where it is made smaller, which keeps detail across the tilt that the level of the
    largest scale alone would lose.

    Args:
        photo: (H, W, 3).
        H: (3, 3) from px of the photograph to px of the view.
        size: (width, height) of the view, px.
        backdrop: (h, w, 3) seen beside the photograph, of any size.

    Returns:
        (height, width, 3).
    """
    scale = texture_scale(H, size, photo.shape[1], photo.shape[0])
    factor = SUBSAMPLES if scale.max() > 1 else 1
    fine, shift = (size[0] * factor, size[1] * factor), (factor - 1) / 2
    H = np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]]) @ H  # pixel edges stay aligned
    level = np.log2(np.maximum(scale / factor, 1.0))
    beside = cv2.resize(backdrop, fine, interpolation=cv2.INTER_LINEAR)
    image: MatLike | None = None
    texture = photo
    for number in range(int(np.ceil(level.max())) + 1):
        if number >= int(level.min()):
            sharp, image = image, beside.copy()
            cv2.warpPerspective(texture, H, fine, image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
            if sharp is not None:
                weight = cv2.resize(np.clip(level - (number - 1), 0.0, 1.0), fine, interpolation=cv2.INTER_LINEAR)
                image = cv2.blendLinear(sharp, image, 1 - weight, weight)
        if min(texture.shape[:2]) <= SMALLEST:
            break
        texture, H = _halve(texture, H)
    return np.asarray(beside if image is None else cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def texture_scale(H: Array, size: tuple[int, int], width: int, height: int) -> NDArray[np.float32]:
    """Return how many px of the photograph the largest step of one px covers, on a grid over the view.

    Args:
        H: (3, 3) from px of the photograph to px of the view.
        size: (width, height) of the view, px.
        width, height: of the photograph, px.

    Returns:
        (h, w), about one value for `GRID`² px; beside the photograph within what is found on it, 1 where it is not
        seen at all.
    """
    columns, rows = (max(2, side // GRID) for side in size)
    x, y = np.meshgrid((np.arange(columns) + 0.5) * size[0] / columns, (np.arange(rows) + 0.5) * size[1] / rows)
    m = np.linalg.inv(H)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in m)
    ahead = w > 1e-9 * np.abs(w).max()
    w = np.where(ahead, w, 1.0)
    u, v = u / w, v / w
    a, b, c, d = ((m[i, k] - p * m[2, k]) / w for i, p in ((0, u), (1, v)) for k in (0, 1))
    square, area = a * a + b * b + c * c + d * d, a * d - b * c  # sum and product of the squared singular values
    scale = np.sqrt((square + np.sqrt(np.maximum(square**2 - 4 * area**2, 0.0))) / 2)
    seen = ahead & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    if not seen.any():
        return np.ones((rows, columns), np.float32)
    low, high = scale[seen].min(), scale[seen].max()
    return np.asarray(np.where(ahead, np.clip(scale, low, high), high), np.float32)


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
