"""Positional encoding, attention and the transformer that both matching stages use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
Grid = tuple[int, int]
"""Rows and columns of tokens that lie row by row."""
LINEAR_EPS = 1e-6


def positional_encoding(dim: int, h: int, w: int, form: str, like: Tensor, long_side: int = 0) -> Tensor:
    """Return the (dim, h, w) sinusoidal encoding; channels 4k..4k+3 are sin(x f), cos(x f), sin(y f), cos(y f).

    x and y are counted from 1, in cells. `form` "intended": f_k = exp(-2k ln(1e4) / (dim/2)), the two-dimensional
    extension of Vaswani et al. (2017); "released": f_k = exp(-2k), which released checkpoints were trained with.
    With `long_side` positions are scaled so that the longer side of the grid counts so many cells, whatever the image's
    size: a network trained on small images then meets no unknown positions on large ones.
    """
    k = torch.arange(0, dim // 2, 2, device=like.device, dtype=torch.float32)
    if form not in ("intended", "released"):
        raise S2LDError(f"MODEL.POSITION.FORM is {form!r}; use intended or released")
    frequency = torch.exp(-k * (math.log(10000.0) / (dim // 2))) if form == "intended" else torch.exp(-k)
    if long_side:
        frequency = frequency * (long_side / max(h, w))
    x = torch.arange(1, w + 1, device=like.device, dtype=torch.float32)[None] * frequency[:, None]
    y = torch.arange(1, h + 1, device=like.device, dtype=torch.float32)[None] * frequency[:, None]
    columns = [wave[:, None, :].expand(-1, h, -1) for wave in (x.sin(), x.cos())]
    rows = [wave[:, :, None].expand(-1, -1, w) for wave in (y.sin(), y.cos())]
    waves = torch.stack(columns + rows, 1)
    return waves.reshape(-1, h, w).to(like.dtype)


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, q_mask: Tensor | None = None, kv_mask: Tensor | None = None
) -> Tensor:
    """Linear attention with the elu + 1 feature map (Katharopoulos et al., ICML 2020), in float32 at least.

    In half precision elu + 1 cancels to 0 below about -5; where it does so in all channels the normaliser is its
    epsilon, and gradients explode.

    Args:
        q: (N, L, heads, d).
        k: (N, S, heads, d).
        v: (N, S, heads, d).
        q_mask: (N, L) bool, false where padded.
        kv_mask: (N, S) bool.

    Returns:
        (N, L, heads, d).
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = full_precision(q), full_precision(k), full_precision(v)
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            message: Tensor = _LinearAttention.apply(q, k, v, q_mask, kv_mask)  # type: ignore[no-untyped-call]
            return message
        product, _ = _products(_feature(q, q_mask), _feature(k, kv_mask), v)
        return product[..., :-1] / product[..., -1:]


def _feature(x: Tensor, mask: Tensor | None) -> Tensor:
    """(N, L, heads, d) → elu(x) + 1, zero where `mask` (N, L) is false."""
    positive = F.elu(x).add_(1)
    return positive if mask is None else positive * mask[:, :, None, None]


def _products(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Positive q and k, v, (N, L or S, heads, d) → (N, L, heads, d + 1) message and its divisor, context."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    # the sum of the keys beside the context gives the normaliser in the same product
    context = torch.cat([k.transpose(-1, -2) @ v, k.sum(2)[..., None]], 3)
    product = (q @ context).transpose(1, 2)
    product[..., -1:].add_(LINEAR_EPS)
    return product, context


class _LinearAttention(torch.autograd.Function):
    """`linear_attention` with a gradient that keeps fewer tensors and takes fewer passes over them."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, q_mask: Tensor | None, kv_mask: Tensor | None) -> Tensor:
        q, k = _feature(q, q_mask), _feature(k, kv_mask)
        product, context = _products(q, k, v)
        normaliser = product[..., -1:].contiguous()
        message = torch.div(product[..., :-1], normaliser, out=torch.empty_like(q))
        ctx.save_for_backward(q, k, v, message, normaliser, context)
        return message

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, message, normaliser, context = ctx.saved_tensors
        # of the product: the message's share, and beside it the normaliser's
        product = grad.new_empty(*grad.shape[:3], grad.shape[3] + 1)
        torch.div(grad, normaliser, out=product[..., :-1])
        torch.sum(product[..., :-1] * message, 3, keepdim=True, out=product[..., -1:])
        product[..., -1:].neg_()
        product = product.transpose(1, 2)
        grad_q = (product @ context.transpose(-1, -2)).transpose(1, 2)
        grad_context = q.transpose(1, 2).transpose(-1, -2) @ product
        grad_k = v.transpose(1, 2) @ grad_context[..., :-1].transpose(-1, -2)
        grad_k = grad_k.add_(grad_context[..., -1][:, :, None]).transpose(1, 2)
        grad_v = (k.transpose(1, 2) @ grad_context[..., :-1]).transpose(1, 2)
        # the slope of elu + 1 is 1 above 0 and its value below; where it is masked, it is 0
        return grad_q.mul_(q.clamp(max=1)), grad_k.mul_(k.clamp(max=1)), grad_v, None, None


def full_attention(
    q: Tensor, k: Tensor, v: Tensor, q_mask: Tensor | None = None, kv_mask: Tensor | None = None
) -> Tensor:
    """Softmax attention; arguments and result as in `linear_attention`. Padded queries give zeros."""
    q, k, v = (rearrange(x, "n l h d -> n h l d") for x in (q, k, v))
    mask = None if kv_mask is None else kv_mask[:, None, None, :]
    message = rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "n h l d -> n l h d")
    return message if q_mask is None else message * q_mask[:, :, None, None]


ATTENTIONS: dict[str, Attention] = {"linear": linear_attention, "full": full_attention}


class AttentionLayer(nn.Module):
    """What layers have in common: heads, the message, and the MLP on (x, message) that is added to x."""

    def __init__(self, dim: int, heads: int, attention: str) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise S2LDError(f"attention {attention!r} is unknown; use {' or '.join(ATTENTIONS)}")
        if dim % heads:
            raise S2LDError(f"{heads} attention heads do not divide {dim} channels; change HEADS")
        self.heads = heads
        self.attention = ATTENTIONS[attention]
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.merge = nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * dim, 2 * dim, bias=False), nn.ReLU(), nn.Linear(2 * dim, dim, bias=False)
        )
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def _message(self, x: Tensor, source: Tensor, x_mask: Tensor | None, source_mask: Tensor | None) -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(source), self.v_proj(source)
        q, k, v = (rearrange(y, "n l (h d) -> n l h d", h=self.heads) for y in (q, k, v))
        message = rearrange(self.attention(q, k, v, x_mask, source_mask), "n l h d -> n l (h d)")
        normed: Tensor = self.norm1(self.merge(message))
        return normed

    def _added(self, x: Tensor, message: Tensor) -> Tensor:
        change: Tensor = self.norm2(self.mlp(torch.cat([x, message], 2)))
        return x + change


class EncoderLayer(AttentionLayer):
    """One attention layer: message from the source, then an MLP on (x, message), added to x."""

    def forward(
        self, x: Tensor, source: Tensor, x_mask: Tensor | None = None, source_mask: Tensor | None = None
    ) -> Tensor:
        """`x` (N, L, dim) attends to `source` (N, S, dim); masks (N, L) and (N, S) are false where padded."""
        return self._added(x, self._message(x, source, x_mask, source_mask))


class AggregatedLayer(AttentionLayer):
    """A layer between aggregated tokens, which are so few that each sees all others by softmax.

    After EfficientLoFTR (Wang et al., CVPR 2024): the weighted mean of `side`² tokens, channel by channel, is a query,
    their maximum a key and a value. The message to the queries is interpolated at the tokens, each of which then makes
    its own use of it.
    """

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__(dim, heads, "full")
        self.side = side
        self.mean = nn.Conv2d(dim, dim, side, side, groups=dim, bias=False)
        nn.init.constant_(self.mean.weight, side**-2)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        x_mask: Tensor | None,
        source_mask: Tensor | None,
        x_grid: Grid,
        source_grid: Grid,
    ) -> Tensor:
        """`x` (N, L, dim) attends to `source` (N, S, dim); masks (N, L) and (N, S) are false where padded."""
        query = self.mean(self._map(x, x_mask, x_grid, 0.0).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        key = self._largest(self._map(source, source_mask, source_grid, -torch.inf))
        valid, source_valid = self._valid(x_mask, x_grid), self._valid(source_mask, source_grid)
        if source_valid is not None:
            key = key.masked_fill(~source_valid, 0.0)
        query_tokens, key_tokens = (self.norm(y.flatten(1, 2)) for y in (query, key))
        masks = (None if y is None else y.flatten(1) for y in (valid, source_valid))
        message = self._message(query_tokens, key_tokens, *masks)
        # the MLP on (x, message), whose first layer comes before the interpolation: both are linear
        weight = self.mlp[0].weight
        assert isinstance(weight, Tensor)
        of_x, of_message = weight[:, : x.shape[2]], weight[:, x.shape[2] :]
        change = F.linear(message, of_message).reshape(*query.shape[:3], -1)
        change = self._interpolated(change, valid)[:, : x_grid[0], : x_grid[1]].flatten(1, 2)
        changed: Tensor = x + self.norm2(self.mlp[2](self.mlp[1](F.linear(x, of_x).add_(change))))
        return changed

    def _map(self, tokens: Tensor, mask: Tensor | None, grid: Grid, fill: float) -> Tensor:
        """(N, L, C) → (N, h, w, C) with sides that `side` divides; `fill` where there is no valid token."""
        if mask is not None:
            tokens = tokens.masked_fill(~mask[:, :, None], fill)
        (h, w), (down, across) = grid, (-(-length // self.side) * self.side - length for length in grid)
        return F.pad(tokens.reshape(len(tokens), h, w, -1), (0, 0, 0, across, 0, down), value=fill)

    def _largest(self, x: Tensor) -> Tensor:
        """(N, h, w, C) → of the squares, (N, h / side, w / side, C); faster than pooling where channels are last."""
        n, h, w, channels = x.shape
        return x.reshape(n, h // self.side, self.side, w // self.side, self.side, channels).amax(2).amax(3)

    def _valid(self, mask: Tensor | None, grid: Grid) -> Tensor | None:
        """Mask of tokens (N, L) → of aggregated ones (N, h, w, 1): those of a valid token or more."""
        return None if mask is None else self._largest(self._map(mask[:, :, None].float(), None, grid, 0.0)) > 0

    def _interpolated(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """(N, h, w, C) at the aggregated tokens → at all, between valid ones alone."""

        def interpolated(x: Tensor) -> Tensor:
            x = x.permute(0, 3, 1, 2)
            x = F.interpolate(x, scale_factor=float(self.side), mode="bilinear", align_corners=False)
            return x.permute(0, 2, 3, 1)

        if valid is None:
            return interpolated(x)
        return interpolated(x * valid) / interpolated(valid.to(x.dtype)).clamp(min=1e-6)  # 0 far from all


class LocalFeatureTransformer(nn.Module):
    """Self and cross layers in turn; both images share all weights.

    Args:
        dim: channels of a token.
        heads: of attention.
        layers: "self" or "cross" each.
        attention: "linear" or "full", of layers between all tokens.
        aggregate: side of the squares of tokens that attend as one (`AggregatedLayer`); 1: each attends for itself.

    Raises:
        S2LDError: an unknown layer, attention or side, or heads that do not divide the channels.
    """

    def __init__(self, dim: int, heads: int, layers: Sequence[str], attention: str, aggregate: int = 1) -> None:
        super().__init__()
        unknown = set(layers) - {"self", "cross"}
        if unknown:
            raise S2LDError(f"transformer layer {sorted(unknown)[0]!r} is unknown; use self and cross")
        if aggregate not in (1, 2, 4):
            raise S2LDError(f"MODEL.COARSE.AGGREGATE is {aggregate}; use 1, 2 or 4")
        self.kinds = tuple(layers)
        self.aggregate = aggregate
        self.layers = nn.ModuleList(
            EncoderLayer(dim, heads, attention) if aggregate == 1 else AggregatedLayer(dim, heads, aggregate)
            for _ in layers
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(
        self,
        x0: Tensor,
        x1: Tensor,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
        grids: Sequence[Grid] = (),
    ) -> tuple[Tensor, Tensor]:
        """(N, L, dim), (N, S, dim) → the same shapes; in a cross layer image 1 attends to the *updated* image 0.

        Masks (N, L) and (N, S) are false where padded; aggregation needs the `grids` of the tokens of both images.
        """
        within0, to1, to0, within1 = (
            [(x_grid, grid) for x_grid in grids for grid in grids] if self.aggregate > 1 else [()] * 4
        )
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            if kind == "self":
                x0, x1 = layer(x0, x0, mask0, mask0, *within0), layer(x1, x1, mask1, mask1, *within1)
            else:
                x0 = layer(x0, x1, mask0, mask1, *to1)
                x1 = layer(x1, x0, mask1, mask0, *to0)
        return x0, x1
