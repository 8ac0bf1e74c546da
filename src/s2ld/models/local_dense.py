"""Local dense matching: each sparse match is refined in a small window around the keypoint of the second image only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision
from s2ld.models.attention import LocalFeatureTransformer
from s2ld.models.fast.recomputing import recomputed
from s2ld.types import CoarseMatches, EncodedPair


class FinePreprocess(nn.Module):
    """Adds the coarse descriptor to every token of a window."""

    def __init__(self, coarse_dim: int, fine_dim: int) -> None:
        super().__init__()
        self.down_proj = nn.Linear(coarse_dim, fine_dim)
        self.merge_feat = nn.Linear(2 * fine_dim, fine_dim)
        for linear in (self.down_proj, self.merge_feat):
            nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, window: Tensor, coarse: Tensor) -> Tensor:
        """Window (M, W², Cf) and coarse descriptor (M, C) → (M, W², Cf)."""
        # the layer on (window, context), whose second part is the same for all tokens of a window
        channels = window.shape[2]
        of_window, of_context = self.merge_feat.weight[:, :channels], self.merge_feat.weight[:, channels:]
        context = F.linear(self.down_proj(coarse), of_context, self.merge_feat.bias)
        return F.linear(window, of_window) + context[:, None]


class LocalDenseMatching(nn.Module):
    """Cuts the windows and decodes where in window 1 the centre of window 0 lies."""

    def __init__(self, window: int, mode: str, fine_stride: int) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise S2LDError(f"MODEL.FINE.WINDOW is {window}; use an odd number")
        if mode not in ("subpixel", "rounded"):
            raise S2LDError(f"MODEL.FINE.WINDOW_MODE is {mode!r}; use subpixel or rounded")
        self.window = window
        self.subpixel = mode == "subpixel"
        self.fine_stride = fine_stride

    @property
    def radius_px(self) -> float:
        """Half the window, resized px: an expectation of 1 is this far from the keypoint."""
        return float(self.fine_stride * (self.window // 2))

    def cut(self, fine: Tensor, batch: Tensor, points: Tensor) -> Tensor:
        """Cut a window of the fine map (N, Cf, Hf, Wf) around each of `points` (M, 2) resized px → (M, W², Cf).

        Outside the map tokens are zero. In sub-pixel mode the map is sampled bilinearly around the exact point, and
        the result is differentiable in the point; in rounded mode the window is centred on the nearest fine pixel.
        """
        return cut_windows(fine, batch, points / self.fine_stride, self.window, self.subpixel)

    def decode(self, window0: Tensor, window1: Tensor) -> Tensor:
        """Correlate the centre token of window 0 with window 1, both (M, W², Cf) → (M, 3): x, y in [-1, 1], std."""
        with torch.autocast(window0.device.type, enabled=False):
            window0, window1 = full_precision(window0), full_precision(window1)
            centre = window0[:, self.window**2 // 2]
            similarity = (window1 @ centre[:, :, None])[..., 0] / window0.shape[-1] ** 0.5
            heatmap = F.softmax(similarity, 1)
            axis = heatmap.new_zeros(1)
            if self.window > 1:
                axis = torch.linspace(-1, 1, self.window, device=heatmap.device, dtype=heatmap.dtype)
            y, x = torch.meshgrid(axis, axis, indexing="ij")
            grid = torch.stack([x, y], -1).reshape(-1, 2)
            mean = heatmap @ grid
            variance = heatmap @ grid**2 - mean**2
            std = variance.clamp(min=1e-10).sqrt().sum(1, keepdim=True)
            return torch.cat([mean, std], 1)


def cut_windows(fine: Tensor, batch: Tensor, centres: Tensor, window: int, subpixel: bool) -> Tensor:
    """Gather windows of `fine` (N, C, Hf, Wf) around `centres` (M, 2) in fine pixels → (M, window², C)."""
    n, channels, height, width = fine.shape
    radius = window // 2
    base = centres.detach().floor() if subpixel else centres.detach().round()
    extent = window + 1 if subpixel else window  # bilinear blending needs one more row and column
    steps = torch.arange(extent, device=fine.device) - radius
    x = base[:, 0].long()[:, None] + steps
    y = base[:, 1].long()[:, None] + steps
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    index = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    index = index + (batch * height * width)[:, None, None]
    table = fine.permute(0, 2, 3, 1).reshape(n * height * width, channels)
    tokens = table.index_select(0, index.reshape(-1)).reshape(-1, extent, extent, channels)
    tokens.mul_(inside[..., None])
    if subpixel:
        part = (centres - base).to(tokens.dtype)[:, :, None, None, None]
        tokens = torch.lerp(tokens[:, :, :-1], tokens[:, :, 1:], part[:, 0])
        tokens = torch.lerp(tokens[:, :-1], tokens[:, 1:], part[:, 1])
    return tokens.flatten(1, 2)


def refine_windows(
    matching: LocalDenseMatching,
    preprocess: FinePreprocess,
    transformer: LocalFeatureTransformer,
    encoded: EncodedPair,
    matches: CoarseMatches,
) -> Tensor:
    """Run the whole fine stage on `matches` → expectation (M, 3)."""

    def tokens(fine: Tensor, points: Tensor, coarse: Tensor) -> Tensor:
        return preprocess(matching.cut(fine, matches.batch, points), coarse)  # type: ignore[no-any-return]

    at0, at1 = (matches.batch, matches.cell0), (matches.batch, matches.cell1)
    # little work, large tensors
    window0 = recomputed(tokens, encoded.features0.fine, encoded.keypoints0.points[at0], encoded.coarse0[at0])
    window1 = recomputed(tokens, encoded.features1.fine, encoded.keypoints1.points[at1], encoded.coarse1[at1])
    window0, window1 = transformer(window0, window1)
    return matching.decode(window0, window1)
