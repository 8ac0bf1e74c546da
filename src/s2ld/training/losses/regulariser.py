"""The 3D noise-aware regulariser: a match triangulated with its own confidence should agree with the depth map."""

from __future__ import annotations

import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.geometry.camera import normalise
from s2ld.geometry.linalg import full_precision
from s2ld.geometry.triangulation import triangulate
from s2ld.types import CoarseMatches, FineMatches, PairBatch


def regularise(coarse: CoarseMatches, fine: FineMatches, depth0: Tensor, batch: PairBatch, config: CN) -> Tensor:
    """Return the reversed Huber loss of the depth of each triangulated match that can tell, (P,) of the M matches.

    A match is triangulated by a DLT whose rows of view 1 are weighted by the match's confidence. True matches that
    were filled in (confidence 0) are certain and weigh 1. The residual is the relative depth error
    `d = (z - depth) / depth`, because the unit of a scene is arbitrary. A match enters where the depth is known, the
    triangle is valid (in front of both cameras, parallax above REGULARISER_MIN_PARALLAX) and `|d|` is below
    REGULARISER_MAX_ERROR: beyond that it is an outlier, whose gradient would say nothing of its noise. With the least
    parallax this bounds the gradient. The threshold c of the loss is REGULARISER_HUBER of the
    largest residual of the same pair.

    Gradients reach both keypoints' offsets, the fine stage's soft-argmax and the confidences of predicted matches.

    Args:
        coarse: M chosen matches.
        fine: their points in resized px.
        depth0: (M,) depth in view 0 at `fine.points0`, 0 unknown.
        batch: intrinsics and relative pose.
        config: the LOSS node.
    """
    pair = coarse.batch
    weight = full_precision(coarse.confidence)
    rays0 = normalise(full_precision(fine.points0), batch.view0.K[pair])
    rays1 = normalise(full_precision(fine.points1), batch.view1.K[pair])
    weight = weight.where(weight > 0, 1.0)
    triangulated = triangulate(rays0, rays1, batch.T_0to1[pair], weight, config.REGULARISER_MIN_PARALLAX)
    z = triangulated.depth0
    near = (z.detach() - depth0).abs() < config.REGULARISER_MAX_ERROR * depth0
    used = triangulated.valid & near & (depth0 > 0)
    residual, pair = (z[used] - depth0[used]) / depth0[used], pair[used]
    size = residual.detach().abs()
    largest = size.new_zeros(batch.size).scatter_reduce(0, pair, size, "amax")
    return reversed_huber(residual, config.REGULARISER_HUBER * largest[pair])


def reversed_huber(residual: Tensor, threshold: Tensor) -> Tensor:
    """Return |d| up to the threshold c and (d² + c²) / (2 c) above, elementwise; c = 0 is safe where d is 0 too.

    Continuous and once differentiable at c (Owen 2007, "berHu").
    """
    c = threshold.clamp(min=torch.finfo(residual.dtype).tiny)
    size = residual.abs()
    return torch.where(size <= c, size, (residual.square() + c.square()) / (2 * c))
