"""Which candidates are right, which are wrong, and of which nobody knows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.geometry.epipolar import essential, symmetric_epipolar_distance
from s2ld.geometry.linalg import full_precision
from s2ld.geometry.warp import inside_view
from s2ld.types import CoarseMatches, FineMatches, PairBatch, Rows, Targets

RIGHT, WRONG, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class CandidateErrors(Rows):
    """How far candidates are from the truth, from which `label` follows."""

    distance: Tensor
    """(M,) resized px from the true place of keypoint 0, which may be outside image 1; NaN where it is not known."""
    epipolar: Tensor
    """(M,) squared symmetric epipolar distance, focal length 1; infinite where there is no baseline."""


@torch.no_grad()
def candidate_errors(coarse: CoarseMatches, fine: FineMatches, targets: Targets, batch: PairBatch) -> CandidateErrors:
    """Measure M candidates.

    The true place is that of the keypoint warped by its depth, where the depth of image 1 agrees or the place lies
    outside image 1. Where the depths contradict each other, one of them may be wrong: there the place is not known.

    Args:
        coarse: M candidates.
        fine: what became of them.
        targets: of the same batch.
        batch: intrinsics, relative pose, masks.
    """
    with torch.autocast(fine.points1.device.type, enabled=False):
        pair, cell0 = coarse.batch, coarse.cell0
        points0, points1 = full_precision(fine.points0), full_precision(fine.points1)
        outside = targets.known0 & ~inside_view(targets.warped0, batch.view1)
        told = (targets.valid0 | outside)[pair, cell0]
        distance = (points1 - targets.warped0[pair, cell0]).square().sum(-1).sqrt()
        E, K0, K1 = essential(batch.T_0to1)[pair], batch.view0.K[pair], batch.view1.K[pair]
        epipolar = symmetric_epipolar_distance(points0, points1, E, K0, K1)
        return CandidateErrors(distance.where(told, torch.nan), epipolar)


def label(errors: CandidateErrors, config: CN) -> Tensor:
    """Return RIGHT, WRONG or UNKNOWN of each candidate, (M,) int8.

    Right within CONSENSUS_RIGHT of the true place, wrong beyond CONSENSUS_WRONG. Where the place is not known, wrong
    beyond CONSENSUS_EPIPOLAR. Without a baseline there are no epipolar lines, which tells nothing.

    Args:
        errors: of M candidates.
        config: the LOSS node.
    """
    unknown = errors.distance.isnan()
    off_line = unknown & errors.epipolar.isfinite() & (errors.epipolar > config.CONSENSUS_EPIPOLAR)
    labels = torch.full_like(errors.distance, UNKNOWN, dtype=torch.int8)
    labels[(errors.distance > config.CONSENSUS_WRONG) | off_line] = WRONG
    labels[errors.distance <= config.CONSENSUS_RIGHT] = RIGHT  # comparisons with NaN are false
    return labels
