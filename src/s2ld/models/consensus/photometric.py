"""Photometric refinement: each match is moved to where its two patches of the images agree best.

The patch around point 0 is warped by the affine map of the matches around it, and registered by translation alone,
inversely compositional (Baker & Matthews, "Lucas-Kanade 20 years on", IJCV 2004): gradients and Hessian are those of
the warped patch, computed once. Patches are compared with zero mean and unit variance, so that brightness and contrast
do not matter. A patch's pixels are whole steps in image 1, so that a step reads it without a warp; where the map
shrinks or magnifies, the finer image is read at half or a quarter of its size, which keeps the warp from aliasing.

Refined matches give better maps, and better maps refine better: both are done twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.geometry.linalg import matvec
from s2ld.geometry.local_affine import local_affine, nearest_matches
from s2ld.models.pyramid import LEVELS, ImagePyramid

ROUNDS = 2
SIGMA = 0.25  # of the patch's Gaussian weights, of its side
FLAT = 0.005  # grey, of the full range: patches of less standard deviation tell nothing
DAMPING = 1e-3  # px^-2: holds points along an edge; Hessians of textured patches are about 0.1
LEAST_MOVE = 1e-3  # px: less is rounding, and the point stays exactly
PART = {"cpu": 512}  # matches at a time, whose patches a cache holds
PART_ELSEWHERE = 2**15  # accelerators: few launches


@dataclass(frozen=True)
class _Templates:
    """Patches of image 0 as image 1 should show them, and how they change where they move."""

    rows: Tensor
    """(M, 3, P²) the patch with zero mean and unit variance, and what its derivatives along x and y of image 1's level
    have that neither a constant nor the patch itself has; all times the weights."""
    inverse: Tensor
    """(M, 2, 2) inverse Hessian."""
    usable: Tensor
    """(M,) bool: textured, and wholly inside its image."""


class PhotometricRefinement:
    """The refinement as MODEL.REFINEMENT of a config says; it has no weights.

    Raises:
        S2LDError: a patch without a middle and pixels around it.
    """

    def __init__(self, config: CN) -> None:
        if config.PATCH < 3 or config.PATCH % 2 == 0:
            raise S2LDError(f"MODEL.REFINEMENT.PATCH is {config.PATCH}; use an odd number from 3")
        self.radius = int(config.PATCH) // 2
        self.neighbours, self.steps = int(config.NEIGHBOURS), int(config.STEPS)
        self.max_shift, self.min_correlation = float(config.MAX_SHIFT), float(config.MIN_CORRELATION)

    @torch.no_grad()
    def __call__(
        self,
        images: tuple[Tensor, Tensor],
        sizes: tuple[Tensor | None, Tensor | None],
        batch: Tensor,
        points0: Tensor,
        points1: Tensor,
        confidence: Tensor,
    ) -> Tensor:
        """Return (M, 2) refined points of image 1; those that cannot be improved stay exactly as they are.

        Args:
            images: grey (N, 1, H, W), sides multiples of 8.
            sizes: (N, 2) width and height of the part of each image that is no padding, px; None where all is.
            batch: (M,) int64, pair of each match.
            points0: (M, 2) resized px.
            points1: (M, 2) resized px.
            confidence: (M,) weight of each match in the maps of its neighbours.
        """
        if not len(points0):
            return points1
        with torch.autocast(points0.device.type, enabled=False):
            spare = 2 * (self.radius + int(self.max_shift) + 2)
            first, second = (ImagePyramid(x.float(), size, spare) for x, size in zip(images, sizes, strict=True))
            nearest = nearest_matches(points0, batch, points0, batch, self.neighbours)
            start = refined = points1.float()
            part = PART.get(points0.device.type, PART_ELSEWHERE)
            for _ in range(ROUNDS):
                maps = local_affine(points0, points0, refined, confidence, nearest)
                columns = (batch, points0.float(), refined, start, maps.linear)
                rows = zip(*(torch.split(x, part) for x in columns), strict=True)
                refined = torch.cat([self._refine(first, second, *some) for some in rows])
        return refined.to(points1.dtype)

    def _refine(
        self,
        first: ImagePyramid,
        second: ImagePyramid,
        batch: Tensor,
        points0: Tensor,
        points1: Tensor,
        start: Tensor,
        linear: Tensor,
    ) -> Tensor:
        """One round on some matches: points (M, 2) where they agree best, not far from `start`."""
        level0, level1 = levels(linear)
        warp = linear * torch.exp2((level0 - level1).float())[:, None, None]  # px of the one level to the other's
        weight = _gaussian(self.radius, points1)
        templates = self._templates(first, batch, level0, points0, warp, weight)
        place = second.at_level(points1, level1)
        inside = second.inside(batch, level1, place, self.radius + self.max_shift)
        place = torch.where(inside[:, None], place, self.radius + self.max_shift)  # what is read there is not used
        move = torch.zeros_like(place)
        before = after = move[:, 0]
        textured = inside
        for step in range(self.steps + 1):
            patch = second.patches(batch, level1, place + move, self.radius).flatten(1)
            patch = patch - (patch @ weight)[:, None]
            deviation = (patch.square() @ weight).sqrt()
            textured = textured & (deviation > FLAT)
            products = (templates.rows @ patch[:, :, None])[..., 0] / deviation.clamp(min=FLAT)[:, None]
            after = products[:, 0]
            before = after if step == 0 else before
            if step < self.steps:  # the derivatives' products with the template itself are 0
                move = (move - matvec(templates.inverse, products[:, 1:])).clamp(-self.max_shift, self.max_shift)
        better = (after > self.min_correlation) & (after > before) & textured & templates.usable
        move = move * torch.exp2(level1.float())[:, None]
        far = torch.linalg.vector_norm(points1 + move - start, dim=1)
        good = better & (far < self.max_shift) & (torch.linalg.vector_norm(move, dim=1) > LEAST_MOVE)
        return torch.where(good[:, None], points1 + move, points1)

    def _templates(
        self, first: ImagePyramid, batch: Tensor, level: Tensor, points0: Tensor, warp: Tensor, weight: Tensor
    ) -> _Templates:
        place, back = first.at_level(points0, level), _inverse(warp)
        patch, whole = first.warped(batch, level, place, back, self.radius + 1)  # a pixel more, for the derivatives
        right, down = patch[:, 1:-1, 2:] - patch[:, 1:-1, :-2], patch[:, 2:, 1:-1] - patch[:, :-2, 1:-1]
        rows = torch.stack([patch[:, 1:-1, 1:-1], right / 2, down / 2], 1).flatten(2)
        rows = rows - (rows @ weight)[..., None]
        products = (rows * weight) @ rows.transpose(1, 2)
        variance = products[:, 0, 0].clamp(min=FLAT**2)[:, None]
        along = products[:, 0, 1:] / variance  # the part of the derivatives that the normalisation takes away
        rows = torch.cat([rows[:, :1], rows[:, 1:] - along[..., None] * rows[:, :1]], 1)
        hessian = products[:, 1:, 1:] / variance[..., None] - along[:, :, None] * along[:, None]
        hessian = hessian + DAMPING * torch.eye(2, device=hessian.device)
        rows = rows * (weight / variance.sqrt())[:, None]
        return _Templates(rows, _inverse(hessian), whole & (products[:, 0, 0] > FLAT**2))


def levels(linear: Tensor) -> tuple[Tensor, Tensor]:
    """Return the level of each image, (M,) int64 each, between which maps (M, 2, 2) neither shrink nor magnify much."""
    halvings = (0.5 * _determinant(linear).clamp(min=1e-6).log2()).round().long()
    return (-halvings).clamp(0, LEVELS - 1), halvings.clamp(0, LEVELS - 1)


def _gaussian(radius: int, like: Tensor) -> Tensor:
    """Weights (P²,) of a patch, row by row, which add up to 1."""
    steps = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    line = torch.exp(-0.5 * (steps / (SIGMA * (2 * radius + 1))).square())
    line = line / line.sum()
    return (line[:, None] * line).flatten()


def _determinant(matrix: Tensor) -> Tensor:
    return matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]


def _inverse(matrix: Tensor) -> Tensor:
    """Inverses of regular matrices (M, 2, 2)."""
    a, b, c, d = matrix.flatten(1).unbind(1)
    return (torch.stack([d, -b, -c, a], 1) / _determinant(matrix)[:, None]).view(-1, 2, 2)
