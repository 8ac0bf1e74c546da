"""Pairs of MegaDepth, and of any scenes in its form: an index, photographs and depth maps (h5, data set ``depth``)."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images import UInt8Image, network_size, resize, to_grey
from s2ld.data.index import SceneIndex, Selection, read_indices
from s2ld.data.mixture import ENDLESS
from s2ld.data.photo_files import intrinsics_scale, nearest, photo_files, read_depth, read_photo
from s2ld.data.photometric import augment
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.scene_order import SceneOrder
from s2ld.errors import S2LDError
from s2ld.geometry.camera import rescale_intrinsics
from s2ld.geometry.pose import relative_pose


@dataclass(frozen=True)
class _Photo:
    """A decoded image at the size that the network sees."""

    image: UInt8Image
    depth: NDArray[np.float32] | None
    K: NDArray[np.float64]  # of the resized image, px
    scale: tuple[float, float]

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return self.image.nbytes + (0 if self.depth is None else self.depth.nbytes)


class _Cache:
    """Keeps the photos used last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._photos: OrderedDict[tuple[int, int], _Photo] = OrderedDict()

    def get(self, key: tuple[int, int]) -> _Photo | None:
        """Return the photo of (scene, image), which is then the last used, or None."""
        if key in self._photos:
            self._photos.move_to_end(key)
        return self._photos.get(key)

    def put(self, key: tuple[int, int], photo: _Photo) -> None:
        """Keep a photo that is not there yet; the least recently used leave for it."""
        self._photos[key] = photo
        self._used += photo.size_bytes
        while self._used > self._limit:
            self._used -= self._photos.popitem(last=False)[1].size_bytes


class _Rescaled:
    """Warns of images whose size is not that of their intrinsics: at the 1st, 10th, 100th ... that this process meets.

    Args:
        counts: number of images of each scene.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self._starts = np.cumsum([0, *counts])
        self._seen = np.zeros(int(self._starts[-1]), bool)

    def add(self, which: int, image: int, path: Path) -> None:
        """Count image `image` of scene `which`, once however often it is read."""
        place = int(self._starts[which]) + image
        if self._seen[place]:
            return
        self._seen[place] = True
        count = int(self._seen.sum())
        if 10 ** round(math.log10(count)) == count:
            warnings.warn(
                f"{path}: of another size than its intrinsics, which are rescaled (image {count} of this kind in this "
                "process; scripts/check_data.py counts all)",
                stacklevel=2,
            )


class MegaDepthPairs:
    """Pairs of posed photographs, with depth where asked for.

    With a seed it is an endless training source, the scenes in equal shares, in the order of `SceneOrder`: a pure
    function of (seed, index). Without a seed the pairs are enumerated, scene after scene.

    Args:
        root: folder that the paths of the indices start from.
        scenes: the indices; a scene of which no pair passes the filters is left out.
        long_side: longer side of the resized image, px; both sides are rounded down to multiples of 8.
        depth: read the depth maps.
        overlap: least and largest overlap of a pair, by the index.
        max_angle: largest triangulation angle, degrees, where the index tells it.
        max_scale: largest ratio of the sizes in both images, either way, where the index tells it.
        seed: of the draw and of the photometric change.
        photometric: DATA.PHOTOMETRIC node of the change of each view; needs a seed. None: plain grey images.
        cache_mb: decoded photographs are kept up to this many MB.
        fill: (width, height) that every image is cropped (at its middle) and resized to, instead of `long_side`, so
            that batches need no padding.
        pairs_per_scene, lanes: of the order (`SceneOrder`).
        layout: where the files that the indices name lie (`s2ld.data.layouts`).
        principal_point: "integer" where the indices count pixel centres at integers, "half" where at halves (COLMAP):
            then half a px is subtracted.

    Raises:
        S2LDError: no pair passes the filters; `__getitem__`: an image or depth map is missing or of another shape
            (`s2ld.data.photo_files`). The message begins with the file and ends with scene and pair.
    """

    def __init__(
        self,
        root: str | Path,
        scenes: Sequence[SceneIndex],
        long_side: int,
        *,
        depth: bool = True,
        overlap: tuple[float, float] = (0.0, 1.0),
        max_angle: float = 180.0,
        max_scale: float = math.inf,
        seed: int | None = None,
        photometric: CN | None = None,
        cache_mb: int = 512,
        fill: tuple[int, int] | None = None,
        pairs_per_scene: int = 100,
        lanes: int = 1,
        layout: str = "undistorted_sfm",
        principal_point: Literal["integer", "half"] = "integer",
    ) -> None:
        self.root = Path(root)
        self._fill = fill
        self.long_side = long_side
        self.seed = seed
        self._depth = depth
        self._photometric = photometric if seed is not None else None
        chosen = [(scene, Selection(scene, overlap, max_angle, max_scale)) for scene in scenes]
        self._scenes = [(scene, rows) for scene, rows in chosen if len(rows)]
        if not self._scenes:
            raise S2LDError(
                f"none of {len(scenes)} MegaDepth indices has a pair with overlap in {list(overlap)} and an angle of "
                f"at most {max_angle:g} degrees, scale ratio {max_scale:g}; widen DATA.MEGADEPTH.OVERLAP, MAX_ANGLE "
                "or MAX_SCALE"
            )
        self._ends = np.cumsum([len(rows) for _, rows in self._scenes])
        self._cache = _Cache(cache_mb << 20)
        counts = [len(rows) for _, rows in self._scenes]
        self._order = None if seed is None else SceneOrder(counts, pairs_per_scene, seed, lanes)
        self._layout = layout
        self._centre = 0.5 if principal_point == "half" else 0.0
        self._rescaled = _Rescaled([len(scene.image_paths) for scene, _ in self._scenes])

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.seed is None else ENDLESS

    @property
    def epoch_pairs(self) -> int | None:
        """Pairs of an epoch of training, scenes times `pairs_per_scene`; None where pairs are enumerated."""
        return None if self._order is None else self._order.epoch_pairs

    def scene(self, which: int) -> SceneIndex:
        """Return a scene by the number that `locate` gives."""
        return self._scenes[which][0]

    def locate(self, index: int) -> tuple[int, int]:
        """Return which scene (of those with pairs left) pair `index` is of, and which row of the scene's `pairs`."""
        if self._order is None:
            if not 0 <= index < len(self):
                raise IndexError(f"pair {index} of {len(self)}")
            which = int(np.searchsorted(self._ends, index, side="right"))
            rows = self._scenes[which][1]
            return which, rows[index - int(self._ends[which]) + len(rows)]
        which, place = self._order.locate(index)
        return which, self._scenes[which][1][place]

    def __getitem__(self, index: int) -> PairSample:
        which, row = self.locate(index)
        scene = self._scenes[which][0]
        image0, image1 = (int(image) for image in scene.pairs[row])
        poses = torch.from_numpy(scene.poses[[image0, image1]])
        try:
            view0, view1 = self._view(which, image0, index, 0), self._view(which, image1, index, 1)
        except S2LDError as error:
            pair = f"pair ({scene.image_paths[image0]}, {scene.image_paths[image1]})"
            raise S2LDError(f"{error} (scene {scene.name}, {pair})") from error
        return PairSample(
            view0,
            view1,
            relative_pose(poses[0], poses[1]).float(),
            f"megadepth/{scene.name}",
        )

    def _view(self, which: int, image: int, index: int, side: int) -> ViewSample:
        scene = self._scenes[which][0]
        photo = self._cache.get((which, image))
        if photo is None:
            photo = self._read(which, image)
            self._cache.put((which, image), photo)
        grey = photo.image
        if self._photometric is not None and self.seed is not None:
            grey = augment(grey, self._photometric, np.random.default_rng((self.seed, index, side)))
        return ViewSample(
            torch.from_numpy(grey)[None].float() / 255,
            torch.from_numpy(photo.K).float(),
            None if photo.depth is None else torch.from_numpy(photo.depth),
            photo.scale,
            str(scene.image_paths[image]),
        )

    def _read(self, which: int, image: int) -> _Photo:
        scene = self._scenes[which][0]
        files = photo_files(self.root, scene, image, self._layout, self._depth)
        full = read_photo(files)
        height, width = full.shape[:2]
        rows, columns = slice(0, height), slice(0, width)
        if self._fill is not None:
            rows, columns = _middle(height, width, *self._fill)
        size = self._fill or network_size(width, height, self.long_side)
        image_small, scale = resize(np.ascontiguousarray(full[rows, columns]), size)
        depth = None
        if self._depth:
            depth = nearest(read_depth(files, (width, height))[rows, columns], image_small.shape[:2], scale)
        factor = intrinsics_scale(files, (width, height))
        if factor != (1.0, 1.0):
            self._rescaled.add(which, image, files.image)
        K = torch.tensor(scene.intrinsics[image])
        K[:2, 2] -= self._centre
        K = rescale_intrinsics(K, torch.tensor(factor, dtype=K.dtype))
        K[:2, 2] -= torch.tensor([columns.start, rows.start], dtype=K.dtype)
        K = rescale_intrinsics(K, torch.tensor(scale, dtype=K.dtype))
        grey_or_colour = image_small if self._photometric is not None else to_grey(image_small)
        return _Photo(grey_or_colour, depth, K.numpy(), scale)


@dataclass(frozen=True)
class MegaDepthFiles:
    """Where the files of a split are, by the config."""

    root: Path
    index: Path
    scenes: str
    """Text file of index names; "" for all of the folder."""
    depth: bool
    """Whether the split reads depth maps."""


def megadepth_files(config: CN, split: Literal["train", "val", "test"]) -> MegaDepthFiles:
    """Return where the files of a split are, from the DATA node of a config."""
    node = config.MEGADEPTH
    if split == "test":
        return MegaDepthFiles(Path(node.TEST_ROOT), Path(node.TEST_INDEX), node.TEST_SCENES, bool(node.TEST_DEPTH))
    if split == "val":  # the list of training scenes says nothing of another folder
        scenes = node.VAL_SCENES or ("" if node.VAL_INDEX else node.SCENES)
        return MegaDepthFiles(Path(node.VAL_ROOT or node.ROOT), Path(node.VAL_INDEX or node.INDEX), scenes, True)
    return MegaDepthFiles(Path(node.ROOT), Path(node.INDEX), node.SCENES, True)


def megadepth_source(config: CN, split: Literal["train", "val", "test"], lanes: int = 1) -> MegaDepthPairs:
    """Build the MegaDepth source of a split from the DATA node of a config.

    Training and validation have depth and images of the longer side of DATA.IMAGE_SIZE; testing has that of
    DATA.TEST_LONG_SIDE, and depth only where asked for (TEST_DEPTH). Only training draws, shared out to `lanes`, and
    changes its images.

    Raises:
        S2LDError: what `read_indices` and `MegaDepthPairs` say.
    """
    node, files = config.MEGADEPTH, megadepth_files(config, split)
    return MegaDepthPairs(
        files.root,
        read_indices(files.index, files.scenes),
        config.TEST_LONG_SIDE if split == "test" else max(config.IMAGE_SIZE),
        depth=files.depth,
        overlap=(float(node.OVERLAP[0]), float(node.OVERLAP[1])),
        max_angle=node.MAX_ANGLE,
        max_scale=node.MAX_SCALE,
        seed=config.SEED if split == "train" else None,
        photometric=config.PHOTOMETRIC if split == "train" else None,
        cache_mb=node.CACHE_MB,
        fill=(config.IMAGE_SIZE[0], config.IMAGE_SIZE[1]) if split == "train" and node.FILL else None,
        pairs_per_scene=node.PAIRS_PER_SCENE,
        lanes=lanes,
        layout=node.LAYOUT,
        principal_point=node.PRINCIPAL_POINT,
    )


def _middle(height: int, width: int, to_width: int, to_height: int) -> tuple[slice, slice]:
    """Return rows and columns of the largest part of the shape `to_width` to `to_height`, at the middle."""
    factor = min(width / to_width, height / to_height)
    part_height, part_width = min(round(factor * to_height), height), min(round(factor * to_width), width)
    top, left = (height - part_height) // 2, (width - part_width) // 2
    return slice(top, top + part_height), slice(left, left + part_width)
