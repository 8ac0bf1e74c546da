"""Small matrix products that keep full precision under autocast and TF32."""

from __future__ import annotations

import torch
from torch import Tensor


def per_point(matrix: Tensor, points: Tensor) -> Tensor:
    """Return `matrix` in a shape that broadcasts against `points`, one matrix a point.

    Args:
        matrix: (..., r, c), one for each set of points, or (..., P, r, c), one for each point.
        points: (..., P, d).
    """
    return matrix if matrix.ndim > points.ndim else matrix.unsqueeze(-3)


def matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return the product of (..., r, c) matrices and (..., c) vectors, (..., r)."""
    return (matrix * vector.unsqueeze(-2)).sum(-1)


def matmat(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of (..., r, k) and (..., k, c) matrices, (..., r, c)."""
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(-2)


def homogeneous(points: Tensor) -> Tensor:
    """Append a 1 to the last dimension: (..., d) to (..., d + 1)."""
    return torch.cat([points, torch.ones_like(points[..., :1])], -1)


def full_precision(values: Tensor) -> Tensor:
    """Return half-precision values as float32 and others as they are: bf16 px have steps of 4 px at 640."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
