"""Guided densification: where the matches around an unmatched keypoint say that it is in the other image.

The coarse stage misses keypoints, most of all where texture repeats and its softmax splits their confidence. Where the
matches around such a keypoint agree on a local affine map, that map says where to look for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.geometry.local_affine import local_affine, nearest_matches
from s2ld.models.detector import CELL
from s2ld.types import CoarseMatches, Keypoints, Rows


@dataclass(frozen=True)
class DensifySettings:
    """When the matches around a keypoint are believed; px are resized px."""

    neighbours: int = 12
    """Nearest matches that a map is fitted to."""
    radius: float = 64.0
    """px of image 0: matches beyond it do not count."""
    min_support: float = 6.0
    """Least number of neighbours that agree."""
    max_residual: float = 1.5
    """px of image 1: largest root mean square by which the neighbours miss the map, as weighted."""
    border: int = 2
    """Cells next to the border of the valid region that take no match."""


@dataclass(frozen=True)
class Proposals(Rows):
    """Matches that geometry proposes, for the fine stage to look for."""

    coarse: CoarseMatches
    """Of confidence 0; cell 1 is that of the keypoint that is nearest to `place`, and may be in several."""
    place: Tensor
    """(M, 2) resized px: where keypoint 0 should be in image 1."""
    linear: Tensor
    """(M, 2, 2) px of image 1 a px of image 0, around it."""


@torch.no_grad()
def propose(
    keypoints0: Keypoints,
    keypoints1: Keypoints,
    matches: CoarseMatches,
    points1: Tensor,
    settings: DensifySettings | None = None,
    mask0: Tensor | None = None,
    mask1: Tensor | None = None,
) -> Proposals:
    """Propose a match for each keypoint of image 0 that has none and whose neighbours agree, not differentiable.

    Args:
        keypoints0: of image 0, N of them.
        keypoints1: of image 1.
        matches: verified ones; their confidence is their weight in the maps.
        points1: (M, 2) resized px, where the matched keypoints 0 are in image 1.
        settings: when neighbours are believed.
        mask0: (N, h, w) bool of `ImageBatch`.
        mask1: (N, h, w) bool.

    Returns:
        The proposals by pair, then by cell of image 0; their places are inside image 1, off its border.
    """
    settings = settings or DensifySettings()
    free = torch.ones_like(keypoints0.score[:, 0], dtype=torch.bool).flatten(1)
    free[matches.batch, matches.cell0] = False
    if mask0 is not None:
        free &= mask0.flatten(1)
    batch, cell0 = free.nonzero(as_tuple=True)
    points = keypoints0.points[batch, cell0]
    points0 = keypoints0.points[matches.batch, matches.cell0]
    nearest = nearest_matches(points, batch, points0, matches.batch, settings.neighbours)
    maps = local_affine(points, points0, points1, matches.confidence, nearest, settings.radius)
    believed = maps.usable & (maps.support >= settings.min_support) & (maps.residual <= settings.max_residual)
    margin = CELL * settings.border
    size = _size(keypoints1, mask1)[batch]
    inside = ((maps.place >= margin) & (maps.place <= size - 1 - margin)).all(1)
    rows = (believed & inside).nonzero()[:, 0]
    batch, cell0, place = batch[rows], cell0[rows], maps.place[rows]
    cell1 = nearest_keypoint_cell(keypoints1, batch, place)
    coarse = CoarseMatches(batch, cell0, cell1, place.new_zeros(len(place)))
    return Proposals(coarse, place, maps.linear[rows])


def nearest_keypoint_cell(keypoints: Keypoints, batch: Tensor, place: Tensor) -> Tensor:
    """Return the cells (M,) whose keypoints are nearest to places (M, 2) px, of the 3 x 3 cells around each place."""
    rows, columns = keypoints.score.shape[2:]
    steps = torch.arange(-1, 2, device=place.device)
    # keypoints lie around the top-left corner of their cell
    column = (place[:, :1] / CELL).round().long() + steps.repeat(3)
    row = (place[:, 1:] / CELL).round().long() + steps.repeat_interleave(3)
    there = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    cells = row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)
    distance = torch.linalg.vector_norm(keypoints.points[batch[:, None], cells] - place[:, None], dim=2)
    best = distance.masked_fill(~there, torch.inf).argmin(1, keepdim=True)
    return cells.gather(1, best)[:, 0]


def _size(keypoints: Keypoints, mask: Tensor | None) -> Tensor:
    """(N, 2) width and height of the valid part of each image, px."""
    score = keypoints.score[:, 0]
    valid = torch.ones_like(score, dtype=torch.bool) if mask is None else mask
    return CELL * torch.stack([valid.any(1).sum(1), valid.any(2).sum(1)], 1)
