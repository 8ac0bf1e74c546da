"""Normalised images: against loops over cells, with padding, and on every road into the network."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_networks import random_images, tiny_network
from torch import Tensor
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.models.input import (
    LEAST_DEVIATION,
    LEAST_LOCAL_DEVIATION,
    LOCAL_DEVIATION,
    USUAL_DEVIATION,
    USUAL_MEAN,
    InputNormalisation,
)
from s2ld.types import ImageBatch

KINDS = ("image", "local")


def draw(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 1, H, W) smooth noise in [0, 1], darker to the right."""
    coarse = torch.rand(1, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(seed)).double()
    shade = torch.linspace(1, 0.1, width).double()
    return F.interpolate(coarse, scale_factor=4, mode="bilinear") * shade


def slow_image(image: Tensor) -> Tensor:
    variance = image.var(correction=0)
    return USUAL_MEAN + USUAL_DEVIATION * (image - image.mean()) / (variance + LEAST_DEVIATION**2).sqrt()


def slow_local(image: Tensor) -> Tensor:
    """Each cell's gain and mean by a loop over all pixels of all cells around it."""
    image = slow_image(image)[0, 0]
    cells = image.reshape(image.shape[0] // 8, 8, image.shape[1] // 8, 8).permute(0, 2, 1, 3).flatten(2)
    rows, columns = cells.shape[:2]
    gains, biases = torch.zeros(2, rows, columns, dtype=image.dtype)
    for i in range(rows):
        for j in range(columns):
            weights = torch.zeros(rows, columns, 64, dtype=image.dtype)
            for k in range(rows):
                for m in range(columns):
                    weights[k, m] = math.exp(-((i - k) ** 2 + (j - m) ** 2) / 2 / (max(rows, columns) / 16) ** 2)
            mean = (weights * cells).sum() / weights.sum()
            variance = (weights * (cells - mean) ** 2).sum() / weights.sum()
            contrast = variance / (variance + LEAST_LOCAL_DEVIATION**2)
            gains[i, j] = LOCAL_DEVIATION / (variance + LEAST_LOCAL_DEVIATION**2).sqrt()
            # a region without contrast keeps its mean, one with contrast gets the usual one
            biases[i, j] = contrast * USUAL_MEAN + (1 - contrast) * mean - mean * gains[i, j]
    gain, bias = (F.interpolate(x[None, None], scale_factor=8, mode="bilinear") for x in (gains, biases))
    return image * gain + bias


@pytest.mark.parametrize(("kind", "slow"), [("image", slow_image), ("local", slow_local)])
def test_it_agrees_with_the_slow_form(kind: str, slow: object) -> None:
    image = draw(72, 104)
    torch.testing.assert_close(InputNormalisation(kind)(image), slow(image), rtol=1e-6, atol=1e-6)  # type: ignore[operator]


def test_images_stay_as_they_are_by_default() -> None:
    images = random_images(1, 16, 16).image
    assert InputNormalisation("none")(images) is images
    assert tiny_network().config.INPUT.NORMALISATION == "none"


@pytest.mark.parametrize("kind", KINDS)
def test_exposure_changes_next_to_nothing(kind: str) -> None:
    image, normalise = draw(64, 96), InputNormalisation(kind)
    bright, dark = normalise(image), normalise(0.2 * image + 0.01)
    assert (bright - dark).abs().max() < 0.05
    assert abs(float(dark.mean()) - USUAL_MEAN) < 0.05
    assert 0.6 < float(dark.std()) / USUAL_DEVIATION < 1.2


@pytest.mark.parametrize("kind", KINDS)
def test_flat_images_stay_flat(kind: str) -> None:
    noise = 1e-4 * torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    seen = InputNormalisation(kind)(0.1 + noise)
    assert (seen - USUAL_MEAN).abs().max() < 0.02
    assert InputNormalisation(kind)(torch.zeros(1, 1, 16, 16)).isfinite().all()


def test_flat_regions_keep_their_brightness_and_their_noise_its_limit() -> None:
    image = draw(128, 256)
    image[..., 128:] = 0.6 + 0.01 * draw(128, 128, 1)
    plain, local = (InputNormalisation(kind)(image)[..., 200:] for kind in KINDS)
    assert abs(float((local - plain).mean())) < 0.01
    assert 2 < float(local.std() / plain.std()) < LOCAL_DEVIATION / LEAST_LOCAL_DEVIATION


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_and_stays_zero(kind: str) -> None:
    normalise = InputNormalisation(kind)
    small, large = draw(48, 40), draw(64, 72, 1)
    padded = F.pad(small, (0, 32, 0, 16))
    mask = torch.zeros(2, 8, 9, dtype=torch.bool)
    mask[0, :6, :5], mask[1] = True, True
    seen = normalise(torch.cat([padded, large]), mask)
    torch.testing.assert_close(seen[:1, :, :48, :40], normalise(small))
    torch.testing.assert_close(seen[1:], normalise(large))
    assert not seen[0, :, 48:].any()
    assert not seen[0, :, :, 40:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_road_into_the_network_has_it(kind: str) -> None:
    network, plain = tiny_network("MODEL.INPUT.NORMALISATION", kind), tiny_network()
    images, others = ImageBatch(draw(48, 64).float()), ImageBatch(draw(64, 48, 1).float())
    seen = [replace(side, image=InputNormalisation(kind)(side.image)) for side in (images, others)]
    with torch.no_grad():
        expected = plain.encode(*seen)
        apart = network.encode_pair(network.extract(images), network.extract(others))
        same_size = network.encode(images, images)
        for encoded in (network.encode(images, others), apart):
            torch.testing.assert_close(encoded.coarse0, expected.coarse0)
            torch.testing.assert_close(encoded.features1.fine, expected.features1.fine)
        torch.testing.assert_close(network.detect(images).points, expected.keypoints0.points)
        torch.testing.assert_close(same_size.keypoints1.points, expected.keypoints0.points)
    together = network.encode(images, images)  # in one batch, where gradients are recorded
    torch.testing.assert_close(together.keypoints1.points, expected.keypoints0.points, rtol=1e-4, atol=1e-4)


def test_half_precision_around_it_changes_nothing() -> None:
    image = draw(32, 48).float()
    with torch.autocast("cpu", torch.bfloat16):
        seen = InputNormalisation("local")(image)
    assert torch.equal(seen, InputNormalisation("local")(image))


def test_another_kind_is_named() -> None:
    with pytest.raises(S2LDError, match=r"^MODEL\.INPUT\.NORMALISATION is 'clahe'; use none, image or local$"):
        tiny_network("MODEL.INPUT.NORMALISATION", "clahe")
