"""Homographies of photographs: a photo hung on a wall, seen by two calibrated cameras.

Each pair is a plane with true intrinsics, relative pose and depth, so that it serves every loss as real pairs do; the
homography between the views is the one that the plane induces. OpenCV warps it, which is far quicker than rendering.
"""

from __future__ import annotations

import numpy as np

from s2ld.config import CN
from s2ld.data.images.reading import UInt8Image
from s2ld.data.images.textures import TextureBank
from s2ld.data.sample import PairSample
from s2ld.data.sources.wall_views import Wall, draw_wall_cameras, see_wall
from s2ld.data.teacher import TeacherFile
from s2ld.errors import S2LDError

CACHED_PHOTOS = 400  # about 0.4 GB a loader process


class HomographyPairs:
    """Endless source of homography pairs, a pure function of (seed, index).

    Args:
        config: the DATA node (IMAGE_SIZE, PHOTOS, HOMOGRAPHY, PHOTOMETRIC).
        seed: of the source.
        length: number of pairs.
        train: the ranges grow with the index (HOMOGRAPHY.CURRICULUM), and a share are crops (CROP).
        unseen: of the photographs that are held out from training (DATA.PHOTOS_HELD_OUT).
        teacher: what another network says of the photographs, to be in the samples; it changes nothing else in them.

    Raises:
        S2LDError: what `TextureBank` says; there are no photographs to teach, or the teacher lacks one of them.
    """

    def __init__(
        self,
        config: CN,
        seed: int,
        length: int,
        train: bool = False,
        unseen: bool = False,
        teacher: TeacherFile | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.length = length
        self.train = train
        self.textures = TextureBank.of(config, CACHED_PHOTOS, unseen)
        self.teacher = teacher
        self._names = self.textures.names
        if teacher is not None:
            if not self._names:
                raise S2LDError("TRAIN.TEACHER.FILE: procedural textures have no teacher; set DATA.PHOTOS")
            teacher.check(self._names)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PairSample:
        if not 0 <= index < self.length:
            raise IndexError(f"pair {index} of {self.length}")
        rng = np.random.Generator(np.random.PCG64([self.seed, index]))
        number = self._draw(rng)
        photo = self.textures.get(number)
        height, width = photo.shape[:2]
        cameras = draw_wall_cameras(width, height, self.config, rng, index if self.train else None)
        lesson = None
        if self.teacher is not None:
            lesson = self.teacher.lesson(self._names[number], (width, height), (self.seed, index))
        wall = Wall((photo, photo), lesson=lesson)

        def backdrop() -> UInt8Image:
            return self.textures.get(self._draw(rng))

        return see_wall(wall, cameras, self.config, rng, backdrop, "homography", self.config.PHOTOMETRIC)

    def _draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self.textures)))
