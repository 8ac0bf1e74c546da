"""What a prediction of the correlating fine stage (`models/correlation.py`) costs, match by match."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from s2ld.config import CN
from s2ld.geometry.linalg import full_precision
from s2ld.models.correlation import PEAK, RESIDUAL
from s2ld.types import CoarseMatches, FineMatches, Targets

_BEND = 0.25  # fine pixels: below it the loss of a point is quadratic
_LEAST_SQUARED_DISTANCE = 1e-12  # of fine pixels


def correlation_losses(
    coarse: CoarseMatches, fine: FineMatches, targets: Targets, window_radius_px: float
) -> tuple[Tensor, Tensor]:
    """Return the Huber loss of the points in fine pixels and the cross entropy of the windows, each one a match.

    Both count matches whose true place lies within the window, the first those only whose point is near enough for the
    regression to reach it.

    Args:
        coarse: M matches.
        fine: what became of them, with their correlation.
        targets: of the same batch.
        window_radius_px: half the window, resized px.
    """
    correlation = fine.correlation
    assert correlation is not None
    side = round(correlation.logits.shape[1] ** 0.5)
    stride = window_radius_px / (side // 2)
    truth = targets.warped0[coarse.batch, coarse.cell0]
    inside = (truth - correlation.centre).abs().amax(-1) <= window_radius_px
    inside &= targets.valid0[coarse.batch, coarse.cell0]
    error = (full_precision(fine.points1) - truth) / stride
    near = inside & (error.detach().abs().amax(-1) <= PEAK + RESIDUAL)
    # the square root has no gradient at 0
    distance = error[near].square().sum(-1).clamp(min=_LEAST_SQUARED_DISTANCE).sqrt()
    points = F.huber_loss(distance, torch.zeros_like(distance), reduction="none", delta=_BEND) / _BEND
    place = (truth[inside] - correlation.centre[inside]) / stride + side // 2
    return points, heatmap_loss(correlation.logits[inside], place)


def heatmap_loss(logits: Tensor, place: Tensor) -> Tensor:
    """Return the cross entropy of windows with a truth spread bilinearly over its four pixels, (P,).

    Args:
        logits: (P, W²), row by row.
        place: (P, 2) x, y in pixels of the window from its first one, within [0, W - 1].
    """
    side = round(logits.shape[1] ** 0.5)
    corner = place.floor().clamp(0, side - 2)
    share = place - corner
    log_heatmap = F.log_softmax(logits, 1)
    index = (corner[:, 1] * side + corner[:, 0]).long()
    loss = torch.zeros_like(place[:, 0])
    for down in (0, 1):
        for right in (0, 1):
            weight_x = share[:, 0] if right else 1 - share[:, 0]
            weight_y = share[:, 1] if down else 1 - share[:, 1]
            loss = loss - weight_x * weight_y * log_heatmap.gather(1, (index + down * side + right)[:, None])[:, 0]
    return loss


def verification_loss(coarse: CoarseMatches, fine: FineMatches, targets: Targets, config: CN) -> Tensor:
    """Return the cross entropy of "this refined match is right", (Q,) of the matches whose keypoint 0 has known depth.

    Right is what lies within VERIFICATION_RADIUS of the truth; a keypoint that is not visible has no right match.

    Args:
        coarse: M matches.
        fine: what became of them, with their correlation.
        targets: of the same batch.
        config: the LOSS node.
    """
    assert fine.correlation is not None
    known = targets.known0[coarse.batch, coarse.cell0]
    visible = targets.valid0[coarse.batch, coarse.cell0]
    error = full_precision(fine.points1).detach() - targets.warped0[coarse.batch, coarse.cell0]
    right = visible & (torch.linalg.vector_norm(error, dim=-1) < config.VERIFICATION_RADIUS)
    logits = full_precision(fine.correlation.right)[known]
    return F.binary_cross_entropy_with_logits(logits, right[known].to(logits.dtype), reduction="none")
