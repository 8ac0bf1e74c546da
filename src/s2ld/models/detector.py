"""Keypoint detector (one keypoint a cell) and feature adjuster."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision, matmat
from s2ld.models.layers import conv_bn_relu, initialise_convolutions
from s2ld.types import Features, Keypoints

CELL = 8  # resized px per cell
HALF_CELL = 4  # unit of the offset, resized px
OUTSIDE = -1e4  # logit of fine pixels outside the image, which no softmax can see


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
        offset = torch.tanh(full_precision(self.k_regressor(joint))) * self.offset_range
        score = torch.sigmoid(full_precision(self.s_regressor(joint)))
        return Keypoints(offset, score, _cell_corners(offset) + HALF_CELL * offset.flatten(2).transpose(1, 2))


class HeatmapDetector(nn.Module):
    """Chooses among the fine pixels around each cell's corner; S2LD-Lite's detector.

    The keypoint is the mean of a softmax over the best of the fine pixels at most half a cell from the corner and its
    eight neighbours (a soft-argmax), the score a mean under the same softmax. Pixels outside the image are not chosen.
    """

    def __init__(self, fine_dim: int, fine_stride: int, hidden: int) -> None:
        super().__init__()
        self.step = CELL // fine_stride  # fine pixels a cell
        self.maps = nn.Sequential(conv_bn_relu(fine_dim, hidden), nn.Conv2d(hidden, 2, 1))
        initialise_convolutions(self)

    def forward(self, features: Features) -> Keypoints:
        """Features of (N, ...) → keypoints; see `Keypoints` for shapes and units."""
        maps = self.maps(features.fine).float()
        n, _, height, width = maps.shape
        h, w, radius = height // self.step, width // self.step, self.step // 2
        side = 2 * radius + 1
        outside = F.pad(maps.new_zeros(1, 1, height, width), [radius] * 4, value=1.0)
        # (N, 2, side², h*w): a window of `side` around every corner
        windows = F.unfold(F.pad(maps, [radius] * 4), side, stride=self.step).reshape(n, 2, side**2, h * w)
        hidden = F.unfold(outside, side, stride=self.step) > 0
        logits = windows[:, 0].masked_fill(hidden, OUTSIDE).transpose(1, 2)
        axis = torch.linspace(-1, 1, side, device=maps.device)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        grid = torch.stack([x, y], -1).reshape(-1, 2)
        # around the best pixel only: a mean of two corners is no corner
        far = (grid[logits.argmax(2)][:, :, :, None] - grid.T).abs().amax(2) > 1.5 / radius
        heatmap = F.softmax(logits.masked_fill(far, OUTSIDE), 2)
        # not by `@`, which autocast would round: bf16 px have steps of 4 px at 640
        offset = matmat(heatmap, grid).transpose(1, 2).reshape(n, 2, h, w)
        score = torch.sigmoid((heatmap * windows[:, 1].transpose(1, 2)).sum(2)).reshape(n, 1, h, w)
        points = _cell_corners(offset) + HALF_CELL * offset.flatten(2).transpose(1, 2)
        return Keypoints(offset, score, points, logits)


def build_detector(config: CN, coarse_dim: int, fine_dim: int, fine_stride: int) -> KeypointDetector | HeatmapDetector:
    """Build the detector of the DETECTOR node; raises `S2LDError` for an unknown type."""
    if config.TYPE == "heatmap":
        return HeatmapDetector(fine_dim, fine_stride, config.HEATMAP_DIM)
    if config.TYPE == "regression":
        dims = config.COARSE_DIMS, config.FINE_DIMS, config.HEAD_DIMS
        return KeypointDetector(coarse_dim, fine_dim, fine_stride, *dims, config.OFFSET_RANGE)
    raise S2LDError(f"MODEL.DETECTOR.TYPE is {config.TYPE!r}; use regression or heatmap")


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
