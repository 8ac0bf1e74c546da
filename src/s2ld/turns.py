"""Photographs that were taken, or stored, turned by a quarter: which turn fits, and points in the image as it was.

A network that hardly saw turned images in training matches them badly. Turns are counted counter-clockwise, as
`torch.rot90` does: 0 to 3.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from s2ld.data.images.reading import network_size
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch, ImageFeatures, Prediction

LONG_SIDE = 240  # px, of the small images
MARGIN = 1.1  # by which a turn must be better than none
_ALIKE = ((0, 2), (1, 3))  # turns after which an image has the same size


def predict_turned(network: S2LD, images0: ImageBatch, images1: ImageBatch) -> Prediction:
    """Match two images, image 1 after the quarter turn that fits best (`best_turn`, with the same arguments).

    Returns:
        What the network says of the turned pair, but for fine points and keypoints, which are in image 1 as it was.
    """
    turns = best_turn(network, images0.image, images1.image)
    prediction: Prediction = network(images0, ImageBatch(turned(images1.image, turns)))
    height, width = images1.image.shape[2:]
    encoded, fine = prediction.encoded, prediction.fine
    keypoints1, points1 = (turned_back(x, turns, (width, height)) for x in (encoded.keypoints1.points, fine.points1))
    return replace(
        prediction,
        encoded=replace(encoded, keypoints1=replace(encoded.keypoints1, points=keypoints1)),
        fine=replace(fine, points1=points1),
    )


def best_turn(network: S2LD, image0: Tensor, image1: Tensor) -> int:
    """Return the quarter turns of image 1 after which it fits image 0 best, found on small copies of both.

    The measure is the sum of squared confidence over mutual best matches, whatever the network's threshold: few sure
    matches say more than many doubtful ones. Image 1 stays as it is unless a turn is better by `MARGIN`.

    Args:
        network: in evaluation mode, in the context of its calls (inference mode, precision).
        image0: (1, 1, H, W) grey in [0, 1], sides multiples of 8.
        image1: (1, 1, H1, W1).
    """
    side0 = network.extract(ImageBatch(_small(image0)))
    both, small1 = ImageFeatures.joined([side0] * 2), _small(image1)
    measures = [0.0] * 4
    for turns in _ALIKE:
        side1 = network.extract(ImageBatch(torch.cat([turned(small1, number) for number in turns])))
        confidence = network.confidence(network.encode_pair(both, side1))
        for number, value in zip(turns, _measure(confidence).tolist(), strict=True):
            measures[number] = value
    best = max(range(4), key=measures.__getitem__)
    return best if measures[best] > MARGIN * measures[0] else 0


def turned(image: Tensor, turns: int) -> Tensor:
    """Return (..., H, W) after quarter turns counter-clockwise."""
    return torch.rot90(image, turns, (-2, -1))


def turned_back(points: Tensor, turns: int, size: tuple[int, int]) -> Tensor:
    """Return where points of a turned image are in the image as it was.

    Args:
        points: (..., 2) px of the turned image, pixel centres at integers.
        turns: quarter turns counter-clockwise that it was turned by.
        size: (width, height) px of the image as it was.
    """
    x, y = points.unbind(-1)
    right, bottom = size[0] - 1, size[1] - 1
    places = ((x, y), (right - y, x), (right - x, bottom - y), (y, bottom - x))
    return torch.stack(places[turns % 4], -1)


def _small(image: Tensor) -> Tensor:
    """Return an image (N, C, H, W) with a longer side of `LONG_SIDE` at most, sides multiples of 8."""
    height, width = image.shape[2:]
    if max(height, width) <= LONG_SIDE:
        return image
    width, height = network_size(width, height, LONG_SIDE)
    return F.interpolate(image, (height, width), mode="bilinear", antialias=True)


def _measure(confidence: Tensor) -> Tensor:
    """Return (N,) of confidence (N, L, S); see `best_turn`."""
    best, partner = confidence.max(2)
    mutual = confidence.argmax(1).gather(1, partner) == torch.arange(best.shape[1], device=best.device)
    return (best.square() * mutual).sum(1)
