"""Images at full, half and quarter size, in which patches around points are read at any level."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 3
"""Full, half and quarter size."""


class ImagePyramid:
    """The levels of a batch of images in one flat tensor, so that one gather reads patches of several levels.

    The half lies to the right of the full size, the quarter below the half. Level l is the mean of 2^l by 2^l pixels.

    Args:
        image: (N, 1, H, W) float32, sides multiples of 4.
        size: (N, 2) width and height of the part of each image that is no padding, px; None where all is.
        spare: rows that `patches` may read below the last image.
    """

    def __init__(self, image: Tensor, size: Tensor | None, spare: int) -> None:
        n, _, self.height, self.width = image.shape
        self.size, self.stride = size, self.width + self.width // 2
        pixels = n * self.height * self.stride
        self._flat = image.new_zeros(pixels + spare * self.stride)
        canvas = self._flat[:pixels].view(n, self.height, self.stride)
        canvas[:, :, : self.width] = level = image[:, 0]
        top = 0
        for _ in range(1, LEVELS):
            rows = level[:, ::2] + level[:, 1::2]
            level = (rows[:, :, ::2] + rows[:, :, 1::2]) / 4
            h, w = level.shape[1:]
            canvas[:, top : top + h, self.width : self.width + w] = level
            top += h

    @staticmethod
    def at_level(points: Tensor, level: Tensor) -> Tensor:
        """Points (M, 2) px of the full size as px of their level (M,); pixel edges are aligned."""
        return (points + 0.5) * torch.exp2(-level.float())[:, None] - 0.5

    def inside(self, batch: Tensor, level: Tensor, place: Tensor, margin: float) -> Tensor:
        """Whether all that is nearer than the margin to a place (M, 2) along both axes is in the image, (M,) bool."""
        (x, y), (width, height) = place.unbind(1), self._extent(batch, level)
        return (x >= margin) & (y >= margin) & (x < width - 1 - margin) & (y < height - 1 - margin)

    def patches(self, batch: Tensor, level: Tensor, place: Tensor, radius: int) -> Tensor:
        """Patches (M, P, P) around places (M, 2) of a level that are inside by the radius, bilinear."""
        base = place.floor()
        steps = torch.arange(-radius, radius + 2, device=place.device)
        first = self._start(batch, level) + base[:, 1].long() * self.stride + base[:, 0].long()
        pixels = self._read(first[:, None, None] + (steps[:, None] * self.stride + steps))
        x, y = (place - base)[:, :, None, None].unbind(1)
        pixels = torch.lerp(pixels[:, :, :-1], pixels[:, :, 1:], x)
        return torch.lerp(pixels[:, :-1], pixels[:, 1:], y)

    def warped(self, batch: Tensor, level: Tensor, place: Tensor, linear: Tensor, radius: int) -> tuple[Tensor, Tensor]:
        """Patches (M, P, P) around places (M, 2), bilinear, a step right and down being the columns of `linear`.

        Args:
            batch: (M,) int64.
            level: (M,) int64.
            place: (M, 2) px of the level.
            linear: (M, 2, 2) px of the level a pixel of the patch.
            radius: of the patch, so that P = 2 radius + 1.

        Returns:
            The patches, and (M,) bool, whether all of a patch is in its image; what is not is the nearest pixel.
        """
        steps = torch.arange(-radius, radius + 1, device=place.device, dtype=place.dtype)
        column, row = linear[:, :, :1, None], linear[:, :, 1:, None]
        x, y = (column * steps + (row * steps[:, None] + place[:, :, None, None])).unbind(1)
        width, height = (side[:, None, None] for side in self._extent(batch, level))
        inside = ((x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)).flatten(1).all(1)
        x, y = x.clamp(min=0).minimum(width - 1), y.clamp(min=0).minimum(height - 1)
        left, top = x.floor().minimum(width - 2), y.floor().minimum(height - 2)
        index = self._start(batch, level)[:, None, None] + top.long() * self.stride + left.long()
        x, y = x - left, y - top
        upper = torch.lerp(self._read(index), self._read(index + 1), x)
        index = index + self.stride
        return torch.lerp(upper, torch.lerp(self._read(index), self._read(index + 1), x), y), inside

    def _read(self, index: Tensor) -> Tensor:
        return self._flat.index_select(0, index.view(-1)).view(index.shape)  # several times faster than indexing

    def _start(self, batch: Tensor, level: Tensor) -> Tensor:
        """Where the first pixel of a level lies, (M,)."""
        above = torch.bitwise_right_shift(torch.full_like(level, 2 * self.height), level)  # rows of the level before
        reduced = level > 0
        return (batch * self.height + (self.height - above) * reduced) * self.stride + self.width * reduced

    def _extent(self, batch: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Width and height of the level without padding, (M,) each, px."""
        shrink = torch.exp2(-level.float())
        if self.size is None:
            return self.width * shrink, self.height * shrink
        width, height = (self.size.to(shrink.dtype)[batch] * shrink[:, None]).unbind(1)
        return width, height
