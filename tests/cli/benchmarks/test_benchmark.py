"""`s2ld benchmark speed` and its section `pair` on images so small that it takes seconds."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s2ld.benchmarks import timing
from s2ld.benchmarks.outcome import Outcome
from s2ld.benchmarks.own_process import STATUS, run_alone
from s2ld.benchmarks.sections.pair import KEYS, Measured, measure, to_table
from s2ld.benchmarks.sections.run import SECTIONS, Section, outcome_table, run
from s2ld.cli.benchmarks import speed as benchmark
from s2ld.cli.benchmarks.speed import main, script
from s2ld.errors import S2LDError

TINY = ["--sections", "pair", "--size", "64", "64", "--rounds", "1", "--matches", "4", "--threads", "1"]


def test_keys_are_those_of_the_rows_and_the_yardstick_comes_first() -> None:
    assert list(timing.ROWS) == list(KEYS)
    assert KEYS[0] == timing.YARDSTICK
    targets = {key: (row.time, row.memory, row.megabytes) for key, row in timing.ROWS.items()}
    assert targets["paper"] == (0.85, 0.6, None)
    assert targets["paper-bf16"] == (0.5, 0.6, None)
    assert targets["lite"] == (0.05, None, 400)


def test_rows_protocol_and_file_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, left_out = main([*TINY, "--rows", "lite", "--no-memory", "--stages", "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    rows = content["pair"]["rows"]
    assert left_out == 0
    assert [row["key"] for row in rows] == ["loftr", "lite"]
    assert rows[0]["ratio"] == 1
    assert all(row["seconds"] > 0 for row in rows)
    for part in ("64x64 px", "1 thread(s)", "4 evenly spread", "1 rounds", "| S2LD-Lite"):
        assert part in printed
    assert printed.count("| sparse matching ") == 2
    assert json.loads((tmp_path / "out.json").read_text()) == content
    assert rows[1]["holds"] == {"time": rows[1]["ratio"] <= 0.05, "memory": None}


def measure_nothing(threads: int, rounds: int) -> list[Outcome]:
    """Nothing.

    In no time.

    Raises:
        S2LDError: never.
    """
    return [Outcome("threads", threads, "", 2), Outcome("rounds", rounds, "runs", 9, at_least=True, note="counted")]


def refuse() -> list[Outcome]:
    raise S2LDError("nothing is installed")


def fake_sections(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    sections = {name: Section(f"title of {name}", f"{__name__}:{name}", 0) for name in names}
    monkeypatch.setattr(benchmark, "SECTIONS", sections)


def test_every_section_has_its_function_and_says_its_protocol() -> None:
    for key, section in SECTIONS.items():
        module, _, name = section.function.partition(":")
        function = getattr(importlib.import_module(module), name)
        assert key == "pair" or inspect.signature(function).return_annotation == "list[Outcome]"
        assert key == "pair" or function.__doc__
        needed = {name for name, one in inspect.signature(function).parameters.items() if one.default is one.empty}
        assert key == "pair" or needed <= {"threads", "rounds"}


def test_sections_whose_rounds_take_minutes_do_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_sections(monkeypatch, "measure_nothing")
    monkeypatch.setattr(benchmark, "SECTIONS", {"slow": replace(benchmark.SECTIONS["measure_nothing"], most_rounds=2)})
    for asked, done in ((5, 2), (1, 1)):
        content, _ = main(["--sections", "slow", "--threads", "1", "--rounds", str(asked)])
        assert [one["value"] for one in content["slow"]["outcomes"] if one["title"] == "rounds"] == [done]


def test_a_section_takes_the_options_that_it_names() -> None:
    section = Section("", f"{__name__}:measure_nothing", 0)
    report = run(section, {"threads": 3, "rounds": 7, "picture": None})
    assert report.protocol == ["Nothing.", "In no time."]
    assert [outcome.value for outcome in report.outcomes] == [3, 7]
    assert [outcome["holds"] for outcome in report.content()["outcomes"]] == [False, False]


def test_what_cannot_be_run_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_sections(monkeypatch, "refuse", "measure_nothing")
    assert script(["--threads", "1", "--json", str(tmp_path / "out.json")]) == 1
    printed, told = capsys.readouterr()
    assert "left out: nothing is installed" in told
    assert "## measure_nothing: title of measure_nothing" in printed
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["refuse"] == {"left_out": "nothing is installed"}
    assert content["measure_nothing"]["outcomes"][0]["value"] == 1
    assert script(["--threads", "1", "--sections", "measure_nothing"]) == 0
    assert "refuse" not in capsys.readouterr().out


def test_outcomes_as_a_table() -> None:
    outcomes = [
        Outcome("a", 2.34567, "s", 3),
        Outcome("b", None, "MB", 3000, note="not here"),
        Outcome("c", 12345.6, "MB", 3000),
        Outcome("d", 20, "", 20, at_least=True),
        Outcome("e", 0.5, ""),
    ]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in outcome_table(outcomes).splitlines()]
    assert cells[2:] == [
        ["a", "2.35 s", "at most 3 s", "yes", ""],
        ["b", "-", "at most 3,000 MB", "-", "not here"],
        ["c", "12,346 MB", "at most 3,000 MB", "no", ""],
        ["d", "20", "at least 20", "yes", ""],
        ["e", "0.5", "-", "-", ""],
    ]


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from s2ld.cli.benchmarks.speed import build_parser; build_parser(); print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"


def end_badly() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(S2LDError, match="was killed"):
        run_alone(end_badly)


@pytest.mark.skipif(not STATUS.exists(), reason="Linux tells the peak")
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
        "s2ld.benchmarks.matchers.time_interleaved", lambda rows, *_: {key: [1.0, 2.0] for key in peaks}
    )
    args = benchmark.build_parser().parse_args(TINY)
    paper = measure(["loftr", "paper"], args, 1)[1]
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
        (["--sections", "pair,small"], "'small'"),
        (["--matches", "0"], "--matches"),
        (["--picture", "growth.bmp"], "must end in .png, .svg, .pdf"),
        (["--size", "60", "480"], "multiples of 8"),
        (["--size", "32", "480"], "at least 64"),
    ):
        assert script([*TINY, *extra]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert error[0].startswith("s2ld benchmark speed: ")
        assert said in error[0]
