"""The training step written straightforwardly: the slow, obvious reference of `S2LDModule`'s.

Same loss and same gradients for the same weights, batch and random choice, by the means of the published code:
distances from every warped keypoint to every keypoint, the confidence matrix kept with its graph, every negative of
it in the loss, fine windows cut for all cells before the matched ones are chosen, attention as its formula reads,
PyTorch's convolutions and memory format, no ReLU in place, nothing computed twice to save memory.
`s2ld.benchmarks.training_step` measures the real step against it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.config import CN, build_config
from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision
from s2ld.models.attention import LINEAR_EPS, EncoderLayer, linear_attention
from s2ld.models.fast.convolution import Conv3x3
from s2ld.models.local_dense import FinePreprocess, LocalDenseMatching
from s2ld.models.network import S2LD
from s2ld.training.loop.module import S2LDModule
from s2ld.training.losses.confidences import Confidences
from s2ld.training.losses.targets import build_targets, select_fine, valid_cells
from s2ld.training.losses.total import matching_losses
from s2ld.types import CoarseMatches, EncodedPair, FineMatches, LossTerms, PairBatch, Targets, View


class SlowS2LDModule(S2LDModule):
    """`S2LDModule` with the slow step.

    Args:
        config: the whole config, of the transformer's fine stage; TRAIN.CHANNELS_LAST and CHECKPOINT count
            as False.

    Raises:
        S2LDError: another fine stage or training stage.
    """

    def __init__(self, config: CN) -> None:
        plain = ["TRAIN.CHANNELS_LAST", "False", "TRAIN.CHECKPOINT", "False"]
        super().__init__(build_config(overrides=plain, base=config))
        plain_network = isinstance(self.matcher.local_dense, LocalDenseMatching) and self.matcher.consensus is None
        if not plain_network or config.TRAIN.STAGE != "matcher":
            raise S2LDError("the slow step is of MODEL.FINE.TYPE transformer without consensus, in TRAIN.STAGE matcher")
        for module in self.matcher.modules():
            if isinstance(module, nn.ReLU | nn.LeakyReLU):
                module.inplace = False
            elif isinstance(module, Conv3x3):
                module.minimal = False
            elif isinstance(module, EncoderLayer) and module.attention is linear_attention:
                module.attention = slow_linear_attention

    def matcher_terms(self, batch: PairBatch, batch_idx: int) -> LossTerms:
        """Return the loss terms of a batch."""
        images0, images1 = batch.view0.images, batch.view1.images
        encoded = self.matcher.encode(images0, images1)
        matrix = self.matcher.confidence(encoded, images0.mask, images1.mask)
        predicted = self.matcher.select(matrix, encoded, images0.mask, images1.mask)
        targets = build_targets(encoded, batch, self.config.TARGETS, slow_nearest_keypoint)
        coarse = select_fine(predicted, targets, batch, self.config.TARGETS, self._generator(batch_idx))
        fine = slow_refine(self.matcher, encoded, coarse)
        self._log_matches(predicted, coarse, fine, targets, batch)
        confidences = slow_confidences(matrix, targets, batch)
        radius = self.matcher.window_radius_px
        terms = matching_losses(
            *(encoded, confidences, coarse, fine, targets, batch, self.config.LOSS, radius, self.reduce_count),
            nearest=slow_nearest_keypoint,
        )
        return self.with_teacher(terms, encoded, batch)


def slow_linear_attention(
    q: Tensor, k: Tensor, v: Tensor, q_mask: Tensor | None = None, kv_mask: Tensor | None = None
) -> Tensor:
    """Do what `linear_attention` does, as its formula reads."""
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = (full_precision(x).transpose(1, 2) for x in (q, k, v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        if q_mask is not None:
            q = q * q_mask[:, None, :, None]
        if kv_mask is not None:
            k = k * kv_mask[:, None, :, None]
        normaliser = (q * k.sum(2, keepdim=True)).sum(3, keepdim=True) + LINEAR_EPS
        return (q @ (k.transpose(2, 3) @ v) / normaliser).transpose(1, 2)


def slow_nearest_keypoint(places: Tensor, points: Tensor, view: View, radius: float) -> tuple[Tensor, Tensor]:
    """Do what `nearest_keypoint` does by the (N, L, S, 2) differences of all places and all keypoints."""
    difference = places[:, :, None] - points[:, None]
    distance = difference.square().sum(-1).sqrt()
    distance = distance.masked_fill(~valid_cells(view)[:, None], torch.inf)
    least, nearest = distance.min(2)
    found = least <= radius
    return nearest.where(found, 0), least.where(found, torch.inf)


def slow_confidences(matrix: Tensor, targets: Targets, batch: PairBatch) -> Confidences:
    """Read all true matches and all negatives, faint ones included, off the (N, L, S) confidence matrix by masks."""
    true = torch.zeros_like(matrix, dtype=torch.bool)
    true[targets.batch, targets.cell0, targets.cell1] = True
    known = targets.known0[:, :, None] | targets.known1[:, None]
    inside = valid_cells(batch.view0)[:, :, None] & valid_cells(batch.view1)[:, None]
    return Confidences(matrix[true], matrix[known & inside & ~true])


def slow_refine(matcher: S2LD, encoded: EncodedPair, matches: CoarseMatches) -> FineMatches:
    """Refine matches as `S2LD.refine` does, from windows of all cells of both images."""
    matching = matcher.local_dense
    assert isinstance(matching, LocalDenseMatching)
    batch, cell0, cell1 = matches.batch, matches.cell0, matches.cell1
    points0, points1 = encoded.keypoints0.points, encoded.keypoints1.points
    window0 = _all_windows(matching, encoded.features0.fine, points0)[batch, cell0]
    window1 = _all_windows(matching, encoded.features1.fine, points1)[batch, cell1]
    window0 = _with_context(matcher.fine_preprocess, window0, encoded.coarse0[batch, cell0])
    window1 = _with_context(matcher.fine_preprocess, window1, encoded.coarse1[batch, cell1])
    expectation = matching.decode(*matcher.s2ld_fine(window0, window1))
    refined1 = points1[batch, cell1] + matcher.window_radius_px * expectation[:, :2]
    score = encoded.keypoints0.score.flatten(1)[batch, cell0]
    return FineMatches(points0[batch, cell0], refined1, expectation, score)


def _with_context(preprocess: FinePreprocess, window: Tensor, coarse: Tensor) -> Tensor:
    """`FinePreprocess` on the context beside every token."""
    context = preprocess.down_proj(coarse)[:, None].expand(-1, window.shape[1], -1)
    tokens: Tensor = preprocess.merge_feat(torch.cat([window, context.to(window.dtype)], 2))
    return tokens


def _all_windows(matching: LocalDenseMatching, fine: Tensor, points: Tensor) -> Tensor:
    """Fine map (N, C, Hf, Wf) and keypoints (N, L, 2) → (N, L, W², C)."""
    pairs, cells = points.shape[:2]
    pair = torch.arange(pairs, device=points.device).repeat_interleave(cells)
    windows = matching.cut(fine, pair, points.flatten(0, 1))
    return windows.reshape(pairs, cells, *windows.shape[1:])
