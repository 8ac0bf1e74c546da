from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch
from pair_scenes import view
from torch import Tensor, nn

from s2ld.models.detector import HeatmapDetector
from s2ld.training.losses.corners import corner_loss
from s2ld.types import Features, ImageBatch, Keypoints, View

HEIGHT, WIDTH = 48, 64
COLUMNS = WIDTH // 8


def keypoints(maps: Tensor, stride: int) -> Keypoints:
    """What the heatmap detector makes of (N, 2, H/s, W/s) logits."""
    detector = HeatmapDetector(2, stride, 4)
    detector.maps = nn.Identity()  # type: ignore[assignment]
    found: Keypoints = detector(Features(torch.zeros(0), maps))
    return found


def undecided(view_: View, stride: int = 2) -> tuple[Keypoints, Tensor]:
    """Keypoints without any preference, and the maps that they come from, a leaf."""
    pairs, _, height, width = view_.images.image.shape
    maps = torch.zeros(pairs, 2, height // stride, width // stride, requires_grad=True)
    return keypoints(maps, stride), maps


def picture(image: Tensor, mask: Tensor | None = None) -> View:
    """A view of (H, W) grey values, `mask` (h, w)."""
    plain = view(*image.shape)
    return View(ImageBatch(image[None, None], None if mask is None else mask[None]), plain.scale, plain.K)


def square(left: int, top: int) -> Tensor:
    image = torch.zeros(HEIGHT, WIDTH)
    image[top : top + 20, left : left + 24] = 1
    return image


def texture(height: int, width: int) -> Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("left", "top"), [(25, 19), (14, 10), (22, 13)])
def test_the_keypoint_is_drawn_to_the_corner(left: int, top: int, stride: int) -> None:
    seen = picture(square(left, top))
    found, _ = undecided(seen, stride)
    assert found.logits is not None
    logits = found.logits.detach().requires_grad_()
    corner_loss(replace(found, logits=logits), seen).sum().backward()
    assert logits.grad is not None
    row, column, steps = round(top / 8), round(left / 8), 8 // stride
    drawn = int(logits.grad[0, row * COLUMNS + column].argmin())
    y, x = (divmod(drawn, steps + 1)[i] - steps // 2 for i in (0, 1))
    taught = torch.tensor([8.0 * column + stride * x, 8.0 * row + stride * y])
    corner = torch.tensor([left - 0.5, top - 0.5])  # between the last dark and the first bright pixel
    assert float((taught - corner).abs().max()) <= stride


def test_the_loss_is_the_weighted_cross_entropy() -> None:
    seen = picture(square(25, 19))
    found, _ = undecided(seen)
    loss = corner_loss(found, seen).detach().reshape(HEIGHT // 8, COLUMNS)
    # without preference every pixel of an inner cell costs log 25, whatever the target; weights are below 1
    assert float(loss[1:, 1:].max()) == pytest.approx(log(25), rel=1e-2)
    assert not loss[0].any()  # the square is far from these cells


@pytest.mark.parametrize("grey", [0.0, 0.5])
def test_a_flat_image_teaches_nothing(grey: float) -> None:
    seen = picture(torch.full((HEIGHT, WIDTH), grey))
    found, maps = undecided(seen)
    loss = corner_loss(found, seen)
    loss.sum().backward()
    assert loss.abs().max().item() < 1e-3
    assert maps.grad is not None
    assert float(maps.grad.abs().max()) < 1e-3


def test_pixels_outside_the_image_are_no_target() -> None:
    seen = picture(texture(HEIGHT, WIDTH))
    found, maps = undecided(seen)
    loss = corner_loss(found, seen)
    assert loss.max().item() <= log(25)  # a target outside would cost 1e4
    loss.sum().backward()
    assert maps.grad is not None
    assert bool(maps.grad.isfinite().all())


def test_padding_teaches_nothing_and_changes_nothing_elsewhere() -> None:
    image = texture(HEIGHT, WIDTH)
    alone = corner_loss(undecided(picture(image))[0], picture(image)).reshape(HEIGHT // 8, COLUMNS)
    padded_image, mask = torch.zeros(HEIGHT, 3 * WIDTH), torch.zeros(HEIGHT // 8, 3 * COLUMNS, dtype=torch.bool)
    padded_image[:, :WIDTH], mask[:, :COLUMNS] = image, True
    seen = picture(padded_image, mask)
    found, maps = undecided(seen)
    loss = corner_loss(found, seen)
    assert loss.shape == (int(mask.sum()),)
    # the response is blurred: the cells next to the padding see it
    torch.testing.assert_close(loss.reshape(alone.shape)[:, :-1], alone[:, :-1], rtol=0.05, atol=1e-3)
    loss.sum().backward()
    assert maps.grad is not None
    assert not maps.grad[..., WIDTH // 2 + 2 :].any()


def test_a_batch_is_one_image_after_the_other() -> None:
    images = [square(25, 19), texture(HEIGHT, WIDTH)]
    together = View(ImageBatch(torch.stack(images)[:, None]), torch.ones(2, 2), view(HEIGHT, WIDTH, 2).K)
    apart = [corner_loss(undecided(picture(image))[0], picture(image)) for image in images]
    torch.testing.assert_close(corner_loss(undecided(together)[0], together), torch.cat(apart))
