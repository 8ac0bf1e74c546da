"""`s2ld benchmark web`: clients of a real server with the shipped weights, and what is counted."""

from __future__ import annotations

import pytest

from s2ld.benchmarks.web_load import Answer, Load
from s2ld.cli.benchmarks.web import main, script

pytest.importorskip("starlette", reason="the extra web is not installed")


def test_clients_are_all_answered(capsys: pytest.CaptureFixture[str]) -> None:
    load = main(["--requests", "3", "--clients", "2", "--resize", "160"])
    assert [answer.status for answer in load.answers] == [200] * 3
    assert load.lost == 0
    assert min(answer.matches for answer in load.answers) > 20
    assert load.idle > 50
    assert "requests: 3, lost: 0" in capsys.readouterr().out


def test_answers_without_matches_are_lost() -> None:
    answers = [Answer(200, 9, 1.0, 300.0), Answer(200, 0, 2.0, 300.0), Answer(503, 0, 3.0, 310.0), Answer(0, 0, 4, 310)]
    load = Load(tuple(answers), 2.0, 200.0)
    assert load.lost == 3
    lines = load.lines()
    assert lines[1] == "rate: 2.00 pairs a second"
    assert "median 2.50 s" in lines[2]
    assert lines[3] == "memory: 200 MiB before, 300 in the second quarter, 310 in the last, 310 at most"


def test_bad_numbers_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert script(["--clients", "0"]) == 2
    assert capsys.readouterr().err == "s2ld benchmark web: --clients must be at least 1, not 0\n"
