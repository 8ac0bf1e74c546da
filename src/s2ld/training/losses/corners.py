"""Corners of the image as a teacher of the detector: the keypoint of a cell should sit where the image is sharp."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kornia.feature import gftt_response
from torch import Tensor

from s2ld.training.losses.targets import valid_cells
from s2ld.types import Keypoints, View

_SHARPNESS = 4.0  # power of the response that spreads the target over the fine pixels of a cell
_FLAT = 1e-6  # response of an image without any structure


def corner_loss(keypoints: Keypoints, view: View) -> Tensor:
    """Return the cross entropy of the heatmap detector with the corners of its image, (P,) one a valid cell.

    The target of a cell is its share of the response of Shi and Tomasi (CVPR 1994), to the power 4; cells weigh by
    their largest response against the image's median one, so that the sky teaches nothing.

    Args:
        keypoints: of a heatmap detector: logits (N, L, k²).
        view: the image that they are of.
    """
    logits = keypoints.logits
    assert logits is not None
    side = round(logits.shape[2] ** 0.5)
    windows = _windows(gftt_response(view.images.image.float()), keypoints, side)
    peak = windows.amax(2, keepdim=True)
    target = (windows / peak.clamp(min=_FLAT)).pow(_SHARPNESS)
    target = target / target.sum(2, keepdim=True).clamp(min=_FLAT)
    valid = valid_cells(view)
    peak = peak[..., 0]
    median = peak.masked_fill(~valid, torch.nan).nanmedian(1, keepdim=True).values
    weight = peak / (peak + median + _FLAT)
    loss = -(target * F.log_softmax(logits, 2)).sum(2)
    return weight[valid] * loss[valid]


@torch.no_grad()
def _windows(response: Tensor, keypoints: Keypoints, side: int) -> Tensor:
    """(N, 1, H, W) → (N, L, side²): the mean response at each fine pixel of the windows around the cells' corners."""
    h, _ = keypoints.score.shape[2:]
    stride = response.shape[2] // (h * (side - 1))
    fine = F.avg_pool2d(response, 2 * stride - 1, stride, stride - 1) if stride > 1 else response
    windows = F.unfold(F.pad(fine, [side // 2] * 4), side, stride=side - 1)
    return windows.transpose(1, 2)
