"""The pinhole camera, and what resizing an image does to points and intrinsics.

Intrinsics K are upper triangular with K[2, 2] = 1, skew allowed, pixel centres at integers.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from s2ld.errors import S2LDError
from s2ld.geometry.linalg import homogeneous, matmat, matvec, per_point

PixelFrame = Literal["edge", "lineage"]

OUTSIDE_PX = -1.0e6
"""Coordinate given to points that have no image: finite, and so far out that a forgotten mask cannot hit a pixel."""


def inverse_intrinsics(K: Tensor) -> Tensor:
    """Return the inverse (..., 3, 3) of upper triangular intrinsics (..., 3, 3), in closed form."""
    fx, skew, cx, fy, cy = K[..., 0, 0], K[..., 0, 1], K[..., 0, 2], K[..., 1, 1], K[..., 1, 2]
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    top = torch.stack([1 / fx, -skew / (fx * fy), (skew * cy - cx * fy) / (fx * fy)], -1)
    middle = torch.stack([zero, 1 / fy, -cy / fy], -1)
    return torch.stack([top, middle, torch.stack([zero, zero, one], -1)], -2)


def normalise(points: Tensor, K: Tensor) -> Tensor:
    """Return the rays (x / z, y / z), focal length 1, of pixels.

    Args:
        points: (..., P, 2) px, of the image that `K` belongs to.
        K: (..., 3, 3) or one a point.

    Returns:
        (..., P, 2) normalised coordinates.
    """
    return matvec(inverse_intrinsics(per_point(K, points))[..., :2, :], homogeneous(points))


def unproject(points: Tensor, depth: Tensor, K: Tensor) -> Tensor:
    """Return the camera-frame points seen at `points` in the given z.

    Args:
        points: (..., P, 2) px.
        depth: (..., P) z in the camera frame, any unit.
        K: (..., 3, 3) or one a point.

    Returns:
        (..., P, 3) in the unit of the depth.
    """
    return homogeneous(normalise(points, K)) * depth.unsqueeze(-1)


def project(X: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Project camera-frame points.

    Args:
        X: (..., P, 3), any unit.
        K: (..., 3, 3) or one a point.

    Returns:
        points (..., P, 2) px and z (..., P). Points that are not in front of the camera (z not above machine epsilon
        times their distance from the axis) get `OUTSIDE_PX` in both coordinates and no gradient: test z.
    """
    z = X[..., 2]
    # relative to the distance from the axis, so that the guard knows no unit and the quotient is bounded
    front = (z > torch.finfo(X.dtype).eps * X[..., :2].abs().amax(-1)).unsqueeze(-1)
    safe = torch.where(front, X, 1.0)
    points = matvec(per_point(K, X)[..., :2, :], homogeneous(safe[..., :2] / safe[..., 2:]))
    return torch.where(front, points, OUTSIDE_PX), z


def rescale_intrinsics(K: Tensor, scale: Tensor) -> Tensor:
    """Return the intrinsics of the resized image from those of the image, pixel edges aligned.

    Args:
        K: (..., 3, 3) in image px.
        scale: (..., 2) image px per resized px, (x, y).

    Returns:
        (..., 3, 3) in resized px: inverse of ``p_image = (p_resized + 1/2) scale - 1/2``.
    """
    zero, one = torch.zeros_like(scale[..., 0]), torch.ones_like(scale[..., 0])
    sx, sy = scale[..., 0], scale[..., 1]
    rows = [[1 / sx, zero, 0.5 / sx - 0.5], [zero, 1 / sy, 0.5 / sy - 0.5], [zero, zero, one]]
    resize = torch.stack([torch.stack(row, -1) for row in rows], -2)
    return matmat(resize, K)


def resized_to_image(points: Tensor, scale: Tensor, frame: PixelFrame = "edge") -> Tensor:
    """Take points from resized px to image px.

    Args:
        points: (..., P, 2) resized px.
        scale: (..., 2) image px per resized px, or (..., P, 2), one a point.
        frame: "edge" is right, ``(p + 1/2) scale - 1/2``; "lineage" is what the published numbers use, ``p scale``.

    Returns:
        (..., P, 2) image px.

    Raises:
        S2LDError: another frame.
    """
    shift, scale = _shift(frame), _scale_per_point(scale, points)
    return (points + shift) * scale - shift


def image_to_resized(points: Tensor, scale: Tensor, frame: PixelFrame = "edge") -> Tensor:
    """Take points from image px to resized px: the inverse of `resized_to_image`, with the same arguments."""
    shift, scale = _shift(frame), _scale_per_point(scale, points)
    return (points + shift) / scale - shift


def _shift(frame: PixelFrame) -> float:
    shifts = {"edge": 0.5, "lineage": 0.0}
    if frame not in shifts:
        raise S2LDError(f"unknown pixel frame {frame!r} (config key EVAL.PIXEL_FRAME); use edge or lineage")
    return shifts[frame]


def _scale_per_point(scale: Tensor, points: Tensor) -> Tensor:
    return scale if scale.ndim >= points.ndim else scale.unsqueeze(-2)
