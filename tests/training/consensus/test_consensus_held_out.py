from __future__ import annotations

import pytest
import torch
from test_consensus_loss import DIM, candidates

from s2ld.config import defaults
from s2ld.models.consensus.stage import Consensus
from s2ld.training.consensus.candidates import LabelledPair
from s2ld.training.consensus.held_out import measure, measures_of
from s2ld.training.consensus.labels import UNKNOWN

CPU = torch.device("cpu")


def test_measures_are_those_of_the_ranking() -> None:
    probability = torch.tensor([0.9, 0.8, 0.6, 0.4, 0.2])
    labels = torch.tensor([1, 0, 1, 1, 0], dtype=torch.int8)
    measures = measures_of(torch.logit(probability), labels)
    assert measures["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert measures["precision_at_50"] == pytest.approx(3 / 4)  # two of three need .6, all need .4, which is better
    assert measures["precision_at_80"] == pytest.approx(3 / 4)
    assert measures["calibration_error"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.6 + 0.2) / 5, abs=1e-6)
    truth = torch.tensor([0.9, 1 - 0.8, 0.6, 0.4, 1 - 0.2]).log().mean()
    assert measures["loss"] == pytest.approx(-float(truth), rel=1e-5)


def test_pairs_are_pooled_and_unknown_candidates_left_out() -> None:
    torch.manual_seed(0)
    consensus = Consensus(defaults().MODEL.CONSENSUS, DIM).eval()
    pairs = []
    for count in (30, 12):
        labels = (torch.arange(count) % 3 - 1).to(torch.int8)
        pairs.append(LabelledPair(candidates(count), labels, "", ("", "")))
    with torch.no_grad():
        logits = torch.cat([consensus(pair.candidates, 1) for pair in pairs])
    labels = torch.cat([pair.labels for pair in pairs])
    known = labels != UNKNOWN
    assert measure(consensus, pairs, CPU) == pytest.approx(measures_of(logits[known], labels[known]))


def test_without_labels_there_is_nothing_to_measure() -> None:
    consensus = Consensus(defaults().MODEL.CONSENSUS, DIM)
    unknown = LabelledPair(candidates(5), torch.full((5,), UNKNOWN, dtype=torch.int8), "", ("", ""))
    assert measure(consensus, [unknown], CPU) == {}
    assert measure(consensus, [], CPU) == {}
