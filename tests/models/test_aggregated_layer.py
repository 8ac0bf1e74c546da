"""Attention between aggregated tokens: against loops over squares, queries and heads; padding, odd sides, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.models.attention import AggregatedLayer, Grid, LocalFeatureTransformer

DIM, HEADS = 8, 2


def draw(grid: Grid, seed: int = 0, n: int = 1) -> Tensor:
    """(N, h * w, DIM) tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, grid[0] * grid[1], DIM, generator=generator, dtype=torch.float64)


def layer_of(side: int) -> AggregatedLayer:
    torch.manual_seed(0)
    layer = AggregatedLayer(DIM, HEADS, side).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def squares(tokens: Tensor, grid: Grid, side: int) -> list[list[list[tuple[int, int, Tensor]]]]:
    """Rows of squares of (row, column, token), each within its square, of one image's tokens (L, DIM)."""
    found = []
    for top in range(0, grid[0], side):
        found.append([])
        for left in range(0, grid[1], side):
            rows, columns = range(top, min(top + side, grid[0])), range(left, min(left + side, grid[1]))
            found[-1].append([(i - top, j - left, tokens[i * grid[1] + j]) for i in rows for j in columns])
    return found


def slow_layer(layer: AggregatedLayer, x: Tensor, source: Tensor, x_grid: Grid, source_grid: Grid) -> Tensor:
    """One image's tokens (L, DIM) and its source's (S, DIM): one square, one query, one head at a time."""
    of_x, of_source = squares(x, x_grid, layer.side), squares(source, source_grid, layer.side)
    keys = [layer.norm(torch.stack([t for *_, t in square]).amax(0)) for row in of_source for square in row]
    message = torch.zeros(len(of_x), len(of_x[0]), DIM, dtype=x.dtype)
    for i, row in enumerate(of_x):
        for j, square in enumerate(row):
            query = layer.norm(sum(layer.mean.weight[:, 0, k, m] * token for k, m, token in square))
            gathered = []
            for head in torch.arange(DIM).chunk(HEADS):
                q = layer.q_proj(query)[head]
                weights = [torch.exp(q @ layer.k_proj(key)[head] / math.sqrt(len(head))) for key in keys]
                values = [layer.v_proj(key)[head] for key in keys]
                gathered.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
            message[i, j] = layer.norm1(layer.merge(torch.cat(gathered)))
    out = []
    for i in range(x_grid[0]):
        for j in range(x_grid[1]):
            token = x[i * x_grid[1] + j]
            joint = torch.cat([token, bilinear(message, (i + 0.5) / layer.side - 0.5, (j + 0.5) / layer.side - 0.5)])
            out.append(token + layer.norm2(layer.mlp(joint)))
    return torch.stack(out)


def bilinear(message: Tensor, row: float, column: float) -> Tensor:
    """(h, w, C) at a point, at the nearest one inside where it lies outside."""
    row, column = (min(max(at, 0.0), n - 1.0) for at, n in zip((row, column), message.shape[:2], strict=True))
    top, left = int(row), int(column)
    bottom, right = min(top + 1, message.shape[0] - 1), min(left + 1, message.shape[1] - 1)
    upper = (1 - column + left) * message[top, left] + (column - left) * message[top, right]
    lower = (1 - column + left) * message[bottom, left] + (column - left) * message[bottom, right]
    return (1 - row + top) * upper + (row - top) * lower


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("grids", [((4, 8), (8, 4)), ((5, 7), (6, 3)), ((1, 1), (3, 9))])
def test_it_agrees_with_the_slow_form(side: int, grids: tuple[Grid, Grid]) -> None:
    layer, x, source = layer_of(side), draw(grids[0], n=2), draw(grids[1], 1, n=2)
    with torch.no_grad():
        found = layer(x, source, None, None, *grids)
        for n in range(2):
            torch.testing.assert_close(found[n], slow_layer(layer, x[n], source[n], *grids))


def padded(tokens: Tensor, grid: Grid, within: Grid) -> tuple[Tensor, Tensor]:
    """Tokens (1, L, DIM) in a larger grid whose other tokens are far from them, and its mask."""
    pad = (0, within[1] - grid[1], 0, within[0] - grid[0])
    mask = F.pad(torch.ones(1, *grid, dtype=torch.bool), pad).flatten(1)
    inside = F.pad(tokens.transpose(1, 2).reshape(1, DIM, *grid), pad).flatten(2).transpose(1, 2)
    return inside + 9 * draw(within, 7).abs() * ~mask[:, :, None], mask


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("within", [(6, 8), (13, 17)])
def test_padding_changes_nothing_in_the_valid_part(side: int, within: Grid) -> None:
    torch.manual_seed(0)
    transformer = LocalFeatureTransformer(DIM, HEADS, ["self", "cross"], "linear", side).double()
    for layer in transformer.layers:
        torch.nn.init.normal_(layer.norm1.bias)  # type: ignore[arg-type]
    grids = (5, 7), (6, 3)
    plain = transformer(draw(grids[0]), draw(grids[1], 1), None, None, grids)
    (x0, mask0), (x1, mask1) = (padded(draw(grid, n), grid, within) for n, grid in enumerate(grids))
    found = transformer(x0, x1, mask0, mask1, (within, within))
    for one, expected, mask in zip(found, plain, (mask0, mask1), strict=True):
        torch.testing.assert_close(one[mask][None], expected)
        assert one.isfinite().all()


def test_cross_layer_sees_the_updated_first_image() -> None:
    transformer = LocalFeatureTransformer(DIM, HEADS, ["cross"], "linear", 2).double()
    grid0, grid1 = (3, 4), (5, 2)
    x0, x1 = draw(grid0), draw(grid1, 1)
    y0, y1 = transformer(x0, x1, grids=(grid0, grid1))
    layer = transformer.layers[0]
    torch.testing.assert_close(y0, layer(x0, x1, None, None, grid0, grid1))
    torch.testing.assert_close(y1, layer(x1, y0, None, None, grid1, grid0))


def test_all_weights_learn_around_squares_of_padding_alone() -> None:
    layer, grid = layer_of(2), (7, 9)
    x, mask = padded(draw((3, 4)), (3, 4), grid)
    x.requires_grad_()
    layer(x, x, mask, mask, grid, grid)[mask].square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert not x.grad[~mask].any()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_gradients_are_those_of_the_slow_form() -> None:
    layer, grid, fast, slow = layer_of(2), (3, 5), draw((3, 5)).requires_grad_(), draw((3, 5)).requires_grad_()
    layer(fast, draw((4, 4), 1), None, None, grid, (4, 4)).square().sum().backward()
    slow_layer(layer, slow[0], draw((4, 4), 1)[0], grid, (4, 4)).square().sum().backward()
    torch.testing.assert_close(fast.grad, slow.grad)


def test_half_precision_stays_near() -> None:
    layer, grid = layer_of(2).float(), (5, 6)
    x = (100 * draw(grid)).float()  # large features must not make softmax overflow
    mask = torch.arange(30)[None] < 24
    with torch.no_grad():
        exact = layer(x, x, mask, mask, grid, grid)
        with torch.autocast("cpu", torch.bfloat16):
            half = layer(x.bfloat16(), x.bfloat16(), mask, mask, grid, grid)
    assert half.isfinite().all()
    assert (half - exact)[mask].norm() < 0.02 * exact[mask].norm()


@pytest.mark.parametrize("side", [0, 3, 8])
def test_another_side_is_named(side: int) -> None:
    with pytest.raises(S2LDError, match=rf"^MODEL\.COARSE\.AGGREGATE is {side}; use 1, 2 or 4$"):
        LocalFeatureTransformer(DIM, HEADS, ["self"], "linear", side)
