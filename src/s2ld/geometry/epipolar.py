"""Epipolar geometry of two calibrated views (Hartley & Zisserman, Multiple View Geometry, chapters 9 and 11)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from s2ld.geometry.camera import normalise
from s2ld.geometry.linalg import homogeneous, matmat, matvec, per_point


def skew(t: Tensor) -> Tensor:
    """Return the (..., 3, 3) matrix whose product with a vector is the cross product with t (..., 3)."""
    x, y, z = t.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def essential(T_0to1: Tensor) -> Tensor:
    """Return E = [t]x R (..., 3, 3) of poses (..., 4, 4): ``r1' E r0 = 0`` for the rays of one point."""
    return matmat(skew(T_0to1[..., :3, 3]), T_0to1[..., :3, :3])


def symmetric_epipolar_distance(points0: Tensor, points1: Tensor, E: Tensor, K0: Tensor, K1: Tensor) -> Tensor:
    """Return the squared distances of both points from each other's epipolar lines, summed (H&Z, equation 11.10).

    Args:
        points0: (..., P, 2) px.
        points1: (..., P, 2) px.
        E: (..., 3, 3) or one a match, any scale.
        K0: (..., 3, 3) or one a match, in the px of `points0`.
        K1: the same for `points1`.

    Returns:
        (..., P) in squared normalised coordinates (focal length 1). A point at the epipole lies on every line: its term
        is 0. Where E is zero (no baseline) there are no lines and the distance is infinite: no match counts as right.
    """
    E = per_point(E, points0)
    size = torch.linalg.matrix_norm(E)
    exists = size > 0
    E = E / torch.where(exists, size, 1.0)[..., None, None]
    rays0, rays1 = homogeneous(normalise(points0, K0)), homogeneous(normalise(points1, K1))
    line1, line0 = matvec(E, rays0), matvec(E.transpose(-1, -2), rays1)
    residual = (rays1 * line1).sum(-1).square()
    distance = _over_square(residual, line1) + _over_square(residual, line0)
    return torch.where(exists, distance, math.inf)


def _over_square(residual: Tensor, line: Tensor) -> Tensor:
    square = line[..., :2].square().sum(-1)
    usable = square > torch.finfo(square.dtype).eps ** 2
    # replaced before the division: the gradient of an unused quotient would be NaN otherwise
    return torch.where(usable, residual, 0.0) / torch.where(usable, square, 1.0)
