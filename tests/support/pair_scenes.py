"""Pairs whose flow is known exactly, and encoded pairs with keypoints that a test chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from s2ld.models.fast.sparse_entries import entries_above
from s2ld.training.losses.confidences import FAINT, Confidences, negatives_of
from s2ld.types import (
    CoarseMatches,
    EncodedPair,
    Features,
    FineMatches,
    ImageBatch,
    Keypoints,
    PairBatch,
    Targets,
    View,
)

FOCAL = 100.0
DEPTH = 2.0


def lateral_pose(shift_px: float, pairs: int = 1) -> Tensor:
    """Pose under which a fronto-parallel plane at DEPTH moves by `shift_px` to the right."""
    pose = torch.eye(4).repeat(pairs, 1, 1)
    pose[:, 0, 3] = shift_px * DEPTH / FOCAL
    return pose


def turned_pose(pairs: int = 1, angles: tuple[float, float, float] = (0.06, -0.12, 0.05)) -> Tensor:
    """Pose with rotation about every axis and a translation in every direction."""
    x, y, z = angles
    generator = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    pose = torch.eye(4).repeat(pairs, 1, 1)
    pose[:, :3, :3] = torch.linalg.matrix_exp(generator)
    pose[:, :3, 3] = torch.tensor([0.3, 0.05, 0.1])
    return pose


def view(height: int, width: int, pairs: int = 1, depth: float | None = DEPTH, mask: Tensor | None = None) -> View:
    """A view of a fronto-parallel plane; `mask` (N, h, w), where given, also cuts the depth."""
    K = torch.tensor([[FOCAL, 0, (width - 1) / 2], [0, FOCAL, (height - 1) / 2], [0, 0, 1]]).repeat(pairs, 1, 1)
    plane = None if depth is None else torch.full((pairs, height, width), depth)
    if plane is not None and mask is not None:
        plane = plane * mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return View(ImageBatch(torch.zeros(pairs, 1, height, width), mask), torch.ones(pairs, 2), K, plane)


def plane_pair(height: int = 48, width: int = 64, pairs: int = 1, shift_px: float = -8.0) -> PairBatch:
    """A fronto-parallel plane seen by laterally shifted cameras: every pixel moves by `shift_px` to the right."""
    return PairBatch(view(height, width, pairs), view(height, width, pairs), lateral_pose(shift_px, pairs))


def with_depth(batch: PairBatch, depth0: Tensor | None, depth1: Tensor | None) -> PairBatch:
    return replace(batch, view0=replace(batch.view0, depth=depth0), view1=replace(batch.view1, depth=depth1))


def keypoints(offset: Tensor, score: Tensor) -> Keypoints:
    """Keypoints of offsets (N, 2, h, w) in half cells and scores (N, 1, h, w), as the network makes them."""
    height, width = offset.shape[-2:]
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    corners = 8.0 * torch.stack([column, row], -1).reshape(-1, 2)
    return Keypoints(offset, score, corners + 4 * offset.flatten(2).transpose(1, 2))


@dataclass(frozen=True)
class Leaves:
    """What a network would learn through: leaves that take gradients."""

    offset0: Tensor
    offset1: Tensor
    score0: Tensor
    score1: Tensor

    def encoded(self) -> EncodedPair:
        features = Features(torch.zeros(0), torch.zeros(0))
        first, second = keypoints(self.offset0, self.score0), keypoints(self.offset1, self.score1)
        return EncodedPair(features, features, first, second, torch.zeros(0), torch.zeros(0))

    def all(self) -> list[Tensor]:
        return [self.offset0, self.offset1, self.score0, self.score1]


def leaves(batch: PairBatch, seed: int = 0, spread: float = 1.2) -> Leaves:
    """Random offsets (in half cells, up to `spread`) and scores for all cells of a batch."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for side in (batch.view0, batch.view1):
        height, width = side.images.image.shape[-2] // 8, side.images.image.shape[-1] // 8
        made.append(spread * (2 * torch.rand(batch.size, 2, height, width, generator=generator) - 1))
        made.append(torch.rand(batch.size, 1, height, width, generator=generator))
    offset0, score0, offset1, score1 = (tensor.requires_grad_() for tensor in made)
    return Leaves(offset0, offset1, score0, score1)


def matches(batch: list[int], cell0: list[int], cell1: list[int], confidence: Tensor) -> CoarseMatches:
    index = [torch.tensor(values, dtype=torch.int64) for values in (batch, cell0, cell1)]
    return CoarseMatches(*index, confidence)


def refine(encoded: EncodedPair, coarse: CoarseMatches, expectation: Tensor, radius: float) -> FineMatches:
    """Decode an expectation (M, 3) as the network does."""
    points0 = encoded.keypoints0.points[coarse.batch, coarse.cell0]
    points1 = encoded.keypoints1.points[coarse.batch, coarse.cell1] + radius * expectation[:, :2]
    return FineMatches(points0, points1, expectation, encoded.keypoints0.score.flatten(1)[coarse.batch, coarse.cell0])


def matrix_confidences(matrix: Tensor, targets: Targets, batch: PairBatch) -> Confidences:
    """What the coarse loss reads of a whole (N, L, S) confidence matrix."""
    negative = negatives_of(entries_above(matrix, FAINT), targets, batch)
    return Confidences(matrix[targets.batch, targets.cell0, targets.cell1], negative)
