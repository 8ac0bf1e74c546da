"""Patches of a pyramid against OpenCV and torch's own resampling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from s2ld.models.pyramid import LEVELS, ImagePyramid

N, HEIGHT, WIDTH, RADIUS = 2, 64, 80, 3


def images() -> Tensor:
    return torch.rand(N, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def sampled(image: Tensor, places: Tensor) -> Tensor:
    """Values (P, P) of one image (1, H, W) at places (P, P, 2), by torch."""
    size = torch.tensor([image.shape[2] - 1.0, image.shape[1] - 1.0])
    return F.grid_sample(image[None], (2 * places / size - 1)[None], align_corners=True, padding_mode="border")[0, 0]


def steps() -> Tensor:
    line = torch.arange(-RADIUS, RADIUS + 1.0)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1)


def rows() -> tuple[Tensor, Tensor, Tensor]:
    """Pair, level and place of each patch: all levels of both images, at the middle and near the corners."""
    batch = torch.arange(N).repeat_interleave(3 * LEVELS)
    level = torch.arange(LEVELS).repeat_interleave(3).repeat(N)
    sides = torch.tensor([WIDTH - 1.0, HEIGHT - 1.0]) / 2.0 ** level[:, None]
    low, high = torch.full_like(sides, RADIUS + 0.3), sides - RADIUS - 1.3
    share = torch.tensor([0.0, 0.5, 1.0]).repeat(N * LEVELS)[:, None]
    return batch, level, low + share * (high - low)


@pytest.mark.parametrize("warp", [None, [[0.8, -0.6], [0.5, 0.9]]])
def test_patches_are_what_torch_samples(warp: list[list[float]] | None) -> None:
    image, (batch, level, place) = images(), rows()
    pyramid = ImagePyramid(image, None, 0)
    if warp is None:
        patches, linear = pyramid.patches(batch, level, place, RADIUS), torch.eye(2)
    else:
        linear = torch.tensor(warp)
        patches, _ = pyramid.warped(batch, level, place, linear.expand(len(batch), 2, 2), RADIUS)
    for row, patch in enumerate(patches):
        size = 2 ** int(level[row])
        small = F.avg_pool2d(image[batch[row]], size)
        expected = sampled(small, place[row] + steps() @ linear.T)
        torch.testing.assert_close(patch, expected, atol=1e-4, rtol=0)


def test_levels_align_pixel_edges() -> None:
    level = torch.arange(LEVELS)
    # the image's corner and its first pixel's centre
    corner = ImagePyramid.at_level(torch.full((LEVELS, 2), -0.5), level)
    torch.testing.assert_close(corner, torch.full((LEVELS, 2), -0.5))
    assert ImagePyramid.at_level(torch.zeros(LEVELS, 2), level)[:, 0].tolist() == [0.0, -0.25, -0.375]


def test_what_is_not_in_the_image_is_told() -> None:
    size = torch.tensor([[WIDTH, HEIGHT], [40, 32]])  # the second image is padded
    pyramid = ImagePyramid(images(), size, 0)
    batch, level = torch.tensor([0, 1, 1, 1, 0]), torch.tensor([0, 0, 0, 1, 0])
    place = torch.tensor([[60.0, 30.0], [60.0, 20.0], [30.0, 20.0], [17.0, 10.0], [2.0, 30.0]])
    expected = [True, False, True, False, False]
    assert pyramid.inside(batch, level, place, RADIUS).tolist() == expected
    still = torch.eye(2).expand(5, 2, 2)
    patches, whole = pyramid.warped(batch, level, place, still, RADIUS)
    assert whole.tolist() == expected
    assert bool(patches.isfinite().all())
    assert torch.equal(patches[4][:, 0], patches[4][:, 1])  # x of -1 and 0
