"""Candidates as other pairs might have them: fewer, turned, scaled, mirrored, with more wrong ones among them.

Whatever is changed, each label stays true.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.training.consensus.labels import RIGHT, UNKNOWN, WRONG
from s2ld.types import Candidates

_FAR = 16.0  # resized px: a right candidate whose point 1 moves farther is surely wrong


def augment(candidates: Candidates, labels: Tensor, config: CN, rng: np.random.Generator) -> tuple[Candidates, Tensor]:
    """Return candidates of one pair and their labels, changed at random.

    Args:
        candidates: M of one pair.
        labels: (M,) int8.
        config: the TRAIN.CANDIDATES node.
        rng: of all that is drawn.
    """
    kept = torch.from_numpy(rng.random(len(candidates)) < rng.uniform(config.KEEP, 1.0))
    candidates, labels = candidates.at(kept), labels[kept]
    spoil = _displace_cluster if rng.random() < 0.5 else _scatter
    candidates, labels = spoil(candidates, labels, rng.uniform(0.0, config.MIXED), rng)
    mirror = -1.0 if rng.random() < 0.5 else 1.0  # both images: no camera sees one of them mirrored
    points0 = _moved(candidates.points0, mirror, config, rng)
    points1 = _moved(candidates.points1, mirror, config, rng)
    return replace(candidates, points0=points0, points1=points1), labels


def _scatter(
    candidates: Candidates, labels: Tensor, share: float, rng: np.random.Generator
) -> tuple[Candidates, Tensor]:
    """Exchange the partners in image 1 of a share of the right ones among each other."""
    right = (labels == RIGHT).nonzero()[:, 0].numpy()
    chosen = rng.permutation(right)[: round(share * len(right))]
    partner = np.arange(len(labels))
    partner[chosen] = np.roll(chosen, 1)
    other = torch.from_numpy(partner)
    points1 = candidates.points1[other]
    spoilt = replace(candidates, points1=points1, descriptors1=candidates.descriptors1[other])
    return spoilt, _after_a_move(labels, points1 - candidates.points1)


def _displace_cluster(
    candidates: Candidates, labels: Tensor, share: float, rng: np.random.Generator
) -> tuple[Candidates, Tensor]:
    """Move a share of all candidates, neighbours in image 0, as a whole to where another one is in image 1.

    They still agree with each other, as they do where a building repeats itself.
    """
    count = round(share * len(candidates))
    if not count:
        return candidates, labels
    first, other = rng.integers(len(candidates), size=2)
    distance = (candidates.points0 - candidates.points0[first]).square().sum(1)
    moved = torch.zeros(len(candidates), 1)
    moved[distance.argsort(stable=True)[:count]] = 1.0
    shift = moved * (candidates.points1[other] - candidates.points1[first])
    return replace(candidates, points1=candidates.points1 + shift), _after_a_move(labels, shift)


def _after_a_move(labels: Tensor, shift: Tensor) -> Tensor:
    """Return the labels of candidates whose point 1 has moved by (M, 2) px: sure are only right ones far off."""
    far = shift.square().sum(1).sqrt()
    after = torch.where((labels == RIGHT) & (far > _FAR), WRONG, UNKNOWN).to(labels.dtype)
    return torch.where(far > 0, after, labels)


def _moved(points: Tensor, mirror: float, config: CN, rng: np.random.Generator) -> Tensor:
    """Mirror, turn and scale the points (M, 2) of one image; where its origin comes to lie does not matter."""
    angle = np.deg2rad(rng.normal(0.0, config.TURN))
    scale = np.exp(rng.uniform(-1.0, 1.0) * np.log(config.SCALE))
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return points @ torch.tensor([[mirror * c, mirror * s], [-s, c]], dtype=points.dtype)
