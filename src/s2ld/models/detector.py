"""Keypoint detector (one keypoint a cell) and feature adjuster."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from s2ld.models.layers import conv_bn_relu, initialise_convolutions
from s2ld.types import Features, Keypoints

CELL = 8  # resized px per cell
HALF_CELL = 4  # unit of the offset, resized px


class KeypointDetector(nn.Module):
    """Regresses one keypoint offset and one repeatability score a cell from coarse and fine features."""

    def __init__(
        self,
        coarse_dim: int,
        fine_dim: int,
        fine_stride: int,
        coarse_dims: Sequence[int],
        fine_dims: Sequence[int],
        head_dims: Sequence[int],
        offset_range: float,
    ) -> None:
        super().__init__()
        self.offset_range = offset_range
        self.conv_c0 = conv_bn_relu(coarse_dim, coarse_dims[0])
        self.conv_c1 = conv_bn_relu(coarse_dims[0], coarse_dims[1])
        # the fine map comes down to H/8: by two strides from H/2, by one from H/4
        self.conv_f0 = conv_bn_relu(fine_dim, fine_dims[0], 5, 2)
        self.conv_f1 = conv_bn_relu(fine_dims[0], fine_dims[1], 3, 4 // fine_stride)
        joint = coarse_dims[1] + fine_dims[1]
        self.k_regressor = _head(joint, head_dims, 2)
        self.s_regressor = _head(joint, head_dims, 1)
        initialise_convolutions(self)
        for head in (self.k_regressor, self.s_regressor):  # a saturated tanh or sigmoid would not learn
            last = head[-1]
            assert isinstance(last, nn.Sequential)
            assert isinstance(last[0], nn.Conv2d)
            nn.init.normal_(last[0].weight, std=1e-2)

    def forward(self, features: Features) -> Keypoints:
        """Features of (N, ...) → keypoints; see `Keypoints` for shapes and units."""
        coarse = self.conv_c1(self.conv_c0(features.coarse))
        fine = self.conv_f1(self.conv_f0(features.fine))
        joint = torch.cat([coarse, fine], 1)
        offset = torch.tanh(self.k_regressor(joint).float()) * self.offset_range
        score = torch.sigmoid(self.s_regressor(joint).float())
        return Keypoints(offset, score, _cell_corners(offset) + HALF_CELL * offset.flatten(2).transpose(1, 2))


class FeatureAdjuster(nn.Module):
    """Tells each coarse descriptor where in its cell the keypoint lies."""

    def __init__(self, coarse_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.c_convs = nn.Sequential(conv_bn_relu(coarse_dim + 2, hidden_dim), conv_bn_relu(hidden_dim, coarse_dim))
        initialise_convolutions(self)

    def forward(self, coarse: Tensor, offset: Tensor) -> Tensor:
        """Coarse (N, C, h, w) and offset (N, 2, h, w) in half cells → (N, C, h, w)."""
        adjusted: Tensor = self.c_convs(torch.cat([coarse, offset.to(coarse.dtype)], 1))
        return adjusted


def _head(in_dim: int, hidden: Sequence[int], out_dim: int) -> nn.Sequential:
    last = nn.Sequential(nn.Conv2d(hidden[1], out_dim, 3, 1, 1, bias=False))
    return nn.Sequential(conv_bn_relu(in_dim, hidden[0]), conv_bn_relu(hidden[0], hidden[1]), last)


def _cell_corners(offset: Tensor) -> Tensor:
    """(h*w, 2) top-left corners of the cells in resized px."""
    h, w = offset.shape[-2:]
    y, x = torch.meshgrid(torch.arange(h, device=offset.device), torch.arange(w, device=offset.device), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).to(offset.dtype) * CELL
