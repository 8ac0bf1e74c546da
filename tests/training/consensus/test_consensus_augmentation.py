"""Whatever is done to the candidates of a pair, their labels stay true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.training.consensus.augmentation import augment
from s2ld.training.consensus.labels import RIGHT, UNKNOWN, WRONG
from s2ld.types import Candidates

COUNT = 400


def settings(keep: float = 1.0, mixed: float = 0.0, turn: float = 0.0, scale: float = 1.0) -> CN:
    keys = {"KEEP": keep, "MIXED": mixed, "TURN": turn, "SCALE": scale}
    overrides = [text for key, value in keys.items() for text in (f"TRAIN.CANDIDATES.{key}", str(value))]
    return build_config(overrides=overrides).TRAIN.CANDIDATES


def similarity(points: torch.Tensor) -> torch.Tensor:
    """The true map of the pair: turned by 0.3 rad, 1.5 times as large, shifted."""
    turn = 1.5 * torch.tensor([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]], dtype=torch.float64)
    return points @ turn + torch.tensor([30.0, -12.0], dtype=torch.float64)


def pair() -> tuple[Candidates, torch.Tensor]:
    """Three in four candidates lie exactly where the similarity says, the others far from it; some are unlabelled."""
    generator = torch.Generator().manual_seed(3)
    points0 = 500 * torch.rand(COUNT, 2, generator=generator, dtype=torch.float64)
    right = torch.arange(COUNT) % 4 > 0
    away = 40 + 100 * torch.rand(COUNT, 2, generator=generator, dtype=torch.float64)
    points1 = similarity(points0) + torch.where(right[:, None], 0.0, away)
    labels = torch.where(right, RIGHT, WRONG).to(torch.int8)
    labels[::10] = UNKNOWN
    evidence = torch.arange(COUNT, dtype=torch.float64)[:, None].repeat(1, 4)  # tells which is which
    descriptors0, descriptors1 = evidence.repeat(1, 2), -evidence.repeat(1, 2)
    batch = torch.zeros(COUNT, dtype=torch.int64)
    return Candidates(batch, points0, points1, evidence, descriptors0, descriptors1), labels


def residuals(candidates: Candidates, labels: torch.Tensor) -> torch.Tensor:
    """Misses (px) of all candidates of a similarity fitted to the right ones, as complex numbers."""
    z0, z1 = (torch.view_as_complex(points.contiguous()) for points in (candidates.points0, candidates.points1))
    right = labels == RIGHT
    design = torch.stack([z0, torch.ones_like(z0)], 1)
    solution = torch.linalg.lstsq(design[right], z1[right, None]).solution
    return (design @ solution - z1[:, None]).abs()[:, 0]


@pytest.mark.parametrize("seed", range(8))
def test_right_ones_still_agree_on_a_similarity_and_wrong_ones_do_not(seed: int) -> None:
    config = settings(keep=0.5, mixed=0.3, turn=40.0, scale=2.0)
    candidates, labels = augment(*pair(), config, np.random.default_rng(seed))
    missed = residuals(candidates, labels)
    assert int((labels == RIGHT).sum()) > 0.3 * len(labels)
    assert float(missed[labels == RIGHT].max()) < 1e-9
    assert float(missed[labels == WRONG].min()) > 6 / 2  # the smallest scale


def test_points_turn_and_scale_by_a_mirrored_or_plain_similarity_each() -> None:
    before, labels = pair()
    mirrored = set()
    for seed in range(12):
        after, kept = augment(before, labels, settings(turn=30.0, scale=2.0), np.random.default_rng(seed))
        assert torch.equal(kept, labels)
        sides = []
        for old, new in ((before.points0, after.points0), (before.points1, after.points1)):
            linear = torch.linalg.lstsq(old, new).solution
            gram = linear @ linear.T
            assert torch.allclose(gram, gram[0, 0] * torch.eye(2, dtype=gram.dtype), atol=1e-9)
            assert 0.25 <= float(gram[0, 0]) <= 4.0
            sides.append(bool(torch.linalg.det(linear) < 0))
        assert sides[0] == sides[1], "a camera sees no mirrored world"
        mirrored.add(sides[0])
    assert mirrored == {False, True}


def test_some_are_dropped_and_the_others_keep_what_belongs_to_them() -> None:
    before, labels = pair()
    counts = []
    for seed in range(20):
        after, kept = augment(before, labels, settings(keep=0.4), np.random.default_rng(seed))
        which = after.evidence[:, 0].long()
        assert torch.equal(kept, labels[which])
        assert torch.equal(after.descriptors0, before.descriptors0[which])
        assert torch.equal(after.descriptors1, before.descriptors1[which])
        counts.append(len(after))
    assert 0.3 * COUNT < min(counts) < 0.6 * COUNT
    assert 0.8 * COUNT < max(counts) <= COUNT


def test_mixed_in_ones_are_scattered_or_a_cluster() -> None:
    before, labels = pair()
    kinds = set()
    for seed in range(12):
        after, spoilt = augment(before, labels, settings(mixed=0.3), np.random.default_rng(seed))
        new = (labels == RIGHT) & (spoilt == WRONG)
        if int(new.sum()) < 5:
            continue
        exchanged = bool((after.descriptors1 != before.descriptors1).any())
        kinds.add(exchanged)
        if exchanged:  # the partner's point and its descriptor come together
            other = -after.descriptors1[:, 0].long()
            assert torch.equal(other.sort().values, torch.arange(COUNT))
        else:  # neighbours still agree with each other
            assert float(residuals(after.at(new), torch.full((int(new.sum()),), RIGHT)).max()) < 1e-9
    assert kinds == {False, True}


def test_nothing_stays_nothing() -> None:
    candidates, labels = pair()
    none = torch.zeros(0, dtype=torch.int64)
    after, kept = augment(candidates.at(none), labels[none], settings(mixed=0.3), np.random.default_rng(0))
    assert len(after) == len(kept) == 0
