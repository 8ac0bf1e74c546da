"""The training measurements with a network and images so small that they take seconds; no time is asserted."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_runs import small_config

from s2ld.benchmarks import training_step
from s2ld.benchmarks.training_step import exact_gradients, gradient_difference, measure_loading, measure_training
from s2ld.config import config_to_text


def test_both_steps_learn_the_same_from_the_same_start() -> None:
    text = config_to_text(small_config())
    ours, slow = exact_gradients(False, text, 1), exact_gradients(True, text, 1)
    assert ours.keys() == slow.keys()
    assert all(gradient.dtype == np.float64 for gradient in ours.values())
    assert gradient_difference(ours, slow)[0] < 1e-6


def test_the_gradient_differs_as_a_whole_and_at_its_worst() -> None:
    reference = {
        "a": np.array([3.0, 4.0], np.float32),
        "b": np.array([[1.0]], np.float32),
        "c": np.zeros(2, np.float32),
    }
    ours = {"a": np.array([3.0, 4.5], np.float32), "b": np.array([[0.8]], np.float32), "c": np.zeros(2, np.float32)}
    together, worst, name = gradient_difference(ours, reference)
    assert (together, worst, name) == (pytest.approx((0.29 / 26) ** 0.5), pytest.approx(0.2), "b")


def test_training_outcomes_have_their_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "GRADIENT_SIZE", (96, 64))
    monkeypatch.setattr(training_step, "run_alone", lambda work, *arguments: work(*arguments))
    outcomes = measure_training(1, 1, (96, 64), small_config())
    asked = [(outcome.target, outcome.at_least) for outcome in outcomes if outcome.target is not None]
    assert asked == 2 * [(1.5, True), (0.5, False), (1e-6, False)]
    assert len({outcome.title for outcome in outcomes}) == len(outcomes) == 2 + 2 * 5 + 3 * 3
    for outcome in outcomes:
        assert outcome.value is not None
        assert outcome.holds if "difference" in outcome.title else outcome.value > 0


def test_loading_measures_pairs_of_scenes_that_it_writes() -> None:
    outcomes = measure_loading((64, 64), pairs=3)
    assert len(outcomes) == 2
    assert all(outcome.value is not None and outcome.value > 0 for outcome in outcomes)
