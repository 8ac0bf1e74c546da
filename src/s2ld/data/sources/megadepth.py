"""Pairs of MegaDepth, and of any scenes in its form: an index, photographs and depth maps (h5, data set ``depth``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.data.crops import Crops, common_windows, crops_of, is_crop
from s2ld.data.given import given
from s2ld.data.images.photo_cache import Depth, Photo, PhotoCache, RescaledImages, cut, middle
from s2ld.data.images.photo_files import intrinsics_scale, photo_files, read_depth, read_photo
from s2ld.data.images.photometric import augment, change_view
from s2ld.data.images.reading import UInt8Image, network_size, to_grey
from s2ld.data.index.files import SceneIndex, Selection, read_indices
from s2ld.data.index.scene_order import SceneOrder
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.sources.mixture import ENDLESS
from s2ld.data.viewpoint import viewpoint_change
from s2ld.errors import S2LDError
from s2ld.geometry.camera import rescale_intrinsics
from s2ld.geometry.pose import relative_pose

CROP_STREAM = 2  # third word of the generator's seed; 0 and 1 are those of the light of the views


class MegaDepthPairs:
    """Pairs of posed photographs, with depth where asked for.

    With a seed it is an endless training source, the scenes in equal shares, in the order of `SceneOrder`: a pure
    function of (seed, index). Without a seed the pairs are enumerated, scene after scene.

    Args:
        root: folder that the paths of the indices start from, or one for each scene.
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
        layout: where the files that the indices name lie (`s2ld.data.index.layouts`).
        principal_point: "integer" where the indices count pixel centres at integers, "half" where at halves (COLMAP):
            then half a px is subtracted.
        crop: which pairs are crops of the stored images; needs a seed and depth. None: all pairs are whole.

    Raises:
        S2LDError: no pair passes the filters; `__getitem__`: an image or depth map is missing or of another shape
            (`s2ld.data.images.photo_files`). The message begins with the file and ends with scene and pair.
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
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
        crop: Crops | None = None,
    ) -> None:
        self._fill = fill
        self.long_side = long_side
        self.seed = seed
        self._depth = depth
        self._photometric = photometric if seed is not None else None
        roots = [root] * len(scenes) if isinstance(root, str | Path) else root
        chosen = [(scene, Selection(scene, overlap, max_angle, max_scale)) for scene in scenes]
        self._scenes = [(scene, rows) for scene, rows in chosen if len(rows)]
        self._roots = [Path(place) for place, (_, rows) in zip(roots, chosen, strict=True) if len(rows)]
        if not self._scenes:
            raise S2LDError(
                f"none of {len(scenes)} MegaDepth indices has a pair with overlap in {list(overlap)} and an angle of "
                f"at most {max_angle:g} degrees, scale ratio {max_scale:g}; widen DATA.MEGADEPTH.OVERLAP, MAX_ANGLE "
                "or MAX_SCALE"
            )
        self._ends = np.cumsum([len(rows) for _, rows in self._scenes])
        self._cache = PhotoCache(cache_mb << 20)
        counts = [len(rows) for _, rows in self._scenes]
        self._order = None if seed is None else SceneOrder(counts, pairs_per_scene, seed, lanes)
        self._layout = layout
        self._crop = crop if depth and crop is not None and crop.share > 0 else None
        self._centre = 0.5 if principal_point == "half" else 0.0
        self._rescaled = RescaledImages([len(scene.image_paths) for scene, _ in self._scenes])

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
        pose = relative_pose(poses[0], poses[1])
        try:
            photos = self._crops(which, (image0, image1), pose, index)
            if photos is None:
                photos = self._photo(which, image0), self._photo(which, image1)
        except S2LDError as error:
            pair = f"pair ({scene.image_paths[image0]}, {scene.image_paths[image1]})"
            raise S2LDError(f"{error} (scene {scene.name}, {pair})") from error
        lights = self._change_light(photos, pose, index)
        views = [
            ViewSample(
                torch.from_numpy(grey)[None].float() / 255,
                torch.from_numpy(photo.K).float(),
                None if depth is None else torch.from_numpy(depth),
                photo.scale,
                str(scene.image_paths[image]),
            )
            for (grey, depth), photo, image in zip(lights, photos, (image0, image1), strict=True)
        ]
        return PairSample(views[0], views[1], pose.float(), f"megadepth/{scene.name}")

    def _crops(self, which: int, images: tuple[int, int], pose: Tensor, index: int) -> tuple[Photo, Photo] | None:
        """Return a crop of each image around what both see, where this pair is drawn to be one and such is found."""
        if self._crop is None or self.seed is None:
            return None
        rng = np.random.default_rng((self.seed, index, CROP_STREAM))
        if not is_crop(self._crop, rng):
            return None
        stored = self._stored(which, images[0]), self._stored(which, images[1])
        windows = common_windows(stored, pose.numpy(), self._crop, rng)
        if windows is None:
            return None
        size = self._crop.size
        return cut(stored[0], windows[0], size), cut(stored[1], windows[1], size)

    def _change_light(self, photos: Sequence[Photo], pose: Tensor, index: int) -> list[tuple[UInt8Image, Depth | None]]:
        """Return grey image and depth of each photo, changed where this is asked for."""
        node = self._photometric
        if node is None or self.seed is None:
            return [(photo.image, photo.depth) for photo in photos]
        change, depth = 1.0, photos[0].depth
        if depth is not None:
            K0, K1 = (torch.from_numpy(photo.K) for photo in photos)
            change = viewpoint_change(torch.from_numpy(depth), K0, K1, pose)
        lights: list[tuple[UInt8Image, Depth | None]] = []
        for side, photo in enumerate(photos):
            rng = np.random.default_rng((self.seed, index, side))
            if photo.depth is None:
                lights.append((augment(photo.image, node, rng, change), None))
            else:
                lights.append(change_view(photo.image, photo.depth, node, rng, change))
        return lights

    def _photo(self, which: int, image: int) -> Photo:
        """Return a whole image as the network sees it."""
        photo = self._cache.get((which, image, False))
        if photo is None:
            stored = self._stored(which, image)
            height, width = stored.image.shape[:2]
            window = (0, 0, width, height) if self._fill is None else middle(height, width, *self._fill)
            photo = cut(stored, window, self._fill or network_size(width, height, self.long_side))
            if self._photometric is None:
                photo = replace(photo, image=to_grey(photo.image))
            self._cache.put((which, image, False), photo)
        return photo

    def _stored(self, which: int, image: int) -> Photo:
        """Return an image as its file has it; kept where crops are cut of it."""
        photo = self._cache.get((which, image, True))
        if photo is None:
            photo = self._read(which, image)
            if self._crop is not None:
                self._cache.put((which, image, True), photo)
        return photo

    def _read(self, which: int, image: int) -> Photo:
        scene = self._scenes[which][0]
        files = photo_files(self._roots[which], scene, image, self._layout, self._depth)
        full = read_photo(files)
        size = full.shape[1], full.shape[0]
        depth = read_depth(files, size) if self._depth else None
        factor = intrinsics_scale(files, size)
        if factor != (1.0, 1.0):
            self._rescaled.add(which, image, files.image)
        K = torch.tensor(scene.intrinsics[image])
        K[:2, 2] -= self._centre
        return Photo(full, depth, rescale_intrinsics(K, torch.tensor(factor, dtype=K.dtype)).numpy(), (1.0, 1.0))


@dataclass(frozen=True)
class MegaDepthFiles:
    """Where the files of a split are, by the config."""

    root: Path
    index: Path
    scenes: str
    """Text file of index names; "" for all of the folder."""
    depth: bool
    """Whether the split reads depth maps."""


def megadepth_files(config: CN, split: Literal["train", "val", "test"]) -> list[MegaDepthFiles]:
    """Return where the files of a split are, from the DATA node of a config: one set of them for each ROOT.

    Raises:
        S2LDError: ROOT is not given, or there are not as many INDEX (or SCENES, where any are given) as ROOT.
    """
    node = config.MEGADEPTH
    if split == "test":
        root, index, scenes = given(node.TEST_ROOT, "MEGADEPTH.TEST_ROOT"), node.TEST_INDEX, node.TEST_SCENES
    elif split == "val":  # the list of training scenes says nothing of another folder
        scenes = node.VAL_SCENES or ("" if node.VAL_INDEX else node.SCENES)
        root, index = node.VAL_ROOT or given(node.ROOT, "MEGADEPTH.ROOT"), node.VAL_INDEX or node.INDEX
    else:
        root, index, scenes = given(node.ROOT, "MEGADEPTH.ROOT"), node.INDEX, node.SCENES
    roots, lists = as_list(root), as_list(scenes)
    indices = as_list(index) if index else [str(Path(folder) / "index") for folder in roots]
    lists = lists if any(lists) else [""] * len(roots)
    if len({len(roots), len(indices), len(lists)}) > 1:
        raise S2LDError(
            f"DATA.MEGADEPTH: {len(roots)} folders, {len(indices)} of indices and {len(lists)} lists of scenes for "
            f"{split}; ROOT, INDEX and SCENES (VAL_..., TEST_...) must be as many"
        )
    places = zip(roots, indices, lists, strict=True)
    depth = split != "test" or bool(node.TEST_DEPTH)
    return [MegaDepthFiles(Path(r), Path(i), s, depth) for r, i, s in places]


def as_list(value: str | list[str]) -> list[str]:
    """Return a key's texts, one or more, as a list."""
    return [value] if isinstance(value, str) else list(value)


def megadepth_source(config: CN, split: Literal["train", "val", "test"], lanes: int = 1) -> MegaDepthPairs:
    """Build the MegaDepth source of a split from the DATA node of a config.

    Training and validation have depth and images of the longer side of DATA.IMAGE_SIZE; testing has that of
    DATA.TEST_LONG_SIDE, and depth only where asked for (TEST_DEPTH). Only training draws, shared out to `lanes`, and
    changes its images.

    Raises:
        S2LDError: what `read_indices` and `MegaDepthPairs` say.
    """
    node = config.MEGADEPTH
    read = [
        (files.root, scene)
        for files in megadepth_files(config, split)
        for scene in read_indices(files.index, files.scenes)
    ]
    return MegaDepthPairs(
        [root for root, _ in read],
        [scene for _, scene in read],
        config.TEST_LONG_SIDE if split == "test" else max(config.IMAGE_SIZE),
        depth=split != "test" or bool(node.TEST_DEPTH),
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
        crop=crops_of(config) if split == "train" else None,
    )
