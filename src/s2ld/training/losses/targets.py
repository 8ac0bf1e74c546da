"""What the network should have said: warped keypoints, true matches and the matches that train the fine stage.

The network never sees depth. Everything here is computed beside it, under no_grad, from its keypoints and what the
batch knows of depth, intrinsics and relative pose. All pixels are resized px: intrinsics and depth of a view belong to
the resized image, so that the scale to the original photograph drops out of the published formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.geometry.linalg import full_precision
from s2ld.geometry.pose import invert_pose
from s2ld.geometry.warp import warp_by_depth
from s2ld.models.detector import CELL
from s2ld.types import CoarseMatches, EncodedPair, PairBatch, Targets, View


def valid_cells(view: View) -> Tensor:
    """Return which cells lie in the image and not in the padding, (N, h*w) bool."""
    if view.images.mask is not None:
        return view.images.mask.flatten(1)
    pairs, _, height, width = view.images.image.shape
    cells = (height // CELL) * (width // CELL)
    return torch.ones(pairs, cells, dtype=torch.bool, device=view.images.image.device)


def nearest_keypoint(places: Tensor, points: Tensor, view: View, radius: float) -> tuple[Tensor, Tensor]:
    """Find the nearest keypoint of `view` to each place, looking only into the cells that can hold it.

    A keypoint lies near its cell's corner, so that all keypoints within `radius` of a place belong to the cells of a
    small square around it: O(L) instead of O(L S) distances.

    Args:
        places: (N, L, 2) resized px of `view`.
        points: (N, S, 2) resized px, the keypoints of `view`, one a cell; those of padded cells are skipped.
        view: the view that `points` belong to.
        radius: resized px, farther keypoints are not found.

    Returns:
        (N, L) int64 cell of the nearest keypoint (0 where there is none) and (N, L) its distance in resized px
        (infinite where none lies within `radius`).
    """
    height, width = (side // CELL for side in view.images.image.shape[-2:])
    column = torch.arange(width, device=points.device)
    row = torch.arange(height, device=points.device)
    anchors = CELL * torch.stack(torch.meshgrid(column, row, indexing="xy"), dim=-1).reshape(-1, 2)
    # NaN, of a step that diverged, must reach the loss, where a gradient scaler skips it
    reach = radius + float((points - anchors).abs().nan_to_num(0.0, 0.0).max())
    side = ceil(2 * reach / CELL) + 1

    limits = torch.tensor([width, height], device=places.device)
    first = ((places - reach) / CELL).floor().clamp(min=-side).minimum(limits).long()
    step = torch.arange(side, device=places.device)
    columns = (first[..., 0, None, None] + step).expand(-1, -1, side, -1)
    rows = (first[..., 1, None, None] + step[:, None]).expand(-1, -1, -1, side)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    cells = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).flatten(2)

    pair = torch.arange(len(places), device=places.device)[:, None, None]
    squared = (places[:, :, None] - points[pair, cells]).square().sum(-1)
    squared = squared.masked_fill(~(inside.flatten(2) & valid_cells(view)[pair, cells]), torch.inf)
    least, which = squared.min(-1)
    distance = least.sqrt()
    found = distance <= radius
    nearest = cells.gather(-1, which[..., None]).squeeze(-1)
    return nearest.where(found, 0), distance.where(found, torch.inf)


NearestKeypoint = Callable[[Tensor, Tensor, View, float], tuple[Tensor, Tensor]]


@torch.no_grad()
def build_targets(
    encoded: EncodedPair, batch: PairBatch, config: CN, nearest: NearestKeypoint = nearest_keypoint
) -> Targets:
    """Warp the keypoints of both images into the other one and find the true coarse matches.

    A keypoint is valid where `warp_by_depth` says so and the way there and back, by the depth of both views, returns
    within CYCLE_RADIUS (not asked where the depth of the other view is unknown). A true match is a pair of cells, each
    holding the nearest keypoint, within COARSE_RADIUS, to the other's warped keypoint: a cell has one partner at most.
    Cells in the padding are neither valid nor known.

    Args:
        encoded: its keypoints, detached here.
        batch: intrinsics, depth (0 or None: unknown) and relative pose.
        config: the TARGETS node.
        nearest: the search; another one for the slow reference.
    """
    points0 = full_precision(encoded.keypoints0.points)
    points1 = full_precision(encoded.keypoints1.points)
    T_1to0 = invert_pose(batch.T_0to1)
    warped0, valid0, known0 = _warp_and_return(points0, batch.view0, batch.view1, batch.T_0to1, T_1to0, config)
    warped1, valid1, known1 = _warp_and_return(points1, batch.view1, batch.view0, T_1to0, batch.T_0to1, config)

    cell1, distance0 = nearest(warped0, points1, batch.view1, config.COARSE_RADIUS)
    cell0, distance1 = nearest(warped1, points0, batch.view0, config.COARSE_RADIUS)
    found0 = valid0 & distance0.isfinite()
    found1 = valid1 & distance1.isfinite()
    itself = torch.arange(points0.shape[1], device=points0.device)
    mutual = found0 & found1.gather(1, cell1) & (cell0.gather(1, cell1) == itself)
    pair, matched0 = mutual.nonzero(as_tuple=True)
    return Targets(
        warped0, valid0, known0, warped1, valid1, known1, pair, matched0, cell1[pair, matched0]
    )  # fmt: skip


def select_fine(
    coarse: CoarseMatches, targets: Targets, batch: PairBatch, config: CN, generator: torch.Generator
) -> CoarseMatches:
    """Choose the matches that train the fine stage: predicted ones, filled up with true ones.

    There are at most FINE_FRACTION of the valid cells (of the image with fewer of them); of these FINE_MIN_TRUE, as far
    as there are so many, are kept for true matches, which have confidence 0 and so enter no metric. A random part is
    taken of what is too much; a true match that is chosen as a predicted one is not filled in again. Nothing is made
    up: without predicted and true matches the result is empty.

    Args:
        coarse: predicted matches; their confidence stays differentiable.
        targets: of the same batch.
        batch: tells the valid cells.
        config: the TARGETS node.
        generator: source of the random choice, on any device.
    """
    cells = torch.minimum(valid_cells(batch.view0).sum(1), valid_cells(batch.view1).sum(1)).sum()
    budget = int(config.FINE_FRACTION * int(cells))
    reserved = min(config.FINE_MIN_TRUE, len(targets.batch), budget)
    predicted = _random_part(len(coarse), budget - reserved, generator, coarse.batch.device)
    chosen = [index[predicted] for index in (coarse.batch, coarse.cell0, coarse.cell1)]

    truth = [targets.batch, targets.cell0, targets.cell1]
    repeated = torch.isin(_match_number(truth, targets), _match_number(chosen, targets))
    missing = (~repeated).nonzero().squeeze(1)
    filled = missing[_random_part(len(missing), budget - len(predicted), generator, missing.device)]
    batch_index, cell0, cell1 = (torch.cat([c, t[filled]]) for c, t in zip(chosen, truth, strict=True))
    confidence = torch.cat([coarse.confidence[predicted], coarse.confidence.new_zeros(len(filled))])
    return CoarseMatches(batch_index, cell0, cell1, confidence)


def _warp_and_return(
    points: Tensor, view: View, other: View, there: Tensor, back: Tensor, config: CN
) -> tuple[Tensor, Tensor, Tensor]:
    """Return warped points, valid and known of `view`'s keypoints; `there` and `back` are the relative poses."""
    warped = warp_by_depth(points, view, other, there, config.DEPTH_TOLERANCE)
    returned = warp_by_depth(warped.points, other, view, back, config.DEPTH_TOLERANCE)
    cycle = torch.linalg.vector_norm(returned.points - points, dim=-1)
    own = valid_cells(view)
    valid = warped.valid & own & (~returned.known | (cycle <= config.CYCLE_RADIUS))
    return warped.points, valid, warped.known & own


def _random_part(count: int, at_most: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Return ascending indices below `count`: all of them, or a random part where that is more than `at_most`."""
    if count <= at_most:
        return torch.arange(count, device=device)
    order = torch.randperm(count, generator=generator, device=generator.device)
    return order[:at_most].sort().values.to(device)


def _match_number(index: list[Tensor], targets: Targets) -> Tensor:
    """Return a number for each match (pair, cell0, cell1) that no other match of the batch has."""
    batch, cell0, cell1 = index
    return (batch * targets.valid0.shape[1] + cell0) * targets.valid1.shape[1] + cell1
