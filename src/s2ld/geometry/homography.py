"""Homographies: of a plane seen by two cameras, applied to points, and compared by their corners."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s2ld.geometry.camera import OUTSIDE_PX, inverse_intrinsics
from s2ld.geometry.linalg import homogeneous, matmat, matvec, per_point


def plane_homography(K0: Tensor, K1: Tensor, T_0to1: Tensor, normal: Tensor, distance: Tensor) -> Tensor:
    """Return H = K1 (R + t n' / d) K0^-1, which takes pixels of view 0 to view 1 for points of a plane.

    Source: Hartley & Zisserman, section 13.1, with the plane written as n.X = d (hence the plus).

    Args:
        K0: (..., 3, 3) intrinsics of view 0.
        K1: (..., 3, 3) intrinsics of view 1.
        T_0to1: (..., 4, 4).
        normal: (..., 3) n in camera 0, any length.
        distance: (...) d, in the unit of the translation; not 0 (the plane would pass through camera 0).

    Returns:
        (..., 3, 3), H[2, 2] not normalised.
    """
    offset = T_0to1[..., :3, 3:] * (normal / distance.unsqueeze(-1)).unsqueeze(-2)
    return matmat(K1, matmat(T_0to1[..., :3, :3] + offset, inverse_intrinsics(K0)))


def apply_homography(H: Tensor, points: Tensor) -> Tensor:
    """Map points (..., P, 2) px by H (..., 3, 3), or one a point, of any scale.

    Points on the line that goes to infinity get `OUTSIDE_PX` in both coordinates and no gradient.
    """
    mapped = matvec(per_point(H, points), homogeneous(points))
    w = mapped[..., 2]
    usable = (w.abs() > torch.finfo(w.dtype).eps * mapped[..., :2].abs().amax(-1)).unsqueeze(-1)
    safe = torch.where(usable, mapped, 1.0)
    return torch.where(usable, safe[..., :2] / safe[..., 2:], OUTSIDE_PX)


def corner_error(H_estimated: Tensor, H_true: Tensor, width: int, height: int) -> Tensor:
    """Return the mean distance (...) in px between the four image corners as mapped by two homographies (..., 3, 3).

    The corners are the centres of the corner pixels of image 0, `width` x `height` px; distances are in px of image 1.
    An estimate with NaN or infinity has an infinite error.
    """
    difference = _mapped_corners(H_estimated, width, height) - _mapped_corners(H_true, width, height)
    error = torch.linalg.vector_norm(difference, dim=-1).mean(-1)
    return torch.where(H_estimated.isfinite().all(-1).all(-1), error, math.inf)


def _mapped_corners(H: Tensor, width: int, height: int) -> Tensor:
    right, bottom = width - 1.0, height - 1.0
    corners = H.new_tensor([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])
    return apply_homography(H, corners.expand(*H.shape[:-2], 4, 2))
