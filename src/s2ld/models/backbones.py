"""Backbones: an image to a coarse map at H/8 and a fine map at H/2 or H/4."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.models.fast.convolution import Conv3x3
from s2ld.models.layers import BasicBlock, conv_bn_relu, initialise_convolutions
from s2ld.types import Features


class ResNetFPN(nn.Module):
    """The paper's backbone: ResNet stages at H/2, H/4, H/8 and a feature pyramid (Lin et al., 2017) back to H/2."""

    def __init__(self, stem_dim: int, dims: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, stem_dim, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_dim)
        self.layer1 = self._stage(stem_dim, dims[0], blocks[0], 1)
        self.layer2 = self._stage(dims[0], dims[1], blocks[1], 2)
        self.layer3 = self._stage(dims[1], dims[2], blocks[2], 2)
        self.layer3_outconv = nn.Conv2d(dims[2], dims[2], 1, bias=False)
        self.layer2_outconv = nn.Conv2d(dims[1], dims[2], 1, bias=False)
        self.layer2_outconv2 = self._merge(dims[2], dims[1])
        self.layer1_outconv = nn.Conv2d(dims[0], dims[1], 1, bias=False)
        self.layer1_outconv2 = self._merge(dims[1], dims[0])
        initialise_convolutions(self)

    @staticmethod
    def _stage(in_dim: int, out_dim: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_dim, out_dim, stride)
        return nn.Sequential(first, *(BasicBlock(out_dim, out_dim) for _ in range(blocks - 1)))

    @staticmethod
    def _merge(in_dim: int, out_dim: int) -> nn.Sequential:
        return nn.Sequential(
            Conv3x3(in_dim, in_dim),
            nn.BatchNorm2d(in_dim),
            nn.LeakyReLU(),
            Conv3x3(in_dim, out_dim),
        )

    def forward(self, image: Tensor) -> Features:
        """(N, 1, H, W) → coarse (N, DIMS[2], H/8, W/8), fine (N, DIMS[0], H/2, W/2)."""
        x1 = self.layer1(F.relu(self.bn1(self.conv1(image)), inplace=True))
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        coarse = self.layer3_outconv(x3)
        x2 = self.layer2_outconv2(self.layer2_outconv(x2).add_(_upsample(coarse)))
        x1 = self.layer1_outconv(x1).add_(_upsample(x2))  # by the same name, so that the map before goes
        return Features(coarse, self.layer1_outconv2(x1))


class LiteBackbone(nn.Module):
    """A light pyramid for CPUs: dense 3×3 convolutions at low width, most of them at H/4 and H/8.

    With `context`, channels of levels at H/16, H/32 and so on, the coarse map also takes in what these see.
    """

    def __init__(
        self,
        stem_dim: int,
        dims: Sequence[int],
        blocks: Sequence[int],
        fine_stride: int,
        fine_dim: int,
        fine_convs: int,
        context: Sequence[int] = (),
        context_blocks: int = 0,
    ) -> None:
        super().__init__()
        self.fine_stride = fine_stride
        self.stem = conv_bn_relu(1, stem_dim, 5, 2)
        self.level1 = _level(stem_dim, dims[0], blocks[0], 1)
        self.level2 = _level(dims[0], dims[1], blocks[1], 2)
        self.level3 = _level(dims[1], dims[2], blocks[2], 2)
        self.context = _Context([dims[2], *context], context_blocks) if context else None
        self.coarse_out = nn.Conv2d(dims[2], dims[2], 1, bias=False)
        self.top_down2 = nn.Conv2d(dims[2], dims[1], 1, bias=False)
        self.merge2 = conv_bn_relu(dims[1], dims[1] if fine_stride == 2 else fine_dim)
        if fine_stride == 2:
            self.top_down1 = nn.Conv2d(dims[1], dims[0], 1, bias=False)
            self.merge1 = conv_bn_relu(dims[0], fine_dim)
        self.fine_convs = nn.ModuleList(conv_bn_relu(fine_dim, fine_dim) for _ in range(fine_convs))
        self.fine_out = nn.Conv2d(fine_dim, fine_dim, 1, bias=False)
        initialise_convolutions(self)

    def forward(self, image: Tensor) -> Features:
        """(N, 1, H, W) → coarse (N, DIMS[2], H/8, W/8), fine (N, FINE_DIM, H/FINE_STRIDE, W/FINE_STRIDE)."""
        x1 = self.level1(self.stem(image))
        x2 = self.level2(x1)
        x3 = self.level3(x2)
        x = self.merge2(x2 + _upsample(self.top_down2(x3), align_corners=False))
        if self.fine_stride == 2:
            x = self.merge1(x1 + _upsample(self.top_down1(x), align_corners=False))
        for conv in self.fine_convs:
            x = x + conv(x)
        coarse = x3 if self.context is None else self.context(x3)
        return Features(self.coarse_out(coarse), self.fine_out(x))


class _Context(nn.Module):
    """Levels at half the size each, merged back from the last to the first of `dims`, the map that it is given."""

    def __init__(self, dims: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(finer, coarser, blocks, 2) for finer, coarser in pairwise(dims))
        self.top_down = nn.ModuleList(nn.Conv2d(coarser, finer, 1, bias=False) for finer, coarser in pairwise(dims))
        self.merge = nn.ModuleList(conv_bn_relu(finer, finer) for finer in dims[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, dims[0], h, w) → the same shape."""
        maps = [x]
        for level in self.levels:
            maps.append(level(maps[-1]))
        x = maps.pop()
        for number in reversed(range(len(maps))):
            height, width = maps[number].shape[2:]  # an odd side has no pixel beside its last
            wider = _upsample(self.top_down[number](x), align_corners=False)[:, :, :height, :width]
            x = self.merge[number](maps[number] + wider)
        return x


def _level(in_dim: int, out_dim: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn_relu(in_dim, out_dim, 3, stride), *(BasicBlock(out_dim, out_dim) for _ in range(blocks))
    )


def _upsample(x: Tensor, align_corners: bool = True) -> Tensor:
    # aligned corners are the released form; they shift the coarser map by up to half its pixel over the image's width
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=align_corners)


def build_backbone(config: CN) -> ResNetFPN | LiteBackbone:
    """Build the backbone of the BACKBONE node.

    Raises:
        S2LDError: unknown type, or a fine map that this type does not offer.
    """
    if config.TYPE == "resnet_fpn":
        if config.FINE_STRIDE != 2 or config.DIMS[0] != config.FINE_DIM:
            raise S2LDError(
                "MODEL.BACKBONE: resnet_fpn needs FINE_STRIDE 2 and FINE_DIM equal to DIMS[0]; set these or TYPE lite"
            )
        if config.CONTEXT:
            raise S2LDError("MODEL.BACKBONE.CONTEXT: resnet_fpn has none; leave it empty or set TYPE lite")
        return ResNetFPN(config.STEM_DIM, config.DIMS, config.BLOCKS)
    if config.TYPE == "lite":
        if config.FINE_STRIDE not in (2, 4):
            raise S2LDError(f"MODEL.BACKBONE.FINE_STRIDE is {config.FINE_STRIDE}; use 2 or 4")
        fine = config.FINE_STRIDE, config.FINE_DIM, config.FINE_CONVS
        return LiteBackbone(config.STEM_DIM, config.DIMS, config.BLOCKS, *fine, config.CONTEXT, config.CONTEXT_BLOCKS)
    raise S2LDError(f"MODEL.BACKBONE.TYPE is {config.TYPE!r}; use resnet_fpn or lite")
