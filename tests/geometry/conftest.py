"""Random but sound two-view scenes with exact answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

PoseMaker = Callable[..., Tensor]


@dataclass(frozen=True)
class Scene:
    """P points in front of two cameras, in float64."""

    X0: Tensor
    X1: Tensor
    T_0to1: Tensor
    rays0: Tensor
    rays1: Tensor
    K0: Tensor
    K1: Tensor


def rotation(axis_angle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by the matrix exponential: independent of the package."""
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(cross)


def pose(axis_angle: list[float], translation: list[float]) -> Tensor:
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = rotation(torch.tensor(axis_angle, dtype=torch.float64))
    T[:3, 3] = torch.tensor(translation, dtype=torch.float64)
    return T


@pytest.fixture
def make_pose() -> PoseMaker:
    return pose


@pytest.fixture
def scene() -> Scene:
    generator = torch.Generator().manual_seed(3)
    X0 = torch.rand(40, 3, generator=generator, dtype=torch.float64) * torch.tensor([4.0, 3.0, 6.0]) - torch.tensor(
        [2.0, 1.5, -4.0]
    )
    T = pose([0.1, -0.25, 0.3], [1.0, 0.2, -0.3])
    X1 = X0 @ T[:3, :3].T + T[:3, 3]
    assert bool((X1[:, 2] > 0).all())
    K0 = torch.tensor([[520.0, 1.5, 311.0], [0.0, 498.0, 247.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    K1 = torch.tensor([[610.0, 0.0, 330.0], [0.0, 605.0, 222.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return Scene(X0, X1, T, X0[:, :2] / X0[:, 2:], X1[:, :2] / X1[:, 2:], K0, K1)
