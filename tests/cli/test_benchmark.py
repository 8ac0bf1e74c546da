"""`scripts/benchmark.py` on images so small that it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from s2ld.cli import benchmark
from s2ld.cli.benchmark import KEYS, Measured, main, script, to_table
from s2ld.evaluation import timing

TINY = ["--size", "64", "64", "--rounds", "1", "--matches", "4", "--threads", "1"]


def test_keys_are_those_of_the_rows_and_the_yardstick_comes_first() -> None:
    assert list(timing.ROWS) == list(KEYS)
    assert KEYS[0] == timing.YARDSTICK
    targets = {key: (row.time, row.memory, row.megabytes) for key, row in timing.ROWS.items()}
    assert targets["paper"] == (0.85, 0.6, None)
    assert targets["paper-bf16"] == (0.5, 0.6, None)
    assert targets["lite"] == (0.05, None, 400)


def test_rows_protocol_and_file_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = main([*TINY, "--rows", "lite", "--no-memory", "--stages", "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert [row.key for row in rows] == ["loftr", "lite"]
    assert rows[0].ratio == 1
    assert all(row.seconds > 0 for row in rows)
    for part in ("64x64 px", "1 thread(s)", "4 evenly spread", "1 rounds", "| S2LD-Lite"):
        assert part in printed
    assert printed.count("| sparse matching ") == 2
    content = json.loads((tmp_path / "out.json").read_text())
    assert [row["seconds"] for row in content["rows"]] == [row.seconds for row in rows]
    assert content["rows"][1]["holds"] == {"time": rows[1].ratio <= 0.05, "memory": None}


@pytest.mark.skipif(not timing.STATUS.exists(), reason="Linux tells the peak")
def test_peak_memory_is_that_of_a_process_that_knows_nothing_of_this_one() -> None:
    held = torch.zeros(2**28)  # 1 GB, all of it in memory
    peak = timing.peak_memory("lite", (64, 64), 4, 1)
    assert peak is not None
    assert 50 < peak < held.nbytes / 1e6


def test_memory_by_share_of_the_yardstick(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"loftr": 1000.0, "paper": 601.0}
    monkeypatch.setattr(timing, "peak_memory", lambda key, *_: peaks[key])
    monkeypatch.setitem(
        timing.ROWS, "paper", timing.Row("", lambda _: lambda *images: timing.Points(*images), 2.0, 0.6)
    )
    monkeypatch.setattr(
        "s2ld.evaluation.benchmark.time_interleaved", lambda rows, *_: {key: [1.0, 2.0] for key in peaks}
    )
    args = benchmark.build_parser().parse_args(TINY)
    paper = benchmark.measure(["loftr", "paper"], args, 1)[1]
    assert (paper.ratio, paper.seconds, paper.memory_target) == (1, 1.5, 600)
    assert paper.verdicts() == (True, False)


def test_table_says_what_holds_and_what_was_not_measured() -> None:
    row = Measured("k", "a", 2.0, 0.9, 0.85, None, 400.0)
    unmeasured, held = to_table([row, Measured("k", "b", 2.0, 0.8, 0.85, 300.0, 400.0)]).splitlines()[2:]
    assert [cell.strip() for cell in unmeasured.strip("|").split("|")] == [
        "a",
        "2.000",
        "0.900",
        "0.85",
        "no",
        "-",
        "400",
        "-",
    ]
    assert [cell.strip() for cell in held.strip("|").split("|")] == [
        "b",
        "2.000",
        "0.800",
        "0.85",
        "yes",
        "300",
        "400",
        "yes",
    ]


@pytest.mark.parametrize("key", KEYS)
def test_every_row_refines_the_matches_that_it_is_given(key: str) -> None:
    """Whatever a network finds, its fine stage gets as many matches, at most one a cell."""
    for asked, given in ((5, 5), (1000, 64)):
        match = timing.ROWS[key].build(asked)
        with torch.inference_mode():
            found = match(*timing.noise((64, 64), 0))
        assert found.points0.shape == found.points1.shape == (given, 2)
        assert bool(found.points1.isfinite().all())


def test_bad_input_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for extra, said in (
        (["--rounds", "0"], "--rounds"),
        (["--rows", "paper,light"], "'light'"),
        (["--size", "60", "480"], "multiples of 8"),
        (["--size", "32", "480"], "at least 64"),
    ):
        assert script([*TINY, *extra]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert error[0].startswith("benchmark.py: ")
        assert said in error[0]
