"""Reading one photograph and its depth map of a scene in MegaDepth's form, with what may be wrong about them by name.

An image need not have the size that its intrinsics belong to (the copies of MegaDepth differ in it): what matters is
that it shows the same, so its shape must agree, and the intrinsics are rescaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.image_files import open_header
from s2ld.data.images.reading import UInt8Image, read_image
from s2ld.data.index.files import SceneIndex
from s2ld.data.index.layouts import depth_path, find_image, image_path
from s2ld.errors import S2LDError
from s2ld.hdf5 import find_array, read_array, read_hdf5

PROBLEMS = (
    *("image missing", "image undecodable", "image of another shape"),
    *("depth missing", "depth undecodable", "depth of another size"),
)
"""What an `UnreadableError` names."""

ROUNDING_PX = 2.0
"""Two sizes of one image may differ by this in one side, px of the smaller one, once the other side agrees."""

NO_MAP = "a depth map is an HDF5 file with a data set 'depth': fetch it again"

Size = tuple[int, int]
"""Width and height, px."""


class UnreadableError(S2LDError):
    """A file of a scene that cannot be used; `problem` is one of `PROBLEMS`."""

    problem: str = ""


@dataclass(frozen=True)
class PhotoFiles:
    """The files of one image of a scene."""

    image: Path
    depth: Path | None
    """None where no depth is read."""
    size: Size | None
    """Of the image that the intrinsics belong to; None where it is not known."""
    named: tuple[str, str]
    """Paths of image and depth map as the index has them, whatever the layout."""


def photo_files(root: Path, scene: SceneIndex, image: int, layout: str, with_depth: bool) -> PhotoFiles:
    """Return where the files of image `image` of a scene lie below `root` in a layout (`s2ld.data.index.layouts`)."""
    paths = str(scene.image_paths[image]), str(scene.depth_paths[image])
    size = None if scene.image_sizes is None else (int(scene.image_sizes[image, 0]), int(scene.image_sizes[image, 1]))
    depth = root / depth_path(layout, *paths) if with_depth else None
    return PhotoFiles(root / image_path(layout, *paths), depth, size, paths)


def read_photo(files: PhotoFiles) -> UInt8Image:
    """Return the image, (H, W, 3) RGB, as stored.

    Raises:
        UnreadableError: it is missing, no image, or of another shape than the one that its intrinsics belong to.
    """
    path = present_image(files)
    try:
        image = read_image(path, upright=False)
    except S2LDError as error:
        raise unreadable("image undecodable", str(error)) from error
    intrinsics_scale(files, (image.shape[1], image.shape[0]))
    return image


def read_depth(files: PhotoFiles, size: Size | None) -> NDArray[np.float32]:
    """Return the depth map at an image of `size` (None: at its own), (H, W) z, 0 unknown.

    One of the size that the intrinsics belong to is resampled (nearest pixel) to an image of another size.

    Raises:
        UnreadableError: it is missing, not HDF5 with a data set ``depth``, or of neither size.
    """
    with _depth_data(files) as data:
        check_depth_size(files, data.shape, size)
        depth = np.asarray(data[()], np.float32)
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    if size is None or depth.shape == size[::-1]:
        return depth
    return nearest(depth, (size[1], size[0]), (depth.shape[1] / size[0], depth.shape[0] / size[1]))


def depth_shape(files: PhotoFiles) -> tuple[int, ...]:
    """Return the shape (H, W) of the depth map by its header alone; raises `UnreadableError` as `read_depth`."""
    with _depth_data(files) as data:
        return tuple(data.shape)


def depth_map(path: Path) -> NDArray[np.float32]:
    """Return the data set ``depth`` of an HDF5 file.

    Raises:
        S2LDError: it is missing, no HDF5 file, has no such data set, or not of numbers.
    """
    with read_hdf5(path, NO_MAP) as file:
        return np.asarray(read_array(file, "depth"), np.float32)


def present_image(files: PhotoFiles) -> Path:
    """Return the image's file, whatever its ending; raises `UnreadableError` where there is none."""
    path = find_image(files.image)
    if path is None:
        raise unreadable(
            "image missing",
            f"{files.image}: no such image; is DATA.MEGADEPTH.*ROOT or LAYOUT right? s2ld check-data tells",
        )
    return path


def present_depth(files: PhotoFiles) -> Path:
    """Return the depth map's file; raises `UnreadableError` where there is none."""
    if files.depth is None or not files.named[1]:
        raise unreadable("depth missing", f"{files.image}: the index names no depth map of it; training needs it")
    if not files.depth.is_file():
        raise unreadable(
            "depth missing", f"{files.depth}: no such depth map (of {files.image}); training needs it, fetch the depths"
        )
    return files.depth


def header_size(files: PhotoFiles) -> Size:
    """Return the image's size by its header alone; raises `UnreadableError` where there is none."""
    path = present_image(files)
    try:
        with open_header(path) as image:
            return image.size
    except Exception as error:  # whatever damaged or invented bytes may lead Pillow into
        raise unreadable("image undecodable", f"{path}: not an image by its header; fetch it again") from error


def intrinsics_scale(files: PhotoFiles, size: Size) -> tuple[float, float]:
    """Return px of the image that the intrinsics belong to, per px of the file's image of `size`, (x, y).

    Raises:
        UnreadableError: the two have not one shape, so that they cannot show the same.
    """
    if files.size is None or files.size == size:
        return 1.0, 1.0
    (width, height), (w, h) = size, files.size
    if abs(width * h - height * w) > ROUNDING_PX * min(max(width, height), max(w, h)):
        raise unreadable(
            "image of another shape",
            f"{files.image}: an image of {width}x{height} px, but its intrinsics belong to one of {w}x{h}; "
            "take the image that the index was made with",
        )
    return w / width, h / height


def check_depth_size(files: PhotoFiles, shape: tuple[int, ...], size: Size | None) -> None:
    """Raise `UnreadableError` unless a depth map of `shape` (H, W) belongs to an image of `size`."""
    allowed = [known[::-1] for known in (size, files.size) if known is not None]
    if len(shape) == 2 and (size is None or shape in allowed):
        return
    raise unreadable(
        "depth of another size",
        f"{files.depth}: a depth map of shape {shape} for an image of {allowed[0] if allowed else 'two axes'} "
        "(rows, columns); they must agree",
    )


@contextmanager
def _depth_data(files: PhotoFiles) -> Iterator[h5py.Dataset]:
    path = present_depth(files)
    try:
        with read_hdf5(path, NO_MAP) as file:
            yield find_array(file, "depth")
    except UnreadableError:
        raise
    except S2LDError as error:
        raise unreadable("depth undecodable", str(error)) from error


def nearest(depth: NDArray[np.float32], shape: tuple[int, int], scale: tuple[float, float]) -> NDArray[np.float32]:
    """Take the depth of the pixel that the centre of each resized pixel falls on: means would invent depths.

    Args:
        depth: (H, W).
        shape: (rows, columns) of the result.
        scale: px of the depth map per px of the result, (x, y).
    """
    rows, columns = (
        np.minimum(np.floor((np.arange(count) + 0.5) * factor).astype(int), limit - 1)
        for count, factor, limit in zip(shape, scale[::-1], depth.shape, strict=True)
    )
    return np.ascontiguousarray(depth[rows[:, None], columns])


def unreadable(problem: str, message: str) -> UnreadableError:
    """Return the error of a problem."""
    error = UnreadableError(message)
    error.problem = problem
    return error
