"""Homographies of photographs: a photo hung on a wall, seen by two calibrated cameras.

Each pair is a plane with true intrinsics, relative pose and depth, so that it serves every loss as real pairs do; the
homography between the views is the one that the plane induces. OpenCV warps it, which is far quicker than rendering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images import UInt8Image
from s2ld.data.photometric import augment
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.teacher import STREAM, PhotoDescriptors, TeacherFile
from s2ld.data.textures import TextureBank
from s2ld.errors import S2LDError

CACHED_PHOTOS = 400  # about 0.4 GB a loader process
TRIES = 20  # draws of the second camera until the overlap fits
WALL_DISTANCE = 10.0  # depth unit: the first camera's distance, as in MegaDepth-like scenes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WallCamera:
    """A camera before the wall z = 0, whose unit is one texture px; x right, y down."""

    K: Array
    R: Array
    t: Array

    @property
    def wall_to_image(self) -> Array:
        """(3, 3) homography from texture px to image px."""
        return np.asarray(self.K @ np.column_stack([self.R[:, 0], self.R[:, 1], self.t]), np.float64)


class HomographyPairs:
    """Endless source of homography pairs, a pure function of (seed, index).

    Args:
        config: the DATA node (IMAGE_SIZE, PHOTOS, HOMOGRAPHY, PHOTOMETRIC).
        seed: of the source.
        length: number of pairs.
        teacher: what another network says of the photographs, to be in the samples; it changes nothing else in them.

    Raises:
        S2LDError: there are no photographs, or the teacher lacks one of them.
    """

    def __init__(self, config: CN, seed: int, length: int, teacher: TeacherFile | None = None) -> None:
        self.config = config
        self.seed = seed
        self.length = length
        self.textures = TextureBank(config.PHOTOS, CACHED_PHOTOS, config.PHOTOS_EXCLUDE)
        self.teacher = teacher
        if teacher is not None:
            if not self.textures.names:
                raise S2LDError("TRAIN.TEACHER.FILE: procedural textures have no teacher; set DATA.PHOTOS")
            teacher.check(self.textures.names)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairSample:
        if not 0 <= index < self.length:
            raise IndexError(f"pair {index} of {self.length}")
        rng = np.random.Generator(np.random.PCG64([self.seed, index]))
        number = int(rng.integers(len(self.textures)))
        photo = self.textures.get(number)
        cameras = draw_cameras(photo.shape[1], photo.shape[0], self.config, rng)
        unit = WALL_DISTANCE / float(np.linalg.norm(cameras[0].t))
        views = [self._view(photo, camera, unit, rng) for camera in cameras]
        if self.teacher is not None:
            height, width = photo.shape[:2]
            described = self.teacher.read(self.textures.names[number], (width, height))
            teacher_rng = np.random.Generator(np.random.PCG64([self.seed, index, STREAM]))
            views = taught(views, cameras, described, self.teacher.count, teacher_rng)
        T = np.eye(4)
        T[:3, :3] = cameras[1].R @ cameras[0].R.T
        T[:3, 3] = (cameras[1].t - T[:3, :3] @ cameras[0].t) * unit
        H = torch.from_numpy(cameras[1].wall_to_image @ _inverse(cameras[0].wall_to_image))
        return PairSample(views[0], views[1], torch.from_numpy(T).float(), "homography", H.float())

    def _view(self, photo: UInt8Image, camera: WallCamera, unit: float, rng: np.random.Generator) -> ViewSample:
        size = (int(self.config.IMAGE_SIZE[0]), int(self.config.IMAGE_SIZE[1]))
        backdrop = self.textures.get(int(rng.integers(len(self.textures))))
        image = cv2.resize(backdrop, size, interpolation=cv2.INTER_LINEAR)
        H = camera.wall_to_image
        texture, H = shrink_to_scale(photo, H, size)
        cv2.warpPerspective(texture, H, size, image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
        depth = wall_depth(camera, size, photo.shape[1], photo.shape[0]) * unit
        grey = augment(np.asarray(image, np.uint8), self.config.PHOTOMETRIC, rng)
        return ViewSample(
            torch.from_numpy(grey)[None].float() / 255,
            torch.from_numpy(camera.K).float(),
            torch.from_numpy(depth).float(),
        )


def taught(
    views: Sequence[ViewSample],
    cameras: Sequence[WallCamera],
    described: PhotoDescriptors,
    count: int,
    rng: np.random.Generator,
) -> list[ViewSample]:
    """Return the views of a photograph on the wall with at most `count` points each that a teacher has described."""
    return [
        replace(view, teacher=described.seen(camera.wall_to_image, view.size, count, rng))
        for view, camera in zip(views, cameras, strict=True)
    ]


def draw_cameras(width: int, height: int, config: CN, rng: np.random.Generator) -> tuple[WallCamera, WallCamera]:
    """Draw two cameras before a photograph of `width` × `height` px whose overlap fits the config, or comes nearest."""
    view = np.array(config.IMAGE_SIZE, np.float64)
    h = config.HOMOGRAPHY
    largest = min(width / view[0], height / view[1])  # texture px per view px at which the photo just fills the view
    texture_px = rng.uniform(0.5, 1.0) * largest
    free = np.array([width, height]) - texture_px * view
    target = np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * free
    first = _look(target, texture_px, rng.uniform(0, h.TILT), rng.normal(0, h.ROTATION) / 2, view, h.FOV, rng)
    best, best_miss = first, np.inf
    for _ in range(TRIES):
        zoom = float(np.exp(rng.uniform(*np.log(h.ZOOM))))
        zoom = 1 / zoom if rng.random() < 0.5 else zoom
        shift = rng.uniform(-0.6, 0.6, 2) * texture_px * view
        roll = rng.normal(0, h.ROTATION)
        second = _look(target + shift, texture_px / zoom, rng.uniform(0, h.TILT), roll, view, h.FOV, rng)
        overlap = wall_overlap(first, second, view, width, height)
        miss = max(h.OVERLAP[0] - overlap, overlap - h.OVERLAP[1], 0.0)
        if miss < best_miss:
            best, best_miss = second, miss
        if miss == 0:
            break
    return (first, best) if rng.random() < 0.5 else (best, first)


def _look(
    target: Array, texture_px: float, tilt: float, roll: float, view: Array, span: list[float], rng: np.random.Generator
) -> WallCamera:
    """A camera that looks at `target` (texture px) from `tilt` degrees off the normal, `texture_px` per image px.

    `span` are the least and largest horizontal field of view, degrees.
    """
    fov = rng.uniform(span[0], span[1])
    focal = view[0] / 2 / np.tan(np.radians(fov) / 2)
    distance = focal * texture_px
    azimuth, angle = rng.uniform(0, 2 * np.pi), np.radians(tilt)
    z = np.array([np.sin(angle) * np.cos(azimuth), np.sin(angle) * np.sin(azimuth), np.cos(angle)])
    x = np.array([1.0, 0, 0]) - z[0] * z
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    R = np.stack([c * x + s * y, c * y - s * x, z])
    centre = np.append(target, 0.0) - distance * z
    K = np.array([[focal, 0, (view[0] - 1) / 2], [0, focal, (view[1] - 1) / 2], [0, 0, 1]])
    return WallCamera(K, R, -R @ centre)


def wall_overlap(first: WallCamera, second: WallCamera, view: Array, width: int, height: int) -> float:
    """Share of the first view that shows the photograph and is seen by the second."""
    x, y = np.meshgrid(np.linspace(0, view[0] - 1, 12), np.linspace(0, view[1] - 1, 9))
    grid = np.stack([x, y], -1).reshape(-1, 2)
    on_wall, before0 = _map(_inverse(first.wall_to_image), grid)
    seen, before1 = _map(second.wall_to_image, on_wall)
    on_photo = ((on_wall >= 0) & (on_wall <= (width - 1, height - 1))).all(1)
    in_view = ((seen >= 0) & (seen <= view - 1)).all(1)
    return float((on_photo & in_view & before0 & before1).mean())


def _inverse(H: Array) -> Array:
    return np.asarray(np.linalg.inv(H), np.float64)


def _map(H: Array, points: Array) -> tuple[Array, NDArray[np.bool_]]:
    homogeneous = points @ H[:, :2].T + H[:, 2]
    w = homogeneous[:, 2]
    good = w > 1e-9
    return homogeneous[:, :2] / np.where(good, w, 1.0)[:, None], good


def shrink_to_scale(texture: UInt8Image, H: Array, size: tuple[int, int]) -> tuple[UInt8Image, Array]:
    """Halve the texture while the view shows it smaller than half size at its centre, against aliasing."""
    centre = np.array([[size[0] / 2, size[1] / 2], [size[0] / 2 + 1, size[1] / 2]])
    ends, _ = _map(_inverse(H), centre)
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
