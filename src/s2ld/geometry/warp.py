"""Warping points from one view into the other by depth, intrinsics and relative pose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.geometry.camera import OUTSIDE_PX, project, unproject
from s2ld.geometry.pose import transform
from s2ld.types import View


@dataclass(frozen=True)
class Warped:
    """Points of view 0 as seen from view 1."""

    points: Tensor
    """(N, P, 2) resized px of view 1; `OUTSIDE_PX` where the depth is unknown or the point is not in front."""
    z: Tensor
    """(N, P) z in camera 1, unit of the depth; 0 where the depth is unknown."""
    known: Tensor
    """(N, P) bool, the depth of view 0 is known at the point."""
    valid: Tensor
    """(N, P) bool, known, in front of camera 1, inside image 1 and not hidden there."""


def sample_depth(depth: Tensor, points: Tensor) -> Tensor:
    """Look up a depth map at the nearest pixel.

    Args:
        depth: (N, H, W), 0 (or NaN, infinite, negative) where unknown.
        points: (N, P, 2) px of the map. They take no gradient: the lookup is piecewise constant.

    Returns:
        (N, P) depth; 0 where it is unknown or the point is out of bounds or not finite.
    """
    column, row, inside = _nearest_pixel(points, depth.shape[-1], depth.shape[-2])
    batch = torch.arange(depth.shape[0], device=depth.device).unsqueeze(-1)
    found = depth[batch, row, column]
    usable = inside & found.isfinite() & (found > 0)
    return torch.where(usable, found, 0.0)


def inside_view(points: Tensor, view: View) -> Tensor:
    """Tell which points (N, P, 2) in resized px have their nearest pixel in the image of `view`: (N, P) bool.

    The padding is not in the image: where the view has a mask of cells, the cell must be valid too.
    """
    height, width = view.images.image.shape[-2:]
    column, row, inside = _nearest_pixel(points, width, height)
    mask = view.images.mask
    if mask is None:
        return inside
    batch = torch.arange(mask.shape[0], device=mask.device).unsqueeze(-1)
    return inside & mask[batch, row // (height // mask.shape[-2]), column // (width // mask.shape[-1])]


def warp_by_depth(points0: Tensor, view0: View, view1: View, T_0to1: Tensor, tolerance: float) -> Warped:
    """Warp points of view 0 into view 1, differentiable with respect to the points (the depth is a constant).

    Args:
        points0: (N, P, 2) resized px of view 0.
        view0: with depth and intrinsics; without depth nothing is known.
        view1: where it has depth at the warped point, that must agree; unknown depth counts as visible.
        T_0to1: (N, 4, 4).
        tolerance: largest difference of z in camera 1 and the depth of view 1, as a share of the latter.

    Returns:
        Points, z and masks; points that are not `known` carry no gradient.
    """
    if view0.depth is None:
        depth0 = points0.new_zeros(points0.shape[:-1])
    else:
        depth0 = sample_depth(view0.depth, points0).to(points0.dtype)
    known = depth0 > 0
    # a stand-in for unknown points keeps NaN coordinates and zero depth out of the graph
    start = torch.where(known.unsqueeze(-1), points0, 0.0)
    X1 = transform(T_0to1, unproject(start, torch.where(known, depth0, 1.0), view0.K))
    points, z = project(X1, view1.K)
    points = torch.where(known.unsqueeze(-1), points, OUTSIDE_PX)
    z = torch.where(known, z, 0.0)
    valid = known & (z > 0) & inside_view(points, view1)
    if view1.depth is not None:
        depth1 = sample_depth(view1.depth, points)
        valid = valid & ((depth1 == 0) | ((z - depth1).abs() <= tolerance * depth1))
    return Warped(points, z, known, valid)


def _nearest_pixel(points: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return column and row (int64, 0 where outside) of the nearest pixel, and whether there is one."""
    nearest = torch.floor(points.detach() + 0.5)
    x, y = nearest[..., 0], nearest[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)  # false for NaN
    return torch.where(inside, x, 0.0).long(), torch.where(inside, y, 0.0).long(), inside
