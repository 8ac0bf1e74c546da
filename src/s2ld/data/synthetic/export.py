"""Synthetic scenes on disk in MegaDepth's form: JPEG photos, HDF5 depth, an index of plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images.reading import write_image
from s2ld.data.images.textures import TextureBank
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.data.synthetic.cameras import draw_first, draw_second, known_points, visible_share
from s2ld.data.synthetic.draw import draw_scene
from s2ld.data.synthetic.render import Atlas, Rendered, render_views
from s2ld.data.synthetic.scene import Array, Camera, Scene
from s2ld.errors import S2LDError
from s2ld.hdf5 import new_hdf5


@dataclass(frozen=True)
class _Pairs:
    """What the index knows of the pairs of one scene."""

    pairs: NDArray[np.int64]
    overlap: NDArray[np.float32]
    angle: NDArray[np.float32]


def write_megadepth(folder: str | Path, config: CN, seed: int, scenes: int, views: int) -> list[Path]:
    """Write random scenes as ``<scene>/images/*.jpg``, ``<scene>/depths/*.h5`` and ``index/<scene>.npz``.

    Photos are in colour and without photometric change; depth is (H, W) float32 z of the pixel centres, 0 unknown, in
    dataset ``/depth``. An index is a `SceneIndex` in its plain form, paths relative to `folder`; it has all pairs that
    overlap at all, the overlap being the smaller of both directions and the angle the median over view 0.

    Args:
        folder: where to write; made if missing.
        config: the DATA node.
        seed: of the scenes; scene i is a pure function of (seed, i).
        scenes: number of scenes.
        views: photos a scene, at least two.

    Returns:
        The index files.

    Raises:
        S2LDError: `folder` cannot be written, or there are too few views.
    """
    if views < 2 or scenes < 1:
        raise S2LDError(f"{scenes} scenes of {views} views: at least one scene and two views are needed for a pair")
    root = Path(folder)
    bank = TextureBank.of(config)
    atlas = Atlas(bank, config.SYNTHETIC.TEXTURE_SIDE, config.SYNTHETIC.TEXTURE_CACHE)
    written = []
    for number in range(scenes):
        rng = np.random.Generator(np.random.PCG64([seed, number]))
        scene = draw_scene(config.SYNTHETIC, len(bank), rng)
        cameras = _draw_cameras(scene, config, views, rng)
        try:
            written.append(_write_scene(root, f"synthetic_{number:04d}", scene, cameras, config, atlas))
        except OSError as error:
            raise S2LDError(f"{root}: cannot write here ({error.strerror or error}); choose another folder") from error
    return written


def _draw_cameras(scene: Scene, config: CN, views: int, rng: np.random.Generator) -> list[Camera]:
    """Draw a first camera, and each further one against a random earlier one, so that pairs of all overlaps arise."""
    size = config.IMAGE_SIZE[0], config.IMAGE_SIZE[1]
    cameras = [draw_first(config.SYNTHETIC, size, rng)]
    while len(cameras) < views:
        anchor = cameras[int(rng.integers(len(cameras)))]
        cameras.append(draw_second(config.SYNTHETIC, scene, anchor, size, rng)[0])
    return cameras


def _write_scene(root: Path, name: str, scene: Scene, cameras: list[Camera], config: CN, atlas: Atlas) -> Path:
    size = config.IMAGE_SIZE[0], config.IMAGE_SIZE[1]
    for folder in (root / name / "images", root / name / "depths", root / "index"):
        folder.mkdir(parents=True, exist_ok=True)
    images = [f"{name}/images/{view:03d}.jpg" for view in range(len(cameras))]
    depths = [f"{name}/depths/{view:03d}.h5" for view in range(len(cameras))]
    for camera, image, depth in zip(cameras, images, depths, strict=True):
        _write_view(
            render_views([scene], [camera], atlas, size, config.SYNTHETIC.SUPERSAMPLE), root / image, root / depth
        )
    found = _find_pairs(scene, cameras, size, name)
    K, poses = np.stack([camera.K for camera in cameras]), np.stack([camera.pose for camera in cameras])
    index = SceneIndex(
        name,
        np.array(images),
        np.array(depths),
        K,
        poses,
        found.pairs,
        found.overlap,
        found.angle,
        np.tile(np.array(size), (len(cameras), 1)),
    )
    path = root / "index" / f"{name}.npz"
    write_index(index, path)
    return path


def _write_view(view: Rendered, image: Path, depth: Path) -> None:
    write_image(view.image[0].cpu().numpy(), image)
    with new_hdf5(depth) as file:
        file.create_dataset("depth", data=view.depth[0].cpu().numpy(), compression="gzip")


def _find_pairs(scene: Scene, cameras: list[Camera], size: tuple[int, int], name: str) -> _Pairs:
    points = [known_points(scene, camera, size).world for camera in cameras]
    shares = np.array([visible_share(scene, known, cameras, size) for known in points])
    joint = np.minimum(shares, shares.T)
    pairs = [(i, j) for i in range(len(cameras)) for j in range(i + 1, len(cameras)) if joint[i, j] > 0]
    if not pairs:
        raise S2LDError(f"{name}: no two views overlap; write more views, or raise DATA.SYNTHETIC.OVERLAP")
    angles = [_triangulation_angle(points[i], cameras[i], cameras[j]) for i, j in pairs]
    chosen = np.array(pairs, np.int64).reshape(-1, 2)
    return _Pairs(chosen, joint[chosen[:, 0], chosen[:, 1]].astype(np.float32), np.array(angles, np.float32))


def _triangulation_angle(points: Array, first: Camera, second: Camera) -> float:
    """Median angle (degrees) at `points` (P, 3) between the rays to both cameras."""
    rays = [points + c.pose[:3, :3].T @ c.pose[:3, 3] for c in (first, second)]
    units = [ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays]
    return float(np.median(np.degrees(np.arccos(np.clip((units[0] * units[1]).sum(1), -1.0, 1.0)))))
