"""Positional encoding, attention and the transformer that both matching stages use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
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
        q, k, v = (full_precision(rearrange(x, "n l h d -> n h l d")) for x in (q, k, v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        if q_mask is not None:
            q = q * q_mask[:, None, :, None]
        if kv_mask is not None:
            k = k * kv_mask[:, None, :, None]
        # the sum of the keys beside the context gives the normaliser in the same product
        context = torch.cat([k.transpose(-1, -2) @ v, k.sum(2)[..., None]], 3)
        product = q @ context
        message: Tensor = product[..., :-1] / (product[..., -1:] + LINEAR_EPS)
        return rearrange(message, "n h l d -> n l h d")


def full_attention(
    q: Tensor, k: Tensor, v: Tensor, q_mask: Tensor | None = None, kv_mask: Tensor | None = None
) -> Tensor:
    """Softmax attention; arguments and result as in `linear_attention`. Padded queries give zeros."""
    q, k, v = (rearrange(x, "n l h d -> n h l d") for x in (q, k, v))
    mask = None if kv_mask is None else kv_mask[:, None, None, :]
    message = rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "n h l d -> n l h d")
    return message if q_mask is None else message * q_mask[:, :, None, None]


ATTENTIONS: dict[str, Attention] = {"linear": linear_attention, "full": full_attention}


class EncoderLayer(nn.Module):
    """One attention layer: message from the source, then an MLP on (x, message), added to x."""

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

    def forward(
        self, x: Tensor, source: Tensor, x_mask: Tensor | None = None, source_mask: Tensor | None = None
    ) -> Tensor:
        """`x` (N, L, dim) attends to `source` (N, S, dim); masks (N, L) and (N, S) are false where padded."""
        q, k, v = self.q_proj(x), self.k_proj(source), self.v_proj(source)
        q, k, v = (rearrange(y, "n l (h d) -> n l h d", h=self.heads) for y in (q, k, v))
        message: Tensor = rearrange(self.attention(q, k, v, x_mask, source_mask), "n l h d -> n l (h d)")
        message = self.norm1(self.merge(message))
        message = self.norm2(self.mlp(torch.cat([x, message], 2)))
        return x + message


class LocalFeatureTransformer(nn.Module):
    """Self and cross layers in turn; both images share all weights."""

    def __init__(self, dim: int, heads: int, layers: Sequence[str], attention: str) -> None:
        super().__init__()
        unknown = set(layers) - {"self", "cross"}
        if unknown:
            raise S2LDError(f"transformer layer {sorted(unknown)[0]!r} is unknown; use self and cross")
        self.kinds = tuple(layers)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, attention) for _ in layers)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, x0: Tensor, x1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(N, L, dim), (N, S, dim) → the same shapes; in a cross layer image 1 attends to the *updated* image 0."""
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            if kind == "self":
                x0, x1 = layer(x0, x0, mask0, mask0), layer(x1, x1, mask1, mask1)
            else:
                x0 = layer(x0, x1, mask0, mask1)
                x1 = layer(x1, x0, mask1, mask0)
        return x0, x1
