from __future__ import annotations

import torch

from s2ld.geometry.linalg import homogeneous, matmat, matvec, per_point


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def test_products_agree_with_matmul():
    A, B, v = _random(5, 2, 3), _random(5, 3, 4), _random(5, 3)
    torch.testing.assert_close(matmat(A, B), A @ B)
    torch.testing.assert_close(matvec(A, v), (A @ v[..., None])[..., 0])


def test_products_keep_their_precision_under_autocast():
    A, v = _random(5, 3, 3).float(), _random(5, 3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(matvec(A, v), (A * v[:, None]).sum(-1))
        assert matmat(A, A).dtype == torch.float32


def test_per_point_tells_one_matrix_a_set_from_one_a_point():
    points = _random(4, 7, 2)
    assert per_point(_random(4, 3, 3), points).shape == (4, 1, 3, 3)
    assert per_point(_random(4, 7, 3, 3), points).shape == (4, 7, 3, 3)
    assert per_point(_random(3, 3), points).shape == (1, 3, 3)


def test_homogeneous():
    assert homogeneous(torch.zeros(0, 2)).shape == (0, 3)
    assert homogeneous(torch.tensor([[4.0, 5.0]])).tolist() == [[4.0, 5.0, 1.0]]
