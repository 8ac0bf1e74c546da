"""The sections of `s2ld benchmark speed` on images so small that they take seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from s2ld.benchmarks.outcome import Outcome
from s2ld.benchmarks.sections import large, many, shift, start
from s2ld.benchmarks.sections.large import Run

pytest.importorskip("skimage")
SOURCE = Path(__file__).parents[3] / "src"


def by_title(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    return {outcome.title: outcome for outcome in outcomes}


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "run_alone", lambda work, *arguments: work(*arguments))


def test_large_times_both_networks_and_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_this_process(monkeypatch)
    monkeypatch.setattr(large, "LIMITS", {(96, 64): 1.0})
    picture = tmp_path / "growth.svg"
    found = by_title(large.measure(1, picture, {key: [(64, 64), (96, 64)] for key in ("lite", "paper")}))
    assert len(found) == 2 * (2 * 2 + 1)
    growth = found["S2LD-Lite, 64x64 to 96x64: growth of time"]
    assert growth.target == pytest.approx(2.25)
    seconds = [found[f"S2LD-Lite, {size}: CPU time"].value for size in ("64x64", "96x64")]
    assert all(value and value > 0 for value in seconds)
    assert growth.value == pytest.approx(seconds[1] / seconds[0])  # type: ignore[operator]
    assert found["paper configuration, 64x64: CPU time"].note == "64 matches"  # one a cell
    memory = found["paper configuration, 96x64: peak memory"]
    assert (memory.target, memory.holds) == (1.0, False if memory.value else None)
    assert "<svg" in picture.read_text()


def test_every_target_of_large_images_is_measured() -> None:
    measured = {(network, size) for jobs in (large.SIZES, large.LARGEST) for network in jobs for size in jobs[network]}
    assert {(network, size) for network in large.NETWORKS for size in large.LIMITS} <= measured


def test_large_growth_by_hand() -> None:
    before, after = Run((800, 600), 1.0, None, 0), Run((1600, 1200), 8.0, None, 0)
    growth = large._growth("Lite", before, after)
    assert (growth.value, growth.target, growth.holds) == (8, 16, True)
    assert growth.note == "cells' product to the power of 0.75"


def test_large_does_not_start_what_memory_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    monkeypatch.setattr(large, "available_memory", lambda: 10**8)
    (outcome,) = large.measure(1, sizes={"lite": [(640, 480)]})
    assert outcome.value is None
    assert "0.1 GB are available" in outcome.note


def test_many_counts_the_extractions() -> None:
    extractions, kept, anew, ratio = many.measure(1, images=4, size=(96, 64), every=2)
    assert (extractions.value, extractions.holds) == (4, True)
    assert extractions.title == "extractions for 6 pairs of 4 images"
    assert anew.note == "from 3 of them"
    assert ratio.value == pytest.approx(kept.value / anew.value)  # type: ignore[operator]


def test_many_notices_what_is_extracted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PairMatching", partial(many.PairMatching, limit=0))
    extractions = many.measure(1, images=3, size=(96, 64), every=2)[0]
    assert (extractions.value, extractions.holds) == (6, False)


def test_shift_tells_what_refinement_brings() -> None:
    without, refined = shift.measure(1, ("coffee",))
    assert without.value is not None
    assert refined.value is not None
    assert refined.value < 0.5 * without.value
    assert (without.target, refined.target) == (None, shift.LARGEST)
    assert refined.note.count(",") == 7


def test_start_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter([9.0, 1.0, 4.0, 2.0])
    monkeypatch.setattr(start, "_first_match", lambda threads: dict.fromkeys(("wall", "cpu", "load"), next(runs)))
    wall, cpu, load = start.measure(1, 3)
    assert (wall.value, cpu.value, load.value) == (2, 2, 2)
    assert (wall.holds, load.holds, wall.note) == (True, False, "1.00 to 4.00 s")


def test_the_demo_runs_to_its_first_match() -> None:
    numbers = start._first_match(1)
    assert numbers["matches"] > 100
    assert 0 < numbers["load"] < numbers["wall"]
    assert numbers["cpu"] > 0


def test_the_demo_says_why_it_does_not_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2ld.cli.benchmarks.first_match", "0", str(tmp_path / "file" / "out")]
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == ""
    assert "cannot create this output folder" in done.stderr
