"""Weighted, differentiable linear triangulation of matches (the DLT of Hartley & Zisserman, 12.2) in closed form.

Of a point X in camera 0 each view says two things, linear in X::

    view 0:   X - x0 Z = 0,   Y - y0 Z = 0                       (rows of weight 1)
    view 1:   (x1 p3 - p1)(X, 1) = 0,   (y1 p3 - p2)(X, 1) = 0   (rows of weight w; p1..p3 the rows of [R | t])

The weighted least-squares solution is usually taken from an SVD, whose gradient explodes where singular values meet.
Here the residuals u of view 0 are unknowns beside Z, ``X = Z (x0, y0, 1) + (u, 0)``, and the rows of view 1 become
``w (g Z + G u + h)``. Minimising ``|u|^2 + w^2 |g Z + G u + h|^2`` over u, then over Z, gives::

    S = (I + w^2 G G')^-1
    Z = -(g' S h) / (g' S g),     u = -w^2 G' S (g Z + h)

The determinant of ``I + w^2 G G'`` is at least 1, so the one quotient that can fail is that of Z: ``g`` is zero exactly
where the two rays are parallel. With w = 0 the formula gives the limit of small weights: the point of ray 0 that fits
view 1 best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.geometry.linalg import homogeneous, matvec

_SINE_FLOOR = 64.0
"""Rays whose angle has a sine below this many machine epsilons are parallel: their depth would be rounding noise."""


@dataclass(frozen=True)
class Triangulated:
    """Triangulated matches; rows that are not valid are finite, carry no gradient and mean nothing."""

    points: Tensor
    """(M, 3) in camera 0, unit of the translation."""
    depth0: Tensor
    """(M,) z in camera 0."""
    depth1: Tensor
    """(M,) z in camera 1."""
    parallax: Tensor
    """(M,) angle between the two rays, degrees, 0 to 180; carries no gradient."""
    valid: Tensor
    """(M,) bool: enough parallax, in front of both cameras."""


def triangulate(
    rays0: Tensor, rays1: Tensor, T_0to1: Tensor, weight1: Tensor, min_parallax: float = 0.0
) -> Triangulated:
    """Triangulate matches one by one, differentiable in rays, pose and weight.

    Exact for rays that meet, whatever the weights. A weight of 0 puts the point on ray 0 (see the top of this file): it
    has a depth like any other, with a gradient to both rays and none to the weight.

    Args:
        rays0: (M, 2) normalised coordinates in view 0.
        rays1: (M, 2) normalised coordinates in view 1.
        T_0to1: (M, 4, 4), or (4, 4) for all.
        weight1: (M,) factor of the two rows of view 1, relative to those of view 0: the match confidence.
        min_parallax: degrees; flatter triangles are not valid. Even at 0, rays that are parallel up to rounding, and
            rows with NaN or infinity, are not: they return the point (0, 0, 1).

    Returns:
        Points, depths and the validity mask; M may be 0.
    """
    R, t = T_0to1[..., :3, :3].expand(*rays0.shape[:-1], 3, 3), T_0to1[..., :3, 3].expand(*rays0.shape[:-1], 3)
    with torch.no_grad():
        sine, parallax = _ray_angle(rays0, rays1, R)
        finite = _solve(rays0, rays1, R, t, weight1).isfinite().all(-1)
        solvable = finite & (sine > _SINE_FLOOR * torch.finfo(rays0.dtype).eps)
    # a triangle that is known to be sound stands in for the others *before* any division
    row, matrix = solvable[..., None], solvable[..., None, None]
    identity = torch.eye(3, dtype=rays0.dtype, device=rays0.device)
    rays0 = torch.where(row, rays0, 0.0)
    rays1 = torch.where(row, rays1, identity[0, :2])
    R = torch.where(matrix, R, identity)
    t = torch.where(row, t, identity[0])
    points = _solve(rays0, rays1, R, t, torch.where(solvable, weight1, 1.0))
    depth1 = (R[..., 2, :] * points).sum(-1) + t[..., 2]
    valid = solvable & (points[..., 2] > 0) & (depth1 > 0) & (parallax >= min_parallax)
    points = torch.where(valid[..., None], points, points.detach())
    return Triangulated(points, points[..., 2], torch.where(valid, depth1, depth1.detach()), parallax, valid)


def _solve(rays0: Tensor, rays1: Tensor, R: Tensor, t: Tensor, weight1: Tensor) -> Tensor:
    """Return the points (M, 3), by the formula at the top of this file in its symbols."""
    M = rays1.unsqueeze(-1) * R[..., 2:, :] - R[..., :2, :]
    g, G, h = matvec(M, homogeneous(rays0)), M[..., :2], rays1 * t[..., 2:] - t[..., :2]
    square = weight1.square()
    S = _inverse_of_identity_plus(G, square)
    Sg = matvec(S, g)
    Z = (-(Sg * h).sum(-1) / (Sg * g).sum(-1)).unsqueeze(-1)
    u = -square.unsqueeze(-1) * matvec(G.transpose(-1, -2), matvec(S, g * Z + h))
    return torch.cat([rays0 * Z + u, Z], -1)


def _inverse_of_identity_plus(G: Tensor, square: Tensor) -> Tensor:
    """Return (I + square G G')^-1 of (M, 2, 2) matrices, its determinant summed without cancellation."""
    first, second = G[..., 0, :], G[..., 1, :]
    a, b, c = (square * (p * q).sum(-1) for p, q in ((first, first), (first, second), (second, second)))
    area = square * (first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0])
    determinant = 1 + a + c + area.square()
    adjugate = torch.stack([torch.stack([1 + c, -b], -1), torch.stack([-b, 1 + a], -1)], -2)
    return adjugate / determinant[..., None, None]


def _ray_angle(rays0: Tensor, rays1: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sine of the angle between the rays and the angle in degrees, each (M,); 0 for rays with NaN."""
    direction0 = torch.nn.functional.normalize(matvec(R, homogeneous(rays0)), dim=-1)
    direction1 = torch.nn.functional.normalize(homogeneous(rays1), dim=-1)
    sine = torch.linalg.vector_norm(torch.linalg.cross(direction0, direction1), dim=-1)
    angle = torch.rad2deg(torch.atan2(sine, (direction0 * direction1).sum(-1)))
    return sine.nan_to_num(), angle.nan_to_num()
