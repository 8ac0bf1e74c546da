"""Two reconstructions of the same photographs, by their indices: how far poses and depth differ.

One is moved onto the other by the similarity of least squares between the camera centres (Umeyama, TPAMI 1991).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.photo_files import depth_map
from s2ld.data.index.files import SceneIndex, read_index
from s2ld.errors import S2LDError

Array = NDArray[np.float64]
GRID = 4
"""px between the rows and columns at which depth is compared."""
LEAST_COMMON = 3


@dataclass(frozen=True)
class Similarity:
    """``x' = scale R x + t``."""

    scale: float
    R: Array
    """(3, 3)."""
    t: Array
    """(3)."""

    def apply(self, points: Array) -> Array:
        """Move points (..., 3)."""
        return self.scale * points @ self.R.T + self.t


@dataclass(frozen=True)
class Comparison:
    """Differences of the scene from the reference."""

    common: int
    """Images in both."""
    images: int
    """Images of the reference."""
    position: Array
    """(common) distance of the camera centres over the largest distance between two centres of the reference."""
    rotation: Array
    """(common) degrees."""
    depth: Array
    """(k) relative differences of depth, at pixels that both know."""
    by_image: Array
    """Median of each image that has any of them."""
    both: float
    """Share of the reference's known pixels whose depth both know."""


def compare_scenes(scene: Path, reference: Path) -> Comparison:
    """Compare two index files whose paths start from the folders above their own folders (OUT/index/X.npz).

    Images are the same where their file names without folder and suffix are. Depth is compared where the reference
    knows it: its point is moved onto the scene and projected into the scene's image, so that intrinsics may differ.

    Raises:
        S2LDError: an index or depth map cannot be read, or fewer than `LEAST_COMMON` images are in both.
    """
    one, other = read_index(scene), read_index(reference)
    rows = {_stem(path): row for row, path in enumerate(one.image_paths)}
    pairs = [(rows[_stem(path)], row) for row, path in enumerate(other.image_paths) if _stem(path) in rows]
    if len(pairs) < LEAST_COMMON:
        raise S2LDError(f"{scene}: {len(pairs)} of {reference}'s images are in it; {LEAST_COMMON} are needed")
    own, theirs = np.array(pairs).T
    moved = align(camera_centres(other.poses[theirs]), camera_centres(one.poses[own]))
    gaps = camera_centres(one.poses[own]) - moved.apply(camera_centres(other.poses[theirs]))
    extent = moved.scale * _extent(camera_centres(other.poses[theirs]))
    differences = [_depth_differences(one, other, i, j, moved, scene, reference) for i, j in pairs]
    found = [difference for difference, _ in differences]
    return Comparison(
        len(pairs),
        len(other.image_paths),
        np.linalg.norm(gaps, axis=1) / extent,
        np.array([_angle(one.poses[i][:3, :3] @ moved.R, other.poses[j][:3, :3]) for i, j in pairs]),
        np.concatenate(found),
        np.array([np.median(values) for values in found if len(values)]),
        sum(map(len, found)) / max(sum(count for _, count in differences), 1),
    )


def align(source: Array, target: Array) -> Similarity:
    """Return the similarity of least squares from points (n, 3) to points (n, 3); they must not lie on one line."""
    mean0, mean1 = source.mean(0), target.mean(0)
    centred0, centred1 = source - mean0, target - mean1
    U, S, Vt = np.linalg.svd(centred1.T @ centred0 / len(source))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = U * sign @ Vt
    scale = float((S * sign).sum() / (centred0**2).sum(1).mean())
    return Similarity(scale, R, mean1 - scale * R @ mean0)


def camera_centres(poses: Array) -> Array:
    """Return the centres (n, 3) of poses (n, 4, 4) world to camera."""
    return np.asarray(-np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3]), np.float64)


def _extent(centres: Array) -> float:
    return float(np.linalg.norm(centres[:, None] - centres, axis=2).max())


def _angle(R_a: Array, R_b: Array) -> float:
    """Angle between rotations, degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(R_a.T @ R_b) - 1) / 2, -1.0, 1.0))))


def _depth_differences(
    one: SceneIndex, other: SceneIndex, i: int, j: int, moved: Similarity, scene: Path, reference: Path
) -> tuple[Array, int]:
    """Return the relative differences where both know the depth, and the number of points that the reference knows."""
    own, theirs = (
        depth_map(path.resolve().parents[1] / str(index.depth_paths[row]))
        for path, index, row in ((scene, one, i), (reference, other, j))
    )
    y, x = np.meshgrid(np.arange(0, theirs.shape[0], GRID), np.arange(0, theirs.shape[1], GRID), indexing="ij")
    known = theirs[y, x] > 0
    x, y = x[known], y[known]
    z = theirs[y, x].astype(np.float64)
    local = np.stack([x, y, np.ones_like(x)], 1) @ np.linalg.inv(other.intrinsics[j]).T * z[:, None]
    world = moved.apply((local - other.poses[j][:3, 3]) @ other.poses[j][:3, :3])
    mine = world @ one.poses[i][:3, :3].T + one.poses[i][:3, 3]
    mine = mine[mine[:, 2] > 0]
    pixels = np.floor((mine @ one.intrinsics[i].T)[:, :2] / mine[:, 2:] + 0.5)
    inside = ((pixels >= 0) & (pixels < own.shape[::-1])).all(1)
    column, row = pixels[inside].astype(np.int64).T
    found, expected = own[row, column].astype(np.float64), mine[inside, 2]
    both = found > 0
    return np.abs(found[both] / expected[both] - 1), len(z)


def _stem(path: object) -> str:
    return PurePosixPath(str(path)).stem
