"""What the clock of the training counts, and that nothing but the pairs given is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import OnePair, tiny_config

from s2ld.benchmarks import throughput
from s2ld.benchmarks.throughput import training_rate
from s2ld.data.sources.by_name import build_source
from s2ld.data.sources.mixture import ReadyPairs


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Counted(OnePair):
    """Each pair takes three seconds of the test's clock."""

    clock: Time
    taken = 0

    def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
        self.taken += 1
        self.clock.now += 3.0
        return super().__getitem__(index)


def test_waiting_is_the_time_between_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path)
    clock, source = Time(), Counted(build_source("homography", config, "train"), 0)
    source.clock = clock
    monkeypatch.setattr(throughput, "time", clock)
    rate = training_rate(config, 3, "cpu", source)
    assert rate.pairs == pytest.approx(1 / 3)
    assert rate.waiting == pytest.approx(1.0)
    assert source.taken >= 2 * (throughput.WARMUP_STEPS + 3)


def test_ready_pairs_go_round() -> None:
    pairs = ReadyPairs(["a", "b"])  # type: ignore[list-item]
    assert [pairs[index] for index in range(4)] == ["a", "b", "a", "b"]
    assert len(pairs) > 10**9
