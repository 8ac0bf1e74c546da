"""Convolution blocks that several modules share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.models.fast.convolution import Conv3x3


def conv_bn_relu(in_dim: int, out_dim: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; "same" padding for odd kernels."""
    if kernel == 3:
        conv: nn.Conv2d = Conv3x3(in_dim, out_dim, stride)
    else:
        conv = nn.Conv2d(in_dim, out_dim, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_dim), nn.ReLU())


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a skip connection (He et al., CVPR 2016)."""

    def __init__(self, in_dim: int, out_dim: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv3x3(in_dim, out_dim, stride)
        self.bn1 = nn.BatchNorm2d(out_dim)
        self.conv2 = Conv3x3(out_dim, out_dim)
        self.bn2 = nn.BatchNorm2d(out_dim)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_dim != out_dim:
            self.downsample = nn.Sequential(nn.Conv2d(in_dim, out_dim, 1, stride, bias=False), nn.BatchNorm2d(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_dim, H, W) → (N, out_dim, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return F.relu(y, inplace=True)


def initialise_convolutions(module: nn.Module) -> None:
    """He initialisation of every convolution, unit batch norms."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
