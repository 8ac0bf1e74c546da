from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.models.local_dense import LocalDenseMatching, cut_windows


def ramp(height: int, width: int) -> torch.Tensor:
    """A map whose two channels are x and y."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y])[None].double()


@pytest.mark.parametrize("window", [1, 3, 5, 7])
def test_subpixel_window_samples_around_the_exact_point(window: int) -> None:
    centre = torch.tensor([[8.3, 9.75]], dtype=torch.float64)
    tokens = cut_windows(ramp(20, 20), torch.tensor([0]), centre, window, subpixel=True)
    axis = torch.arange(window).double() - window // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    torch.testing.assert_close(tokens[0], torch.stack([x, y], -1).reshape(-1, 2) + centre)


def test_rounded_window_is_an_unfolded_patch() -> None:
    fine = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    centres = torch.tensor([[4.4, 6.6], [0.2, 11.4]])
    tokens = cut_windows(fine, torch.tensor([0, 1]), centres, 5, subpixel=False)
    patches = F.unfold(fine, 5, padding=2).reshape(2, 3, 25, 12, 10)
    torch.testing.assert_close(tokens[0], patches[0, :, :, 7, 4].T)
    torch.testing.assert_close(tokens[1], patches[1, :, :, 11, 0].T)


def test_subpixel_window_agrees_with_grid_sample_everywhere() -> None:
    fine = torch.rand(1, 4, 9, 11, generator=torch.Generator().manual_seed(0))
    centres = torch.rand(50, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([14.0, 12.0]) - 2
    tokens = cut_windows(fine, torch.zeros(50, dtype=torch.long), centres, 3, subpixel=True)
    axis = torch.arange(3) - 1.0
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = centres[:, None] + torch.stack([x, y], -1).reshape(-1, 2)
    grid = places / torch.tensor([10.0, 8.0]) * 2 - 1
    expected = F.grid_sample(fine, grid[None], align_corners=True, padding_mode="zeros")[0].permute(1, 2, 0)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_subpixel_window_is_differentiable_in_map_and_point() -> None:
    fine = torch.rand(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    centres = torch.tensor([[2.3, 2.6], [5.4, 0.2]], dtype=torch.float64, requires_grad=True)
    batch = torch.zeros(2, dtype=torch.long)
    assert gradcheck(lambda f, c: cut_windows(f, batch, c, 3, subpixel=True), (fine, centres))


@pytest.mark.parametrize("subpixel", [True, False])
def test_no_match_keeps_the_graph(subpixel: bool) -> None:
    fine = torch.rand(1, 2, 6, 6, requires_grad=True)
    tokens = cut_windows(fine, torch.zeros(0, dtype=torch.long), torch.zeros(0, 2), 5, subpixel)
    assert tokens.shape == (0, 25, 2)
    tokens.sum().backward()
    assert fine.grad is not None


@pytest.mark.parametrize(("mode", "stride"), [("subpixel", 2), ("rounded", 2), ("subpixel", 4)])
def test_decode_finds_the_token_that_looks_like_the_centre(mode: str, stride: int) -> None:
    module = LocalDenseMatching(5, mode, stride)
    assert module.radius_px == 2 * stride
    window1 = torch.zeros(1, 25, 8)
    window1[0, 5 * 3 + 4] = 100.0  # row 3, column 4
    window0 = torch.zeros(1, 25, 8)
    window0[0, 12] = 1.0
    x, y, std = module.decode(window0, window1)[0].tolist()
    assert (x, y) == pytest.approx((1.0, 0.5), abs=1e-4)
    assert std < 1e-3


def test_decode_of_an_even_heatmap() -> None:
    """Nothing stands out: the centre, with the standard deviation of five even steps on either axis."""
    x, y, std = LocalDenseMatching(5, "subpixel", 2).decode(torch.zeros(1, 25, 8), torch.zeros(1, 25, 8))[0].tolist()
    assert (x, y) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert std == pytest.approx(2 * 0.5**0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("window", "mode", "key"), [(4, "subpixel", "WINDOW"), (0, "rounded", "WINDOW"), (5, "x", "MODE")]
)
def test_bad_settings_are_named(window: int, mode: str, key: str) -> None:
    with pytest.raises(S2LDError, match=key):
        LocalDenseMatching(window, mode, 2)
