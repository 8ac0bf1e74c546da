"""The losses: what a prediction costs, given the targets.

Every term is a sum over a set divided by the size of the set; over an empty set it is 0 and still hangs on the graph,
so that a process without a single true match takes part in DDP's reduction. The divisor goes through `reduce_count`,
the mean over the ranks, and DDP averages gradients: together that is the gradient of the loss of the pooled batch.
The divisors are reduced in a fixed order and number, whatever a rank's batch holds, and so never hang.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from s2ld.config import CN
from s2ld.geometry.camera import project, unproject
from s2ld.geometry.linalg import full_precision
from s2ld.geometry.pose import invert_pose, transform
from s2ld.geometry.warp import sample_depth
from s2ld.models.detector import CELL
from s2ld.training.losses.confidences import Confidences, has_negatives
from s2ld.training.losses.corners import corner_loss
from s2ld.training.losses.correlation import correlation_losses, verification_loss
from s2ld.training.losses.regulariser import regularise
from s2ld.training.losses.targets import NearestKeypoint, nearest_keypoint, valid_cells
from s2ld.types import CoarseMatches, EncodedPair, FineMatches, Keypoints, LossTerms, PairBatch, Targets, View

ReduceCount = Callable[[Tensor], Tensor]

_CLAMP = 1e-6  # of a confidence and of its complement, before the logarithm
_LEAST_STD = 1e-3  # of the window's half side: below it a match does not gain weight
_LEAST_SQUARED_DISTANCE = 1e-12  # px²: the square root has no gradient at 0
_LEAST_COUNT = 1e-6  # far below one match in thousands of ranks


def matching_losses(
    encoded: EncodedPair,
    confidences: Confidences,
    coarse: CoarseMatches,
    fine: FineMatches,
    targets: Targets,
    batch: PairBatch,
    config: CN,
    window_radius_px: float,
    reduce_count: ReduceCount,
    nearest: NearestKeypoint = nearest_keypoint,
) -> LossTerms:
    """Return all loss terms of the matcher and their sum, weighted by the LOSS node; float32 also under autocast.

    Args:
        encoded: keypoints and scores of both images.
        confidences: what is asked of the confidence matrix of the sparse stage.
        coarse: the M matches that trained the fine stage (`select_fine`).
        fine: their fine matches.
        targets: of the same batch.
        batch: masks, depth, intrinsics, relative pose.
        config: the LOSS node.
        window_radius_px: resized px of half a fine window, the unit of the expectation.
        reduce_count: local count -> mean over the DDP ranks (the identity in one process).
        nearest: the search for neighbours; another one for the slow reference.
    """
    with torch.autocast(targets.warped0.device.type, enabled=False):
        coarse_term = coarse_loss(confidences, targets, batch, config, reduce_count)
        heatmap = verification = zero = torch.zeros_like(coarse_term)
        if fine.correlation is None:
            fine_term = fine_loss(coarse, fine, encoded.keypoints1, targets, window_radius_px, reduce_count)
        else:
            points, heatmaps = correlation_losses(coarse, fine, targets, window_radius_px)
            fine_term, heatmap = _mean(points, reduce_count), _mean(heatmaps, reduce_count)
            verification = _mean(verification_loss(coarse, fine, targets, config), reduce_count)
        location, repeatability, score = _keypoint_terms(encoded, targets, batch, config, reduce_count, nearest)
        depth0 = _depth_at(batch.view0, full_precision(encoded.keypoints0.points))[coarse.batch, coarse.cell0]
        regulariser = regularise(coarse, fine, depth0, batch, config)
        terms = LossTerms(
            total=zero,
            coarse=coarse_term,
            fine=fine_term,
            heatmap=heatmap,
            verification=verification,
            keypoint=location,
            corner=_corner_term(encoded, batch, reduce_count),
            repeatability=repeatability,
            score=score,
            regulariser=_mean(regulariser, reduce_count),
            consensus=zero,
            teacher=zero,
        )
    return _with_total(terms, config)


def detector_losses(
    encoded: EncodedPair, targets: Targets, batch: PairBatch, config: CN, reduce_count: ReduceCount
) -> LossTerms:
    """Return the terms that train the detector alone: location, repeatability, score; the others are 0.

    Arguments are those of `matching_losses`.
    """
    with torch.autocast(targets.warped0.device.type, enabled=False):
        location, repeatability, score = _keypoint_terms(
            encoded, targets, batch, config, reduce_count, nearest_keypoint
        )
        corner = _corner_term(encoded, batch, reduce_count)
    zero = torch.zeros_like(location)
    terms = LossTerms(zero, zero, zero, zero, zero, location, corner, repeatability, score, zero, zero, zero)
    return _with_total(terms, config)


def with_teacher(terms: LossTerms, losses: Tensor, weight: float, reduce_count: ReduceCount) -> LossTerms:
    """Add the mean over ranks of the teacher's losses (K,) (`s2ld.training.losses.teacher`), to the total by weight.

    Each rank's points are told apart from its own only: the mean is that of the ranks, not of the pooled batch.
    """
    teacher = _mean(losses, reduce_count)
    return replace(terms, teacher=teacher, total=terms.total + weight * teacher)


def coarse_loss(
    confidences: Confidences, targets: Targets, batch: PairBatch, config: CN, reduce_count: ReduceCount
) -> Tensor:
    """Return the focal loss of the confidence matrix, a scalar; the arguments are `matching_losses`'s.

    `-a (1 - p)^g log p` averaged over the true matches, plus `-a p^g log(1 - p)` averaged over the negatives where
    COARSE_NEGATIVES asks for them. A negative is any other pair of unpadded cells of which one at least has known
    depth: of two cells of unknown depth nobody knows whether they match. There are a thousand times as many negatives
    as true matches, and their mean is next to nothing; HARD_NEGATIVE_WEIGHT adds their sum divided by the number of
    keypoints with known depth.
    """
    alpha, gamma = config.FOCAL_ALPHA, config.FOCAL_GAMMA
    true = full_precision(confidences.true)
    # the clamp is for the logarithm alone: a true match below it is the one that needs the gradient most
    true = true + (true.clamp(_CLAMP, 1 - _CLAMP) - true).detach()
    positives = alpha * (1 - true).pow(gamma) * -true.log()
    loss = _mean(positives, reduce_count)
    if not has_negatives(config):
        return loss
    p = full_precision(confidences.negative).clamp(max=1 - _CLAMP)
    total = (alpha * p.pow(gamma) * -torch.log1p(-p)).sum()
    if config.COARSE_NEGATIVES:
        loss = loss + ratio(total, _count_negatives(targets, batch).to(total.dtype), reduce_count)
    if config.HARD_NEGATIVE_WEIGHT:
        hard = ratio(total, targets.known0.sum().to(total.dtype), reduce_count)
        loss = loss + config.HARD_NEGATIVE_WEIGHT * hard
    return loss


def _count_negatives(targets: Targets, batch: PairBatch) -> Tensor:
    """Return the number of negatives of the batch: pairs of valid cells but those of two unknown ones, and matches."""
    valid0, valid1 = valid_cells(batch.view0), valid_cells(batch.view1)
    pairs = valid0.sum(1) * valid1.sum(1)
    unknown = (valid0 & ~targets.known0).sum(1) * (valid1 & ~targets.known1).sum(1)
    return (pairs - unknown).sum() - len(targets.batch)


def fine_loss(
    coarse: CoarseMatches,
    fine: FineMatches,
    keypoints1: Keypoints,
    targets: Targets,
    window_radius_px: float,
    reduce_count: ReduceCount,
) -> Tensor:
    """Return the squared error of the expectation, weighted by its inverse standard deviation, a scalar.

    The truth is `(warped keypoint 0 - keypoint 1) / window_radius_px`, supervised where the warp is valid and the
    truth's max-norm is below 1. Keypoint 1 is detached here: the fine stage follows the detector, not the reverse. The
    weights are detached and divided by their mean, so that a wide distribution does not lower the loss.
    """
    points1 = full_precision(keypoints1.points).detach()[coarse.batch, coarse.cell1]
    truth = (targets.warped0[coarse.batch, coarse.cell0] - points1) / window_radius_px
    supervised = targets.valid0[coarse.batch, coarse.cell0] & (truth.abs().amax(-1) < 1)
    expectation = full_precision(fine.expectation)[supervised]
    error = (expectation[:, :2] - truth[supervised]).square().sum(-1)
    weight = 1 / expectation[:, 2].detach().clamp(min=_LEAST_STD)
    return ratio((weight * error).sum(), weight.sum(), reduce_count)


def score_loss(keypoints0: Keypoints, keypoints1: Keypoints, targets: Targets, batch: PairBatch) -> Tensor:
    """Return twice the squared difference of score 0 and score 1 at the warped place, (P,) for the P valid keypoints.

    Score map 1 is sampled bilinearly; its value (row, col) sits at resized px (8 col, 8 row). Beyond the last unpadded
    cell its value is carried on, as at the border of an unpadded image.
    """
    score1 = full_precision(keypoints1.score)
    height, width = score1.shape[-2:]
    mask = valid_cells(batch.view1).reshape(-1, height, width)
    last = torch.stack([mask.any(1).sum(1), mask.any(2).sum(1)], -1)[:, None] - 1
    place = (targets.warped0 / CELL).clamp(min=0).minimum(last)
    size = torch.tensor([width, height], device=place.device).sub(1).clamp(min=1)
    grid = (2 * place / size - 1)[:, None].to(score1.dtype)
    sampled = F.grid_sample(score1, grid, mode="bilinear", padding_mode="border", align_corners=True).flatten(1)
    difference = full_precision(keypoints0.score).flatten(1) - sampled
    return 2 * difference[targets.valid0].square()


def _keypoint_terms(
    encoded: EncodedPair,
    targets: Targets,
    batch: PairBatch,
    config: CN,
    reduce_count: ReduceCount,
    nearest: NearestKeypoint,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return location, repeatability and score consistency; the first two over both directions together."""
    first, second = encoded.keypoints0, encoded.keypoints1
    T_0to1, T_1to0 = batch.T_0to1, invert_pose(batch.T_0to1)
    search = partial(_neighbours, radius=config.KEYPOINT_RADIUS, search=nearest)
    there = search(first, second, targets.warped0, targets.valid0, batch.view0, batch.view1, T_0to1)
    back = search(second, first, targets.warped1, targets.valid1, batch.view1, batch.view0, T_1to0)
    distance, score = (torch.cat(values) for values in zip(there, back, strict=True))
    location = _mean(distance, reduce_count)
    # of all ranks, not of this one
    count = distance.new_tensor(float(len(distance)))
    mean = ratio(reduce_count(distance.detach().sum()), count, reduce_count)
    repeatability = _mean(score * (distance.detach() - mean), reduce_count)
    consistency = score_loss(first, second, targets, batch)
    return location, repeatability, _mean(consistency, reduce_count)


def _neighbours(
    keypoints: Keypoints,
    others: Keypoints,
    warped: Tensor,
    valid: Tensor,
    view: View,
    other: View,
    pose: Tensor,
    radius: float,
    search: NearestKeypoint,
) -> tuple[Tensor, Tensor]:
    """Return distance in px and sum of scores, (P,) each, of valid keypoints and the nearest of the other image.

    Which one is nearest, and the depth, are constants; both keypoints' positions are differentiable.
    """
    points, other_points = full_precision(keypoints.points), full_precision(others.points)
    nearest, distance = search(warped, other_points.detach(), other, radius)
    pair, cell = (valid & (distance < radius)).nonzero(as_tuple=True)
    partner = nearest[pair, cell]
    depth = _depth_at(view, points)[pair, cell]
    in_space = transform(pose[pair], unproject(points[pair, cell][:, None], depth[:, None], view.K[pair]))
    place = project(in_space, other.K[pair])[0].squeeze(1)
    squared = (place - other_points[pair, partner]).square().sum(-1)
    score = full_precision(keypoints.score).flatten(1)[pair, cell]
    other_score = full_precision(others.score).flatten(1)[pair, partner]
    return squared.clamp(min=_LEAST_SQUARED_DISTANCE).sqrt(), score + other_score


def _depth_at(view: View, points: Tensor) -> Tensor:
    """Return the depth at (N, P, 2) points, (N, P), detached; 0 where it is unknown."""
    if view.depth is None:
        return points.new_zeros(points.shape[:-1])
    return sample_depth(view.depth, points.detach())


def _mean(values: Tensor, reduce_count: ReduceCount) -> Tensor:
    """Return this rank's share of the mean of `values` (P,) over all ranks; 0 over an empty set."""
    return ratio(values.sum(), values.new_tensor(float(len(values))), reduce_count)


def ratio(total: Tensor, size: Tensor, reduce_count: ReduceCount) -> Tensor:
    """Return a local sum over the ranks' mean of its local `size` (a count or a sum of weights, without gradient)."""
    return total / reduce_count(size).clamp(min=_LEAST_COUNT)


def _corner_term(encoded: EncodedPair, batch: PairBatch, reduce_count: ReduceCount) -> Tensor:
    """Return the corner loss of both images together; 0 for a detector that has no heatmap."""
    if encoded.keypoints0.logits is None or encoded.keypoints1.logits is None:
        return encoded.keypoints0.score.new_zeros(())
    sides = (corner_loss(encoded.keypoints0, batch.view0), corner_loss(encoded.keypoints1, batch.view1))
    return _mean(torch.cat(sides), reduce_count)


def _with_total(terms: LossTerms, config: CN) -> LossTerms:
    weighed = (
        config.COARSE_WEIGHT * terms.coarse,
        config.FINE_WEIGHT * terms.fine,
        config.HEATMAP_WEIGHT * terms.heatmap,
        config.VERIFICATION_WEIGHT * terms.verification,
        config.KEYPOINT_WEIGHT * terms.keypoint,
        config.CORNER_WEIGHT * terms.corner,
        config.REPEATABILITY_WEIGHT * terms.repeatability,
        config.SCORE_WEIGHT * terms.score,
        config.REGULARISER_WEIGHT * terms.regulariser,
        config.CONSENSUS_WEIGHT * terms.consensus,
    )
    return replace(terms, total=torch.stack(weighed).sum())
