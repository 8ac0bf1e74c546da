"""Homographies of photographs: a photo hung on a wall, seen by two calibrated cameras.

Each pair is a plane with true intrinsics, relative pose and depth, so that it serves every loss as real pairs do; the
homography between the views is the one that the plane induces. OpenCV warps it, which is far quicker than rendering.
"""

from __future__ import annotations

import numpy as np

from s2ld.config import CN
from s2ld.data.images import UInt8Image
from s2ld.data.sample import PairSample
from s2ld.data.textures import TextureBank
from s2ld.data.wall_views import Wall, draw_wall_cameras, see_wall

CACHED_PHOTOS = 400  # about 0.4 GB a loader process


class HomographyPairs:
    """Endless source of homography pairs, a pure function of (seed, index).

    Args:
        config: the DATA node (IMAGE_SIZE, PHOTOS, HOMOGRAPHY, PHOTOMETRIC).
        seed: of the source.
        length: number of pairs.
        train: the ranges grow with the index (HOMOGRAPHY.CURRICULUM), and a share are crops (CROP).
        unseen: of the photographs that are held out from training (DATA.PHOTOS_HELD_OUT).
    """

    def __init__(self, config: CN, seed: int, length: int, train: bool = False, unseen: bool = False) -> None:
        self.config = config
        self.seed = seed
        self.length = length
        self.train = train
        self.textures = TextureBank.of(config, CACHED_PHOTOS, unseen)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairSample:
        if not 0 <= index < self.length:
            raise IndexError(f"pair {index} of {self.length}")
        rng = np.random.Generator(np.random.PCG64([self.seed, index]))
        photo = self._draw_photo(rng)
        cameras = draw_wall_cameras(photo.shape[1], photo.shape[0], self.config, rng, index if self.train else None)
        wall = Wall((photo, photo))
        return see_wall(
            wall, cameras, self.config, rng, lambda: self._draw_photo(rng), "homography", self.config.PHOTOMETRIC
        )

    def _draw_photo(self, rng: np.random.Generator) -> UInt8Image:
        return self.textures.get(int(rng.integers(len(self.textures))))
