"""S2LD-Lite's local dense matching: a query correlated with a wide window, then a regression of the rest.

The paper's fine stage runs a transformer over two 5×5 windows a match. Here the two coarse descriptors, which have
seen both images, and the patch around keypoint 0 make one query a match; it is compared with every fine pixel of a
window around keypoint 1 that is wide enough for any keypoint of the cell. Patches of both images around the place
found give what remains below a fine pixel, and whether the match is right. A fraction of the paper's cost a match.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision, matmat
from s2ld.models.local_dense import cut_windows
from s2ld.types import CoarseMatches, Correlation, EncodedPair, FineMatches

PATCH = 3  # fine pixels: side of the patches that query and regression see
PEAK = 2  # fine pixels: the soft-argmax takes its mean this far around the best pixel
LOG_SCALE = 2.0  # where the learned scale of the similarities, cosines in [-1, 1], starts
RESIDUAL = 1.5  # fine pixels: largest correction by the regression


class CorrelationMatching(nn.Module):
    """The fine stage of type "correlation".

    Args:
        coarse_dim: C, channels of the coarse descriptors.
        fine_dim: Cf, channels of the fine map.
        window: W, side of window 1 in fine pixels, odd.
        fine_stride: resized px a fine pixel.
        hidden: hidden units.

    Raises:
        S2LDError: a window without a middle and pixels around it.
    """

    def __init__(self, coarse_dim: int, fine_dim: int, window: int, fine_stride: int, hidden: int) -> None:
        super().__init__()
        if window < 3 or window % 2 == 0:
            raise S2LDError(f"MODEL.FINE.WINDOW is {window}; use an odd number from 3")
        self.window, self.fine_stride = window, fine_stride
        patch, context = PATCH**2 * fine_dim, 2 * coarse_dim
        self.fine_norm = nn.LayerNorm(fine_dim)
        self.coarse_norm = nn.LayerNorm(coarse_dim)
        self.key = nn.Linear(fine_dim, fine_dim)
        self.query = _mlp(patch + context, hidden, fine_dim)
        self.log_scale = nn.Parameter(torch.tensor(LOG_SCALE))
        self.regression = _mlp(2 * patch + context, hidden, 3)

    @property
    def radius_px(self) -> float:
        """Half the window, resized px."""
        return float(self.fine_stride * (self.window // 2))

    def forward(
        self, encoded: EncodedPair, matches: CoarseMatches, place: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Correlation]:
        """Refine M matches.

        Args:
            encoded: the pairs.
            matches: which cells.
            place: (M, 2) resized px of image 1 around which to look; None: keypoint 1.

        Returns:
            (M, 2) points in image 1, resized px; (M, 3) soft-argmax x, y in [-1, 1] of the window and its standard
            deviation; what the losses need.
        """
        batch, stride = matches.batch, self.fine_stride
        fine0, fine1 = encoded.features0.fine, encoded.features1.fine
        coarse0, coarse1 = encoded.coarse0[batch, matches.cell0], encoded.coarse1[batch, matches.cell1]
        context = torch.cat([self.coarse_norm(coarse0), self.coarse_norm(coarse1)], 1)
        points0 = encoded.keypoints0.points[batch, matches.cell0] / stride
        patch0 = self.fine_norm(cut_windows(fine0, batch, points0, PATCH, subpixel=True)).flatten(1)
        query = self.query(torch.cat([patch0, context], 1))

        # cut at whole fine pixels and decoded from there: the place says where to look and nothing else
        place = encoded.keypoints1.points[batch, matches.cell1] if place is None else place
        centre = (place.detach() / stride).round()
        keys = self.key(self.fine_norm(cut_windows(fine1, batch, centre, self.window, subpixel=False)))
        with torch.autocast(keys.device.type, enabled=False):  # half precision is too coarse for a soft-argmax
            query, keys = F.normalize(full_precision(query), dim=1), F.normalize(full_precision(keys), dim=2)
            logits = self.log_scale.exp() * (query[:, None] @ keys.transpose(1, 2))[:, 0]
        mean, std = self._decode(logits)
        found = centre + mean

        patch1 = self.fine_norm(cut_windows(fine1, batch, found.detach(), PATCH, subpixel=True)).flatten(1)
        rest = full_precision(self.regression(torch.cat([patch0, patch1, context], 1)))
        points1 = stride * (found + RESIDUAL * torch.tanh(rest[:, :2]))
        radius = self.window // 2
        return points1, torch.cat([mean / radius, std / radius], 1), Correlation(logits, stride * centre, rest[:, 2])

    def _decode(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(M, W²) → mean (M, 2) around the best pixel and standard deviation (M, 1) of the whole, fine pixels."""
        grid = window_grid(self.window, logits)
        best = grid[logits.argmax(1)]
        near = (grid - best[:, None]).abs().amax(2) <= PEAK
        mean = matmat(F.softmax(logits.masked_fill(~near, -torch.inf), 1), grid)
        heatmap = F.softmax(logits.detach(), 1)
        variance = matmat(heatmap, grid.square()) - matmat(heatmap, grid).square()
        return mean, variance.clamp(min=0).sqrt().sum(1, keepdim=True)


def window_grid(window: int, like: Tensor) -> Tensor:
    """Return (W², 2) offsets x, y of a window's pixels from its middle one, row by row."""
    axis = torch.arange(window, device=like.device, dtype=like.dtype) - window // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def verified(
    coarse: CoarseMatches, fine: FineMatches, threshold: float, least: float
) -> tuple[CoarseMatches, FineMatches]:
    """Keep matches that are right with a probability above `threshold`.

    Their confidence is multiplied by it and must still be above `least`, the threshold of the sparse stage. Matches of
    another fine stage, which tells no such probability, pass as they are.
    """
    if fine.correlation is None:
        return coarse, fine
    confidence, right = verify(coarse, fine.correlation, threshold, least)
    keep = right.nonzero()[:, 0]
    return replace(coarse, confidence=confidence).at(keep), fine.at(keep)


def verify(coarse: CoarseMatches, correlation: Correlation, threshold: float, least: float) -> tuple[Tensor, Tensor]:
    """Return the confidence (M,) with the probability in it, and (M,) bool, which matches `verified` keeps."""
    probability = torch.sigmoid(correlation.right)
    confidence = coarse.confidence * probability
    return confidence, (probability > threshold) & (confidence > least)


def _mlp(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_dim, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, out_dim),
    )
