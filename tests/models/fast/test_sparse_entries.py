"""Entries read without the matrix against entries read off the matrix: values, which ones there are, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s2ld.models.fast import sparse_entries
from s2ld.models.fast.sparse_entries import Entries, dual_softmax_entries, entries_above

TEMPERATURE = 0.1
MASK0, MASK1 = torch.ones(2, 30, dtype=torch.bool), torch.ones(2, 20, dtype=torch.bool)
MASK0[1, [3, 7, 29]], MASK1[0, 11:] = False, False


def descriptors(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, x1 = (torch.randn(2, cells, 4, generator=generator, dtype=dtype) for cells in (30, 20))
    return x0.requires_grad_(), x1.requires_grad_()


def by_matrix(
    x0: Tensor, x1: Tensor, wanted: tuple[Tensor, Tensor, Tensor], floor: float, masked: bool
) -> tuple[Tensor, Entries]:
    similarity = x0 @ x1.transpose(1, 2) / (4 * TEMPERATURE)
    padding = ~(MASK0[:, :, None] & MASK1[:, None]) if masked else torch.zeros(2, 30, 20, dtype=torch.bool)
    similarity = similarity.masked_fill(padding, -1e9)
    matrix = (similarity.softmax(1) * similarity.softmax(2)).masked_fill(padding, 0.0)
    return matrix[wanted], entries_above(matrix, floor)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("floor", [0.0, 0.01, 0.9999])
@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_entries_are_those_of_the_matrix(
    masked: bool, floor: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sparse_entries.BLOCK, "cpu", block)
    wanted = tuple(torch.tensor(index) for index in ([0, 0, 0, 1, 1], [0, 5, 5, 2, 28], [3, 0, 7, 19, 4]))
    assert len(wanted) == 3
    masks = (MASK0, MASK1) if masked else (None, None)
    x0, x1 = descriptors()
    at_wanted, entries = dual_softmax_entries(x0, x1, TEMPERATURE, wanted, floor, *masks)
    expected_wanted, expected = by_matrix(x0, x1, wanted, floor, masked)
    for name in ("batch", "cell0", "cell1"):
        assert torch.equal(getattr(entries, name), getattr(expected, name)), name
    torch.testing.assert_close(entries.confidence, expected.confidence)
    torch.testing.assert_close(at_wanted, expected_wanted)
    assert (len(entries) == 0) == (floor > 0.9)

    def cost(values: Tensor, found: Entries) -> Tensor:
        rising = torch.arange(1.0, len(found) + 1, dtype=torch.float64)
        return (values.sqrt() * torch.arange(1.0, 6.0)).sum() + (found.confidence.square() * rising).sum()

    gradients = torch.autograd.grad(cost(at_wanted, entries), (x0, x1))
    expected_gradients = torch.autograd.grad(cost(expected_wanted, expected), (x0, x1))
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other)
        assert bool(gradient.any())


def test_nothing_wanted_and_nothing_found_stays_on_the_graph() -> None:
    x0, x1 = descriptors()
    nothing = torch.zeros(0, dtype=torch.int64)
    at_wanted, entries = dual_softmax_entries(x0, x1, TEMPERATURE, (nothing, nothing, nothing), 0.9999)
    (at_wanted.sum() + entries.confidence.sum()).backward()
    assert len(entries) == 0
    assert x0.grad is not None
    assert not bool(x0.grad.any())


def test_half_precision_is_raised_under_autocast() -> None:
    x0, x1 = descriptors(torch.float32)
    wanted = (torch.zeros(1, dtype=torch.int64),) * 3
    with torch.autocast("cpu", torch.bfloat16):
        values, entries = dual_softmax_entries(x0.bfloat16(), x1.bfloat16(), TEMPERATURE, wanted, 0.1)
    assert values.dtype == entries.confidence.dtype == torch.float32
    rounded = dual_softmax_entries(x0.bfloat16().float(), x1.bfloat16().float(), TEMPERATURE, wanted, 0.1)[0]
    torch.testing.assert_close(values, rounded)


def test_what_a_nearly_certain_match_lacks_is_exact_in_float32() -> None:
    """Similarities near 76, confidences that lack 0.002: rounded logarithms of the sums would be off by percents."""
    x0 = torch.eye(4)[None] * 6.0
    x1 = x0 + 0.02 * torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    x1 = x1 + 50
    index = torch.arange(4)
    wanted = (torch.zeros(4, dtype=torch.int64), index, index)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        y0, y1 = x0.to(dtype).requires_grad_(), x1.to(dtype).requires_grad_()
        if dtype == torch.float32:
            values, _ = dual_softmax_entries(y0, y1, 1.1, wanted, 0.5)
        else:
            similarity = y0 @ y1.transpose(1, 2) / (4 * 1.1)
            values = (similarity.softmax(1) * similarity.softmax(2))[wanted]
            assert similarity.max().item() > 70
            assert bool(((1 - values > 1e-4) & (1 - values < 1e-2)).all())
        gradients.append(torch.autograd.grad((1 - values).square().sum(), (y0, y1)))
    for gradient, expected in zip(*gradients, strict=True):
        assert ((gradient - expected).norm() / expected.norm()).item() < 5e-3
