from __future__ import annotations

from dataclasses import fields
from math import exp, log

import pytest
import torch
from torch import Tensor

from s2ld.config import build_config, defaults
from s2ld.models.consensus.stage import Consensus
from s2ld.training.consensus.candidates import CandidateBatch
from s2ld.training.consensus.labels import RIGHT, UNKNOWN, WRONG
from s2ld.training.consensus.loss import candidate_losses, consensus_loss
from s2ld.types import Candidates

DIM = 8


def alone(count: Tensor) -> Tensor:
    return count


def cross_entropy(logit: float, right: bool) -> float:
    return log(1 + exp(-logit if right else logit))


def candidates(count: int, pairs: int = 1) -> Candidates:
    generator = torch.Generator().manual_seed(count)
    points0, points1 = (100 * torch.rand(count, 2, generator=generator) for _ in range(2))
    descriptors0, descriptors1 = (torch.randn(count, DIM, generator=generator) for _ in range(2))
    pair = torch.arange(count) * pairs // max(count, 1)
    return Candidates(pair, points0, points1, torch.randn(count, 4, generator=generator), descriptors0, descriptors1)


def test_each_pair_counts_once_and_unknown_ones_never() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, 9.0, 3.0, -7.0])
    labels = torch.tensor([RIGHT, WRONG, RIGHT, UNKNOWN, WRONG, UNKNOWN], dtype=torch.int8)
    pair = torch.tensor([0, 0, 0, 0, 1, 2])  # all of pair 2 is unknown: it does not count
    first = (cross_entropy(2.0, True) + cross_entropy(-1.0, False) + cross_entropy(0.5, True)) / 3
    expected = (first + cross_entropy(3.0, False)) / 2
    assert float(consensus_loss(logits, labels, pair, 3, alone)) == pytest.approx(expected, rel=1e-6)


def test_processes_together_count_each_pair_once() -> None:
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([1, 0, 1, 1, -1, 0, -1, -1, -1])
    pair = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3])
    whole = consensus_loss(logits, labels, pair, 4, alone)
    first, second = pair < 1, pair >= 1
    # of three pairs with labels one lies in the first process: the mean count of both is 1.5

    def mean_count(count: Tensor) -> Tensor:
        return torch.full_like(count, 1.5)

    parts = [
        consensus_loss(logits[first], labels[first], pair[first], 1, mean_count),
        consensus_loss(logits[second], labels[second], pair[second] - 1, 3, mean_count),
    ]
    assert float(sum(parts) / 2) == pytest.approx(float(whole), rel=1e-12)


@pytest.mark.parametrize("count", [0, 1, 40])
def test_every_weight_has_a_finite_gradient_also_without_candidates(count: int) -> None:
    torch.manual_seed(0)
    consensus = Consensus(defaults().MODEL.CONSENSUS, DIM)
    made = candidates(count, 2)
    labels = (torch.arange(count) % 3 - 1).to(torch.int8)
    batch = CandidateBatch(made, labels, 2, [("", "")] * 2, [""] * 2)
    config = build_config(overrides=["LOSS.CONSENSUS_WEIGHT", "0.5"]).LOSS
    terms = candidate_losses(consensus(made, 2), batch, config, alone)
    terms.total.backward()
    gradients = [parameter.grad for parameter in consensus.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    others = [field.name for field in fields(terms) if field.name not in ("total", "consensus")]
    assert all(float(getattr(terms, name)) == 0 for name in others)
    assert float(terms.total.detach()) == pytest.approx(0.5 * float(terms.consensus.detach()))
    if count == 40:
        assert all(float(gradient.abs().max()) > 0 for gradient in gradients if gradient is not None)
    else:
        assert float(terms.total.detach()) == 0.0
