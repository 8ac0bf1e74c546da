"""Images without lens distortion of a sparse model, and the model that they belong to.

pycolmap chooses the cameras. The pixels are taken by hand, image by image: one may be turned by EXIF, of a format that
Pillow alone reads, unreadable, or done already, and a much larger one is averaged before it is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.reading import UInt8Image, read_image, resize, write_image
from s2ld.errors import S2LDError, one_line
from s2ld.files import printable
from s2ld.log import Progress
from s2ld.sfm.dataset.orientation import same_shape, upright_images
from s2ld.sfm.mapping.camera_models import ColmapCamera, as_pycolmap
from s2ld.sfm.mapping.colmap import load_pycolmap
from s2ld.sfm.mapping.model import RejectedError, SparseModel
from s2ld.sfm.mapping.read_model import FARTHEST, ColmapImage, ColmapModel
from s2ld.sfm.photos.copies import jpeg_names

MEDIAN_DEPTH = 10.0
"""Median depth of the points in the images, to which a scene is scaled: a model's unit is arbitrary."""
_NO_MAP = np.empty(0, np.float32)  # the second one where the first has both coordinates
MAPS = 16
"""Cameras whose maps are kept in memory."""


@dataclass(frozen=True)
class Undistorted:
    """What became of a model."""

    model: SparseModel
    """Scaled to `MEDIAN_DEPTH`, names relative to the folder of the undistorted images."""
    sources: Sequence[str]
    """(n) names of the images in the COLMAP model."""
    scale: float
    """Length in `model` of the COLMAP model's unit."""
    rejected: Sequence[tuple[str, str]]
    """Name and reason of each image that could not be undistorted."""


@dataclass(frozen=True)
class _Pinhole:
    """A camera without distortion that sees no more than a given one, pixel centres at integers."""

    K: NDArray[np.float64]
    size: tuple[int, int]
    sources: NDArray[np.float32]
    """(H, W, 2) px of the given camera's image, reduced to `source_size`, that each pixel is taken from."""
    source_size: tuple[int, int]
    """Width and height."""


def undistort(
    model: ColmapModel, images: Path, folder: Path, max_side: int, jobs: int, progress: bool = True
) -> Undistorted:
    """Write the undistorted images that are not there yet, in `jobs` threads.

    Args:
        model: what COLMAP knows.
        images: folder of its images, which are turned by EXIF where the model saw them so (`upright_images`).
        folder: where to write.
        max_side: longer side of the undistorted images, px; smaller ones stay as large as they are.
        jobs: threads.
        progress: show a bar.

    Raises:
        RejectedError: not one image could be read, or no point is before a camera.
        S2LDError: pycolmap is not installed, or an image cannot be written.
    """
    pinhole = lru_cache(MAPS)(lambda camera: _pinhole(camera, max_side))
    kept: list[tuple[ColmapImage, str, _Pinhole]] = []
    rejected: list[tuple[str, str]] = []
    names = jpeg_names([image.name for image in model.images])
    upright = upright_images(model, images)

    def work(pair: tuple[ColmapImage, str]) -> _Pinhole | str:
        image, name = pair
        try:
            target = pinhole(model.cameras[image.camera])
            pixels = read_image(images / image.name, upright=image.name in upright)
        except S2LDError as error:
            return str(error).removeprefix(f"{printable(images / image.name)}: ")
        return _write(pixels, model.cameras[image.camera], target, folder / name) or target

    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(work, zip(model.images, names, strict=True))
        bar = Progress(results, "undistort", len(names), unit="image", disable=not progress)
        for image, name, result in zip(model.images, names, bar, strict=True):
            if isinstance(result, str):
                rejected.append((image.name, result))
            else:
                kept.append((image, name, result))
    if not kept:
        raise RejectedError(f"{images}: none of the model's {len(names)} images can be used; {': '.join(rejected[0])}")
    sparse = _sparse(model, kept)
    scale = MEDIAN_DEPTH / _median_depth(sparse)
    return Undistorted(rescale(sparse, scale), [image.name for image, *_ in kept], scale, rejected)


def _sparse(model: ColmapModel, kept: Sequence[tuple[ColmapImage, str, _Pinhole]]) -> SparseModel:
    return SparseModel(
        [name for _, name, _ in kept],
        np.array([target.size for *_, target in kept], np.int64),
        np.stack([target.K for *_, target in kept]),
        np.stack([image.pose for image, *_ in kept]),
        model.points,
        [image.points for image, *_ in kept],
    )


def rescale(model: SparseModel, scale: float) -> SparseModel:
    """Return a model in a unit that is `scale` times smaller."""
    poses = model.poses.copy()
    poses[:, :3, 3] *= scale
    return replace(model, poses=poses, points=model.points * scale)


def _median_depth(model: SparseModel) -> float:
    """Return the median z of all points in all images that see them."""
    rows = [
        model.points[seen] @ pose[2, :3] + pose[2, 3] for seen, pose in zip(model.visible, model.poses, strict=True)
    ]
    depths = np.concatenate(rows)
    ahead = depths[depths > 1 / FARTHEST]
    if not len(ahead):
        raise RejectedError(
            f"{model.names[0]} and {len(model) - 1} others: no image has a point before it; is it a model?"
        )
    return float(np.median(ahead))


def _write(pixels: UInt8Image, camera: ColmapCamera, target: _Pinhole, path: Path) -> str:
    """Write one undistorted image; return why it cannot be, "" where it is there."""
    height, width = pixels.shape[:2]
    if not same_shape((width, height), camera.size):
        w, h = camera.size
        return f"{width} x {height} px, but its camera in the model has {w} x {h}: of another shape"
    if not path.exists():
        small = resize(pixels, target.source_size)[0]
        write_image(np.asarray(cv2.remap(small, target.sources, _NO_MAP, cv2.INTER_CUBIC), np.uint8), path)
    return ""


def _pinhole(camera: ColmapCamera, max_side: int) -> _Pinhole:
    """Choose the pinhole camera as COLMAP's image_undistorter does (no pixel without a source), and its map."""
    api = load_pycolmap()
    options = api.UndistortCameraOptions()
    options.max_image_size = max_side
    given = as_pycolmap(camera)
    try:
        flat = api.undistort_camera(options, given)
    except (ValueError, RuntimeError) as error:
        raise _refusal(camera, one_line(error)) from error
    if not (flat.width and flat.height and np.isfinite(flat.params).all()):
        raise _refusal(camera, f"to {flat.width} x {flat.height} px")
    fx, fy, cx, cy = flat.params
    x, y = np.meshgrid((np.arange(flat.width) + 0.5 - cx) / fx, (np.arange(flat.height) + 0.5 - cy) / fy)
    rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    points: Any = given.img_from_cam(rays)
    # a source that is much larger is averaged first: a few taps of it would alias
    factor = max(1.0, given.width / flat.width, given.height / flat.height)
    source_size = max(1, round(given.width / factor)), max(1, round(given.height / factor))
    scale = np.array(source_size) / np.array(camera.size)
    with np.errstate(all="ignore"):
        sources = (np.asarray(points, np.float64) * scale - 0.5).reshape(flat.height, flat.width, 2).astype(np.float32)
    if not np.isfinite(sources).all():
        raise _refusal(camera, "it does not tell where its pixels come from")
    K = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]], np.float64)
    return _Pinhole(K, (flat.width, flat.height), sources, source_size)


def _refusal(camera: ColmapCamera, reason: str) -> S2LDError:
    values = ", ".join(f"{value:g}" for value in camera.params)
    return S2LDError(f"a {camera.model} camera of parameters {values} cannot be undistorted ({reason})")
