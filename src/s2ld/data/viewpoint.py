"""How far the viewpoints of a pair lie apart, as one number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WIDE_ANGLE = 60.0  # degrees between the rays to a point ...
WIDE_SCALE = 4.0  # ... ratio of its sizes in both views ...
WIDE_TURN = 45.0  # ... or degrees of in-plane rotation that count as 1
GRID = 12  # points looked at along each side of view 0


def viewpoint_change(depth0: Tensor, K0: Tensor, K1: Tensor, T_0to1: Tensor) -> float:
    """Return the largest of angle, scale (its logarithm) and in-plane rotation, each of what is wide, in [0, 1].

    Args:
        depth0: (H, W) z of view 0, 0 unknown; without any known depth only the rotation counts.
        K0, K1: (3, 3) px of the views.
        T_0to1: (4, 4) relative pose.
    """
    height, width = depth0.shape
    rows, columns = (torch.linspace(0, side - 1, GRID).round().long() for side in (height, width))
    z = depth0[rows[:, None], columns].double().numpy().ravel()
    x, y = (side.ravel() for side in np.meshgrid(columns.numpy(), rows.numpy()))
    K, other, T = (matrix.double().numpy() for matrix in (K0, K1, T_0to1))
    turn = np.degrees(np.arctan2(T[1, 0] - T[0, 1], T[0, 0] + T[1, 1]))
    known = z > 0
    if not known.any():
        return min(1.0, abs(float(turn)) / WIDE_TURN)
    X = np.stack([x, y, np.ones_like(x)], 1)[known] @ np.linalg.inv(K).T * z[known, None]
    from_other = X + T[:3, :3].T @ T[:3, 3]
    angle = np.degrees(np.arctan2(np.linalg.norm(np.cross(X, from_other), axis=1), (X * from_other).sum(1)))
    behind = np.maximum((X @ T[:3, :3].T + T[:3, 3])[:, 2], 1e-6)
    scale = np.abs(np.log(other[0, 0] / behind / (K[0, 0] / z[known])))
    parts = np.median(angle) / WIDE_ANGLE, np.median(scale) / np.log(WIDE_SCALE), abs(turn) / WIDE_TURN
    return float(min(1.0, max(parts)))
