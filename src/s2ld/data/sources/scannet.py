"""ScanNet-1500: the indoor test pairs of SuperGlue (Sarlin et al., CVPR 2020), in the form that LoFTR distributes.

INDEX holds ``test.npz``, whose array ``name`` (P, 4) has scene, sub-scene and the two frames of each pair, and
``intrinsics.npz`` with a 3 x 3 for each scene by name. ROOT holds, for ``scene0707_00`` and frame 15,

- ``scene0707_00/color/15.jpg``, the photograph (1296 x 968 px);
- ``scene0707_00/pose/15.txt``, 4 x 4, camera to world, metres;
- ``scene0707_00/depth/15.png`` where DATA.SCANNET.DEPTH, 16 bits, millimetres, 0 unknown.

As in LoFTR, intrinsics and depth are those of the depth camera, 640 x 480 px with pixel centres at integers, and the
photograph is taken to be what that camera sees: resizing it to 640 x 480, pixel edges aligned, is all that is done.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images.image_files import read_pixels
from s2ld.data.images.reading import find_image, read_image, resize
from s2ld.data.index.matrices import Array, is_intrinsics, is_rigid, read_matrix
from s2ld.data.index.npz import read_npz
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.geometry.camera import rescale_intrinsics

DEPTH_FRAME = (640, 480)
"""Width and height of the frame that intrinsics and depth belong to, px."""
MILLIMETRES = 1000.0  # a metre


@dataclass(frozen=True)
class _Pair:
    scene: str
    frames: tuple[str, str]
    T_0to1: Array


class ScanNetPairs:
    """The pairs of DATA.SCANNET, resized to DATA.SCANNET.SIZE; with depth, in metres, where DATA.SCANNET.DEPTH.

    Pairs of a frame whose pose ScanNet lost (infinite or NaN) are left out with a warning that counts them.

    Args:
        config: the DATA node.

    Raises:
        S2LDError: the folder or a file of the index is missing or malformed, or holds pickled objects (which are never
            read), a pose is missing or not rigid, no pair is left; `__getitem__`: an image or depth map is missing.
    """

    def __init__(self, config: CN) -> None:
        node = config.SCANNET
        self.root = Path(node.ROOT)
        multiple = int(config.POSED_PAIRS.MULTIPLE)
        width, height = (max(multiple, side // multiple * multiple) for side in node.SIZE)
        self.size = (width, height)
        self._depth = bool(node.DEPTH)
        index = Path(node.INDEX)
        names = _names(index / "test.npz")
        self._intrinsics = _intrinsics(index / "intrinsics.npz", sorted({scene for scene, _ in names}))
        if not self.root.is_dir():
            raise S2LDError(f"{self.root}: no such folder of ScanNet scenes; set DATA.SCANNET.ROOT")
        self._pairs = self._with_poses(names)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairSample:
        pair = self._pairs[index]
        view0, view1 = (self._view(pair.scene, frame) for frame in pair.frames)
        return PairSample(view0, view1, torch.from_numpy(pair.T_0to1).float(), f"scannet/{pair.scene}")

    def _with_poses(self, names: Sequence[tuple[str, tuple[str, str]]]) -> list[_Pair]:
        paths = {(scene, frame): self.root / scene / "pose" / f"{frame}.txt" for scene, both in names for frame in both}
        poses = {key: _read_pose(path) for key, path in paths.items()}
        pairs = []
        for scene, (frame0, frame1) in names:
            pose0, pose1 = poses[scene, frame0], poses[scene, frame1]
            if pose0 is not None and pose1 is not None:
                pairs.append(_Pair(scene, (frame0, frame1), np.asarray(np.linalg.inv(pose1) @ pose0, np.float64)))
        lost = [path for key, path in paths.items() if poses[key] is None]
        if not pairs:
            raise S2LDError(f"{self.root}: no pair of which both poses are finite numbers, e.g. {lost[0]}; fetch them")
        if lost:
            left = len(names) - len(pairs)
            warnings.warn(
                f"{left} of {len(names)} ScanNet pairs are left out: {len(lost)} poses are not finite, e.g. {lost[0]}",
                stacklevel=3,
            )
        return pairs

    def _view(self, scene: str, frame: str) -> ViewSample:
        path = find_image(self.root / scene / "color", frame)
        image, scale = resize(read_image(path, grey=True, upright=False), self.size)
        shrink = torch.tensor([DEPTH_FRAME[axis] / self.size[axis] for axis in (0, 1)], dtype=torch.float64)
        K = rescale_intrinsics(torch.from_numpy(self._intrinsics[scene]), shrink)
        depth = None
        if self._depth:
            depth = torch.from_numpy(_read_depth(self.root / scene / "depth" / f"{frame}.png", self.size))
        name = path.relative_to(self.root).as_posix()
        return ViewSample(torch.from_numpy(image)[None].float() / 255, K.float(), depth, scale, name)


def _read_arrays(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Read arrays of an .npz that holds plain arrays; nothing is unpickled."""
    try:
        arrays = read_npz(path, names)
        return [arrays[name] for name in names]
    except OSError as error:
        raise S2LDError(f"{path}: cannot read this file ({error.strerror}); set DATA.SCANNET.INDEX") from error
    except KeyError as error:
        raise S2LDError(f"{path}: no array {error.args[0]}; it belongs to other pairs, fetch it again") from error


def _names(path: Path) -> list[tuple[str, tuple[str, str]]]:
    (names,) = _read_arrays(path, ["name"])
    if names.ndim != 2 or names.shape[1] != 4 or not len(names) or not np.issubdtype(names.dtype, np.integer):
        raise S2LDError(f"{path}: 'name' must be whole numbers (pairs, 4): scene, sub-scene and two frames")
    return [(f"scene{scene:04d}_{sub:02d}", (str(frame0), str(frame1))) for scene, sub, frame0, frame1 in names]


def _intrinsics(path: Path, scenes: Sequence[str]) -> dict[str, Array]:
    cameras = {}
    for scene, K in zip(scenes, _read_arrays(path, scenes), strict=True):
        if K.size != 9 or not np.can_cast(K.dtype, np.float64) or not is_intrinsics(K.reshape(3, 3)):
            raise S2LDError(f"{path}: {scene} has no 3 x 3 intrinsics with positive focal lengths; fetch it again")
        cameras[scene] = K.reshape(3, 3).astype(np.float64)
    return cameras


def _read_pose(path: Path) -> Array | None:
    """Read camera to world, (4, 4); None where the frame's pose was lost."""
    pose = read_matrix(path, 4)
    if not np.isfinite(pose).all():
        return None
    if not is_rigid(pose):
        raise S2LDError(f"{path}: not a rigid motion [[R, t], [0, 0, 0, 1]]; fetch this file again")
    return pose


def _read_depth(path: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """Read depth, (H, W) metres, of the pixel of its frame that the centre of each resized pixel falls on."""
    try:
        depth = read_pixels(path, grey=True, upright=False)
    except S2LDError:
        depth = None
    if depth is None or depth.dtype != np.uint16 or depth.shape != DEPTH_FRAME[::-1]:
        what = f"{DEPTH_FRAME[0]} x {DEPTH_FRAME[1]} px of 16 bits"
        raise S2LDError(f"{path}: no depth map of {what} here; fetch it, or set DATA.SCANNET.DEPTH False")
    nearest = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return nearest.astype(np.float32) / np.float32(MILLIMETRES)
