"""3×3 convolutions with half the multiplications, for CPUs: minimal filtering along the image's columns.

Four output rows of a 3×3 convolution take 3 × 4 products of input rows with filter rows. Winograd's minimal filtering
F(4, 3) takes 6: the six input rows become six sums (`_analyse`), each is convolved with one of six sums of the filter's
rows by a 1×3 convolution, and the products become the four output rows (`_synthesise`). The matrices are those of Lavin
and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.3, here along one axis: along both
there would be a quarter of the products, but their sums would take the time that this saves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS = 4  # rows that a tile makes
PRODUCTS = 6  # that it takes, and input rows that it reads
FILTER_SUMS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)  # G of the paper: six sums of the filter's three rows
BLOCK = 2**17  # measured: numbers in each of the six sums of a block, a thread; larger ones leave the caches
LEAST_CHANNELS = 96  # measured: below, the sums take about as long as the products that they save
LEAST_NUMBERS = 2**18  # of a map, a thread: below, blocks are small and their overhead counts


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d` with 3×3 filters and padding 1, which on CPUs takes the fewer products where that pays.

    That is with stride 1, in float32 and float64. Outputs and gradients differ by rounding: in float32 by about a
    millionth of their norm, six times the rounding of the plain convolution. Exported graphs have that.
    """

    minimal = True
    """Whether the fewer products may be taken."""

    def __init__(self, in_dim: int, out_dim: int, stride: int = 1) -> None:
        super().__init__(in_dim, out_dim, 3, stride, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_dim, H, W) → (N, out_dim, H/stride, W/stride)."""
        # a compiled graph must not depend on the number of threads: there the operator itself looks
        if self._fits(input) and (torch.compiler.is_dynamo_compiling() or _pays(input, self.weight)):
            return convolve_3x3(input, self.weight, self.bias)  # type: ignore[no-any-return]
        return super().forward(input)

    def _fits(self, x: Tensor) -> bool:
        exporting = torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
        return (
            self.minimal
            and not exporting
            and x.device.type == "cpu"
            and x.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and self.stride == (1, 1)
            and min(self.in_channels, self.out_channels) >= LEAST_CHANNELS
        )


def _pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a map is large enough for the threads there are."""
    return min(weight.shape[:2]) * x.shape[2] * x.shape[3] >= LEAST_NUMBERS * torch.get_num_threads()


@torch.library.custom_op("s2ld::convolve_3x3", mutates_args=())
def convolve_3x3(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W), (O, C, 3, 3), (O,) → (N, O, H, W), channels last: one operator for compilers and checkpoints."""
    if _pays(x, weight):
        return _convolve(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=1).contiguous(memory_format=torch.channels_last)


@convolve_3x3.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    n, _, height, width = x.shape
    return x.new_empty(n, height, width, len(weight)).permute(0, 3, 1, 2)


def _keep_for_gradient(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    for_x, for_weight, for_bias = ctx.needs_input_grad
    return (
        _convolve(grad, weight.flip(2, 3).transpose(0, 1), None) if for_x else None,
        _weight_gradient(x, grad) if for_weight else None,
        grad.sum((0, 2, 3)) if for_bias else None,
    )


convolve_3x3.register_autograd(_gradient, setup_context=_keep_for_gradient)
OPERATOR = torch.ops.s2ld.convolve_3x3.default
"""`convolve_3x3` as PyTorch's dispatcher knows it."""


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W), (O, C, 3, 3), (O,) → (N, O, H, W), channels last."""
    x = x.permute(0, 2, 3, 1).contiguous()
    out = x.new_empty(*x.shape[:3], len(weight))
    sums = torch.einsum("uh,ochw->uocw", weight.new_tensor(FILTER_SUMS), weight).unsqueeze(3)
    filters = [one.contiguous(memory_format=torch.channels_last) for one in sums]
    biases = [bias if u == 1 else None for u in range(PRODUCTS)]  # the second product enters all outputs alike
    space_in, space_out = _space(x, out), _space(out, x)
    for image, result in zip(x, out, strict=True):
        for first, tiles in _blocks(x, out):
            parts = _analyse(_rows(image, first - 1, OUTPUTS * tiles + 2), space_in[:, :tiles])
            products = [
                F.conv2d(part, one, b, padding=(0, 1))[0].permute(1, 2, 0)
                for part, one, b in zip(parts, filters, biases, strict=True)
            ]
            rows = result[first : first + OUTPUTS * tiles]
            whole = rows if len(rows) == OUTPUTS * tiles else rows.new_empty(OUTPUTS * tiles, *rows.shape[1:])
            _synthesise(products, whole, space_out[:, :tiles])
            if whole is not rows:
                rows.copy_(whole[: len(rows)])
    return out.permute(0, 3, 1, 2)


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """Input (N, C, H, W) and gradient of the output (N, O, H, W) → gradient of the weight (O, C, 3, 3)."""
    x, grad = x.permute(0, 2, 3, 1).contiguous(), grad.permute(0, 2, 3, 1).contiguous()
    channels, out_channels = x.shape[3], grad.shape[3]
    total = x.new_zeros(PRODUCTS, out_channels, 1, 3, channels).permute(0, 1, 4, 2, 3)
    space_in, space_out = _space(x, grad), _space(grad, x)
    for image, of_image in zip(x, grad, strict=True):
        for first, tiles in _blocks(x, grad):
            parts = _analyse(_rows(image, first - 1, OUTPUTS * tiles + 2), space_in[:, :tiles])
            spread = _spread(_rows(of_image, first, OUTPUTS * tiles), space_out[:, :tiles])
            for u in range(PRODUCTS):
                total[u] += _filter_gradient(parts[u], spread[u], total[u])
    return torch.einsum("uh,uocw->ochw", x.new_tensor(FILTER_SUMS), total[:, :, :, 0])


def _filter_gradient(x: Tensor, grad: Tensor, like: Tensor) -> Tensor:
    """Gradient of a 1×3 filter; `like` has its shape and layout (`torch.nn.grad` takes a slower one)."""
    steps = [1, 1], [0, 1], [1, 1], False, [0, 0], 1
    result: Tensor
    _, result, _ = torch.ops.aten.convolution_backward(grad, x, like, None, *steps, [False, True, False])
    return result


def _analyse(rows: Tensor, space: Tensor) -> list[Tensor]:
    """Six sums of the rows of each tile (B of the paper): (4k + 2, W, C) → six times (1, C, k, W) in `space`."""
    d = [rows[h : len(rows) - 5 + h : OUTPUTS] for h in range(6)]
    a, b, c, e, *sums = space
    torch.add(d[4], d[2], alpha=-4, out=a)
    torch.add(d[3], d[1], alpha=-4, out=b)
    torch.sub(d[4], d[2], out=c)
    torch.sub(d[3], d[1], out=e)
    torch.add(d[4], d[2], alpha=-5, out=sums[0]).add_(d[0], alpha=4)
    torch.add(a, b, out=sums[1])
    torch.sub(a, b, out=sums[2])
    torch.add(c, e, alpha=2, out=sums[3])
    torch.add(c, e, alpha=-2, out=sums[4])
    torch.add(d[5], d[3], alpha=-5, out=sums[5]).add_(d[1], alpha=4)
    return _as_images(sums)


def _synthesise(m: list[Tensor], rows: Tensor, space: Tensor) -> None:
    """Write the rows of each tile (A of the paper): six products (k, W, O) → `rows` (4k, W, O)."""
    a, b, c, e, *_ = space
    torch.add(m[1], m[2], out=a)
    torch.sub(m[1], m[2], out=b)
    torch.add(m[3], m[4], out=c)
    torch.sub(m[3], m[4], out=e)
    torch.add(a, c, out=rows[0::OUTPUTS]).add_(m[0])
    torch.add(b, e, alpha=2, out=rows[1::OUTPUTS])
    torch.add(a, c, alpha=4, out=rows[2::OUTPUTS])
    torch.add(b, e, alpha=8, out=rows[3::OUTPUTS]).add_(m[5])


def _spread(rows: Tensor, space: Tensor) -> list[Tensor]:
    """Transpose of `_synthesise`: gradient of the rows (4k, W, O) → six times (1, O, k, W), that of the products."""
    g = [rows[h::OUTPUTS] for h in range(OUTPUTS)]
    a, b, c, e, *grads = space
    torch.add(g[0], g[2], out=a)
    torch.add(g[1], g[3], out=b)
    torch.add(g[0], g[2], alpha=4, out=c)
    torch.add(g[1], g[3], alpha=4, out=e)
    grads[0].copy_(g[0])
    torch.add(a, b, out=grads[1])
    torch.sub(a, b, out=grads[2])
    torch.add(c, e, alpha=2, out=grads[3])
    torch.add(c, e, alpha=-2, out=grads[4])
    grads[5].copy_(g[3])
    return _as_images(grads)


def _as_images(parts: list[Tensor]) -> list[Tensor]:
    """(k, W, C) → (1, C, k, W), channels last, of the same memory."""
    return [part.permute(2, 0, 1)[None] for part in parts]


def _tiles(x: Tensor, y: Tensor) -> int:
    """How many tiles a block has, for maps (N, H, W, C) and (N, H, W, O)."""
    _, height, width, channels = max(x.shape, y.shape)
    return min(max(1, BLOCK * torch.get_num_threads() // (width * channels)), -(-height // OUTPUTS))


def _blocks(x: Tensor, y: Tensor) -> Iterator[tuple[int, int]]:
    """Yield the first row and the number of tiles of each block."""
    height, most = x.shape[1], _tiles(x, y)
    for first in range(0, height, OUTPUTS * most):
        yield first, min(most, -(-(height - first) // OUTPUTS))


def _space(x: Tensor, y: Tensor) -> Tensor:
    """Room for four partial and six whole sums of a block of `x`."""
    return x.new_empty(4 + PRODUCTS, _tiles(x, y), *x.shape[2:])


def _rows(image: Tensor, first: int, count: int) -> Tensor:
    """Return `count` rows of (H, W, C), zeros where there are none."""
    low, high = max(first, 0), min(first + count, len(image))
    inside = image[low:high]
    return inside if high - low == count else F.pad(inside, (0, 0, 0, 0, low - first, first + count - high))
