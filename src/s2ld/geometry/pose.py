"""Rigid motions as 4x4 matrices, x_b = R x_a + t, and the angles between them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from s2ld.geometry.linalg import matmat, matvec, per_point
from s2ld.types import FloatArray


def invert_pose(T: Tensor) -> Tensor:
    """Return the inverse (..., 4, 4) of rigid motions (..., 4, 4)."""
    R = T[..., :3, :3].transpose(-1, -2)
    top = torch.cat([R, -matvec(R, T[..., :3, 3]).unsqueeze(-1)], -1)
    return torch.cat([top, T[..., 3:, :]], -2)


def relative_pose(T0: Tensor, T1: Tensor) -> Tensor:
    """Return T_0to1 (..., 4, 4) of two world-to-camera poses (..., 4, 4)."""
    return matmat(T1, invert_pose(T0))


def transform(T: Tensor, X: Tensor) -> Tensor:
    """Move points: (..., P, 3) by one motion (..., 4, 4) a set or one a point."""
    T = per_point(T, X)
    return matvec(T[..., :3, :3], X) + T[..., :3, 3]


def rotation_angle(R_a: Tensor, R_b: Tensor) -> Tensor:
    """Return the angle (...) in degrees, 0 to 180, of the rotation between (..., 3, 3) rotations.

    From both sine and cosine, hence precise for tiny angles and for 180 degrees, where the arc cosine is not.
    """
    D = matmat(R_a.transpose(-1, -2), R_b)
    axis = torch.stack([D[..., 2, 1] - D[..., 1, 2], D[..., 0, 2] - D[..., 2, 0], D[..., 1, 0] - D[..., 0, 1]], -1)
    sine = torch.linalg.vector_norm(axis, dim=-1)
    return torch.rad2deg(torch.atan2(sine, D.diagonal(dim1=-2, dim2=-1).sum(-1) - 1))


def translation_angle(t_a: Tensor, t_b: Tensor) -> Tensor:
    """Return the angle (...) in degrees between directions (..., 3), folded at 90 since the sign is not observable.

    A zero vector has no direction: its angle is 0.
    """
    sine = torch.linalg.vector_norm(torch.linalg.cross(t_a, t_b), dim=-1)
    return torch.rad2deg(torch.atan2(sine, (t_a * t_b).sum(-1).abs()))


def pose_error(T_0to1: FloatArray, R: FloatArray, t: FloatArray) -> tuple[float, float]:
    """Return rotation and translation error of an estimated pose, the measures behind AUC@5/10/20.

    Args:
        T_0to1: (4, 4) or (3, 4) true pose.
        R: (3, 3) estimated rotation.
        t: (3,) or (3, 1) estimated translation, any length.

    Returns:
        The two angles in degrees, that of the translation folded at 90. Where the true translation is zero there is no
        direction to miss and the translation error is 0; a zero estimate of a true baseline has error 90. An estimate
        with NaN or infinity counts as no pose: both errors are infinite.
    """
    truth, R_estimated = torch.from_numpy(np.asarray(T_0to1, np.float64)), torch.from_numpy(np.asarray(R, np.float64))
    t_true, t_estimated = truth[:3, 3], torch.from_numpy(np.asarray(t, np.float64).reshape(3))
    if not bool(R_estimated.isfinite().all() & t_estimated.isfinite().all()):
        return math.inf, math.inf
    rotation = float(rotation_angle(truth[:3, :3], R_estimated))
    if not bool(t_true.any()):
        return rotation, 0.0
    return rotation, float(translation_angle(t_true, t_estimated)) if bool(t_estimated.any()) else 90.0
