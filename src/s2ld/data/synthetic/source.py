"""Pairs of synthetic views as a data source: a pure function of seed and index."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.data.crops import crops_of, is_crop
from s2ld.data.images.photometric import change_view
from s2ld.data.images.reading import UInt8Image
from s2ld.data.images.textures import TextureBank
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.synthetic.cameras import draw_crops, draw_first, draw_second
from s2ld.data.synthetic.draw import draw_scene
from s2ld.data.synthetic.render import Atlas, Rendered, render_views
from s2ld.data.synthetic.scene import Camera, Scene
from s2ld.data.viewpoint import viewpoint_change


@dataclass(frozen=True)
class DrawnPair:
    """A scene and the two cameras that see it."""

    scene: Scene
    camera0: Camera
    camera1: Camera
    overlap: float
    """Share of view 0's pixels with known depth that view 1 sees."""


def draw_pair(config: CN, textures: int, size: tuple[int, int], rng: np.random.Generator) -> DrawnPair:
    """Draw a scene and two cameras.

    Args:
        config: the DATA.SYNTHETIC node.
        textures: number of textures to draw from.
        size: (width, height) px of the views.
        rng: source of all randomness.
    """
    scene = draw_scene(config, textures, rng)
    camera0 = draw_first(config, size, rng)
    camera1, share = draw_second(config, scene, camera0, size, rng)
    return DrawnPair(scene, camera0, camera1, share)


def render_pairs(
    pairs: list[DrawnPair], atlas: Atlas, size: tuple[int, int], supersample: int
) -> tuple[Rendered, Rendered]:
    """Render the first and the second views of N pairs on the atlas's device, (N, H, W, 3) RGB and (N, H, W) depth."""
    scenes = [pair.scene for pair in pairs]
    first = render_views(scenes, [pair.camera0 for pair in pairs], atlas, size, supersample)
    return first, render_views(scenes, [pair.camera1 for pair in pairs], atlas, size, supersample)


class SyntheticPairs:
    """Pairs rendered on the fly: a `PairSource` of any length, the same for a seed and an index in every process.

    Args:
        config: the DATA node.
        seed: of the whole source.
        length: number of pairs it claims to have.
        train: a share of the pairs are crops (CROP).
        unseen: textures are the photographs that are held out from training (DATA.PHOTOS_HELD_OUT).

    Raises:
        S2LDError: DATA.PHOTOS has no photographs.
    """

    def __init__(self, config: CN, seed: int, length: int, train: bool = False, unseen: bool = False) -> None:
        self._crops = crops_of(config) if train else None
        self._config = config
        self._seed = seed
        self._length = length
        self._size: tuple[int, int] = (config.IMAGE_SIZE[0], config.IMAGE_SIZE[1])
        self._bank = TextureBank.of(config, unseen=unseen)
        self._atlas = Atlas(self._bank, config.SYNTHETIC.TEXTURE_SIDE, config.SYNTHETIC.TEXTURE_CACHE)

    def __len__(self) -> int:
        return self._length

    def rng(self, index: int) -> np.random.Generator:
        """Return the generator from which pair `index` draws."""
        return np.random.Generator(np.random.PCG64([self._seed, index]))

    def __getitem__(self, index: int) -> PairSample:
        """Return pair `index`.

        Raises:
            IndexError: `index` is negative or not below the length.
            S2LDError: a photograph cannot be read.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"pair {index} of {self._length}")
        rng = self.rng(index)
        pair = draw_pair(self._config.SYNTHETIC, len(self._bank), self._size, rng)
        if self._crops is not None and is_crop(self._crops, rng):
            cameras = draw_crops(pair.scene, (pair.camera0, pair.camera1), self._size, self._crops, rng)
            pair = replace(pair, camera0=cameras[0], camera1=cameras[1])
        rendered = render_pairs([pair], self._atlas, self._size, self._config.SYNTHETIC.SUPERSAMPLE)
        relative = torch.from_numpy(pair.camera1.pose @ np.linalg.inv(pair.camera0.pose)).float()
        K0, K1 = (torch.from_numpy(camera.K).float() for camera in (pair.camera0, pair.camera1))
        change = viewpoint_change(rendered[0].depth[0], K0, K1, relative)
        views = [
            self._view(side, K, f"synthetic/{self._seed}/{index}/{number}", rng, change)
            for number, (side, K) in enumerate(zip(rendered, (K0, K1), strict=True))
        ]
        return PairSample(views[0], views[1], relative, "synthetic")

    def _view(self, side: Rendered, K: Tensor, name: str, rng: np.random.Generator, change: float) -> ViewSample:
        image: UInt8Image = side.image[0].numpy()
        grey, depth = change_view(image, side.depth[0].numpy(), self._config.PHOTOMETRIC, rng, change)
        return ViewSample(
            torch.from_numpy(grey)[None].float() / 255.0, K, torch.from_numpy(depth).float(), (1.0, 1.0), name
        )
