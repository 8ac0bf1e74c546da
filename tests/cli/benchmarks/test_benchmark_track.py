"""`s2ld benchmark track`: its table, and bad arguments."""

from __future__ import annotations

import pytest

pytest.importorskip("skimage")
from s2ld.benchmarks import tracking
from s2ld.benchmarks.outcome import Outcome
from s2ld.cli.benchmarks.track import script


def test_the_table_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def measured(*arguments: object) -> list[Outcome]:
        asked.append(arguments)
        return [Outcome("frames a second", 7.0, "", 6.0, True)]

    monkeypatch.setattr(tracking, "measure", measured)
    assert script(["--frames", "5", "--jobs", "3", "--threads", "1"]) == 0
    assert asked == [(5, 3, 1, 480, "auto")]
    shown = capsys.readouterr().out
    assert "3 frame(s) at a time" in shown
    assert "| frames a second | 7        | at least 6 | yes   |" in shown


@pytest.mark.parametrize("option", ["--frames", "--jobs", "--threads"])
def test_numbers_below_one_are_one_line(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert script([option, "0"]) == 2
    assert capsys.readouterr().err == f"s2ld benchmark track: {option} must be at least 1, not 0\n"
