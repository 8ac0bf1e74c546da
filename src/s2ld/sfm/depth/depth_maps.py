"""Depth maps of all images of a sparse model, by plane sweeps or from COLMAP, confirmed by each other."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.data.images.photo_files import nearest
from s2ld.data.images.reading import read_image, resize
from s2ld.errors import S2LDError
from s2ld.files import make_folder
from s2ld.geometry.camera import rescale_intrinsics
from s2ld.hdf5 import has, new_hdf5, read_array, read_hdf5
from s2ld.log import Progress
from s2ld.sfm.depth.colmap_maps import find_map, read_map
from s2ld.sfm.depth.consistency import DepthView, count_agreeing, remove_speckles
from s2ld.sfm.depth.options import SweepOptions
from s2ld.sfm.depth.plane_sweep import SweepView, choose_planes, sweep
from s2ld.sfm.depth.views import choose_sources, depth_range, seen_in_camera
from s2ld.sfm.mapping.model import SparseModel

__all__ = ["DepthReport", "SweepOptions", "compute_depths", "depth_file", "point_errors"]

MANTISSA_BITS = 10
"""Kept of a depth: relative rounding below 0.05 %, and zeros that gzip likes."""
CACHED = 64
"""Images and maps that are kept in memory."""
RAW = "raw_depths"
"""Folder of the maps that are not yet confirmed; it goes once all are."""

REMEDY = "delete it and run the same command again"


@dataclass(frozen=True)
class DepthReport:
    """What became of one image."""

    name: str
    """Of the image, as in the model."""
    path: Path
    """Its depth map, also where that is empty."""
    coverage: float
    """Share of pixels of known depth, in [0, 1]."""
    error: float | None
    """Median relative difference from the points that it sees, at pixels of known depth; None where there is none."""
    reason: str
    """Why the map is empty; "" where it is not."""


def depth_file(folder: Path, name: str) -> Path:
    """Return where the depth map of image `name` lies: its suffix stays, for two images may differ in it alone."""
    return folder / f"{name}.h5"


def compute_depths(
    model: SparseModel,
    image_folder: Path,
    out_folder: Path,
    options: SweepOptions | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
    jobs: int = 1,
    colmap_maps: Path | None = None,
) -> list[DepthReport]:
    """Write ``depths/NAME.h5`` below `out_folder` for each image of a model.

    A map has the size of its image, float32 z in the data set ``depth``, 0 unknown. An image without depth has an
    empty map (all 0), so that whoever reads it need not ask. Maps that are there already and were made from the same
    model with the same options are kept, so that a run that was stopped goes on where it was.

    Args:
        model: images without lens distortion, and points.
        image_folder: where `model.names` are.
        out_folder: made if missing.
        options: None are the defaults.
        device: of the sweeps.
        progress: show a bar.
        jobs: images at a time, in threads; each needs about 250 MB.
        colmap_maps: COLMAP's ``stereo/depth_maps`` of the same images: where it has the map of an image, this one is
            taken, of a geometric one all but specks, of a photometric one what the others confirm.

    Returns:
        One report an image, in the order of the model.

    Raises:
        S2LDError: the folder cannot be written.
    """
    work = _Work(model, image_folder, out_folder, options or SweepOptions(), torch.device(device), colmap_maps)
    make_folder(out_folder)
    waiting = [image for image in range(len(model)) if work.report(image) is None]
    needed = sorted({other for image in waiting for other in (image, *work.neighbours(image))})
    with Progress(total=len(needed) + len(waiting), desc="depth maps", unit="step", disable=not progress) as bar:
        for step, images in ((work.make_raw, needed), (work.make_final, waiting)):
            for _ in _in_threads(step, images, jobs):
                bar.update()
    reports = [report for image in range(len(model)) if (report := work.report(image)) is not None]
    shutil.rmtree(out_folder / RAW, ignore_errors=True)
    return reports


def point_errors(model: SparseModel, image: int, depth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ``|depth / z - 1|`` of the points that an image sees at pixels (nearest) of known depth, (k,).

    Args:
        model: points and cameras.
        image: row of the image.
        depth: (H, W) of the image's size.
    """
    points = seen_in_camera(model, image)
    pixels = points @ model.K[image].T
    nearest_px = np.floor(pixels[:, :2] / pixels[:, 2:] + 0.5)
    inside = ((nearest_px >= 0) & (nearest_px < depth.shape[::-1])).all(1)
    columns, rows = nearest_px[inside].astype(int).T
    found, z = depth[rows, columns].astype(float), points[inside, 2]
    return np.asarray(np.abs(found / z - 1)[found > 0], np.float64)


def _in_threads(step: Callable[[int], None], images: Sequence[int], jobs: int) -> Iterator[None]:
    """Do a step for all images, `jobs` at a time; an error or Ctrl-C drops those that have not begun."""
    if jobs == 1:
        for image in images:
            step(image)
            yield
        return
    pool = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))  # the setting is a thread's own
    try:
        for done in as_completed([pool.submit(step, image) for image in images]):
            done.result()
            yield
    finally:
        pool.shutdown(cancel_futures=True)


class _Work:
    """The steps of `compute_depths`, each of one image; they may run in several threads."""

    def __init__(
        self,
        model: SparseModel,
        image_folder: Path,
        out_folder: Path,
        options: SweepOptions,
        device: torch.device,
        colmap_maps: Path | None,
    ) -> None:
        self.model, self.image_folder, self.options = model, image_folder, options
        self.final, self.raw = out_folder / "depths", out_folder / RAW
        self.device, self.colmap_maps = device, colmap_maps
        self.key = _digest(model, options, colmap_maps is not None)
        # of their own for each run: what they hold goes with it
        self.view = lru_cache(CACHED)(self._view)
        self.raw_map = lru_cache(CACHED)(self._raw_map)
        self.neighbours = lru_cache(None)(self._neighbours)

    def report(self, image: int) -> DepthReport | None:
        """Return the report of an image whose map is there and up to date, None of others."""
        name = self.model.names[image]
        path = depth_file(self.final, name)
        found = _read_attributes(path, self.key)
        if found is None:
            return None
        error = float(found["error"])
        return DepthReport(
            name, path, float(found["coverage"]), None if np.isnan(error) else error, str(found["reason"])
        )

    def make_raw(self, image: int) -> None:
        """Write the unconfirmed map, at the working size."""
        path = depth_file(self.raw, self.model.names[image])
        if _read_attributes(path, self.key) is not None:
            return
        try:
            depth, confirmed = self._colmap_map(image)
            if depth is None:
                depth = self._sweep(image)
            reason = ""
        except S2LDError as error:
            width, height = self._working_size(image)
            depth, confirmed, reason = np.zeros((height, width), np.float32), False, str(error)
        _write(path, depth, {"key": self.key, "reason": reason, "confirmed": confirmed})

    def make_final(self, image: int) -> None:
        """Write the confirmed map, at the size of the image."""
        depth, reason = self._finish(image)
        errors = point_errors(self.model, image, depth)
        error = float(np.median(errors)) if len(errors) else float("nan")
        attributes = {"key": self.key, "reason": reason, "coverage": float((depth > 0).mean()), "error": error}
        _write(depth_file(self.final, self.model.names[image]), depth, attributes)

    def _finish(self, image: int) -> tuple[NDArray[np.float32], str]:
        """Return the confirmed map at the size of the image, and why it is empty."""
        view, reason, confirmed = self.raw_map(image)
        depth = view.depth
        if not reason and not confirmed:
            others = [self.raw_map(other)[0] for other in self.neighbours(image)]
            agreeing = count_agreeing(view, others, self.options.tolerance)
            depth = torch.where(agreeing >= self.options.agreeing, depth, 0.0)
        small = remove_speckles(depth.numpy(), self.options.speckle_size, self.options.speckle_step)
        if not reason and not small.any():
            reason = "no depth that the maps of other images confirm"
        width, height = (int(side) for side in self.model.sizes[image])
        scale = small.shape[1] / width, small.shape[0] / height
        return _round_mantissa(nearest(small, (height, width), scale)), reason

    def _sweep(self, image: int) -> NDArray[np.float32]:
        points = len(seen_in_camera(self.model, image))
        if points < self.options.least_points:
            raise S2LDError(f"sees {points} points of the model, {self.options.least_points} are needed")
        reference, sources = self.view(image), []
        for other in choose_sources(self.model, image, self.options.sources, self.options.least_points):
            try:
                sources.append(self.view(int(other)))
            except S2LDError:  # it is told where it is the reference
                continue
        if not sources:
            raise S2LDError("no other image shares enough points with it at a useful angle")
        near, far = depth_range(self.model, image, self.options.depth_margin)
        planes = choose_planes(reference, sources, near, far, self.options)
        return np.asarray(sweep(reference, sources, planes, self.options).depth.cpu().numpy(), np.float32)

    def _colmap_map(self, image: int) -> tuple[NDArray[np.float32] | None, bool]:
        """Return COLMAP's map at the working size and whether it is a geometric one; None where there is none."""
        found = None if self.colmap_maps is None else find_map(self.colmap_maps, self.model.names[image])
        if found is None:
            return None, False
        path, kind = found
        depth = read_map(path)
        width, height = (int(side) for side in self.model.sizes[image])
        rows, columns = depth.shape
        if abs(width * rows - height * columns) > max(width, height, rows, columns):
            raise S2LDError(f"{path}: {columns} x {rows} px for an image of {width} x {height}; another shape")
        w, h = self._working_size(image)
        return nearest(depth, (h, w), (columns / w, rows / h)), kind == "geometric"

    def _neighbours(self, image: int) -> list[int]:
        chosen = choose_sources(self.model, image, self.options.neighbours, self.options.least_points)
        return [int(other) for other in chosen]

    def _working_size(self, image: int) -> tuple[int, int]:
        width, height = (int(side) for side in self.model.sizes[image])
        factor = min(1.0, self.options.long_side / max(width, height))
        return max(1, round(width * factor)), max(1, round(height * factor))

    def _camera(self, image: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K at the working size and the pose."""
        scale = torch.from_numpy(self.model.sizes[image] / np.array(self._working_size(image)))
        K = rescale_intrinsics(torch.from_numpy(self.model.K[image]), scale)
        return K, torch.from_numpy(self.model.poses[image])

    def _view(self, image: int) -> SweepView:
        path = self.image_folder / self.model.names[image]
        grey = read_image(path, grey=True, upright=False)
        width, height = (int(side) for side in self.model.sizes[image])
        if grey.shape != (height, width):
            raise S2LDError(f"{path}: {grey.shape[1]} x {grey.shape[0]} px, {width} x {height} in the model")
        small = resize(grey, self._working_size(image))[0]
        return SweepView(torch.from_numpy(small).float().to(self.device), *self._camera(image))

    def _raw_map(self, image: int) -> tuple[DepthView, str, bool]:
        """Return the raw map, why it is empty, and whether it is confirmed already."""
        with _LOCK, read_hdf5(depth_file(self.raw, self.model.names[image]), REMEDY) as file:
            depth = torch.from_numpy(np.asarray(read_array(file, "depth"), np.float32))
            reason, confirmed = str(file.attrs["reason"]), bool(file.attrs["confirmed"])
        return DepthView(depth, *self._camera(image)), reason, confirmed


_LOCK = threading.Lock()
"""For what HDF5 does: some of its builds know no threads."""


def _write(path: Path, depth: NDArray[np.float32], attributes: dict[str, Any]) -> None:
    with _LOCK, new_hdf5(path) as file:
        file.create_dataset("depth", data=depth, compression="gzip", compression_opts=4, shuffle=True)
        file.attrs.update(attributes)


def _read_attributes(path: Path, key: str) -> dict[str, Any] | None:
    """Return what was written beside a map, None where it is missing, damaged or of another key."""
    try:
        with _LOCK, read_hdf5(path, REMEDY) as file:
            attributes = dict(file.attrs)
            return attributes if attributes.get("key") == key and has(file, "depth") else None
    except S2LDError:
        return None


def _round_mantissa(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to `MANTISSA_BITS` of the 23 bits of a float32's mantissa."""
    dropped = 23 - MANTISSA_BITS
    bits = depth.view(np.uint32) + np.uint32(1 << (dropped - 1))
    return (bits & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)


def _digest(model: SparseModel, options: SweepOptions, with_colmap: bool) -> str:
    """Return what changes whenever a model, the options, or whether COLMAP's maps are taken do."""
    total = hashlib.sha256(repr((tuple(model.names), options, with_colmap)).encode())
    for array in (model.sizes, model.K, model.poses, model.points, *model.visible):
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
