"""`s2ld benchmark ladder` on two tiny sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s2ld.benchmarks import matchers as benchmark
from s2ld.cli.benchmarks.ladder import main, script

SET = """
DATA:
  TEST_SOURCE: {source}
  TEST_PAIRS: 2
  IMAGE_SIZE: [96, 64]
  WORKERS: 0
  SYNTHETIC: {{TEXTURE_SIDE: 64, SUPERSAMPLE: 1}}
EVAL:
  ESTIMATORS: [opencv]
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(benchmark, "TIMED_SIZE", (96, 64))
    for name, source in (("rooms", "synthetic"), ("walls", "homography")):
        (tmp_path / f"{name}.yaml").write_text(SET.format(source=source))
    sets = [str(tmp_path / f"{name}.yaml") for name in ("rooms", "walls")]
    options = ["--others", "sift", "--device", "cpu", "--threads", "1", "--rounds", "1"]
    return [*options, "--output", str(tmp_path / "out"), "DATA.VAL_SETS", str([*sets, "configs/data/posed_pairs.yaml"])]


def test_every_set_has_its_table(command: list[str], tmp_path: Path, told: list[str]) -> None:
    done, left_out = main([*command, "EVAL.REPEATS", "3", "EVAL.BOOTSTRAP", "0"])
    assert {name: [row.name for row in rows] for name, rows in done.items()} == {
        "rooms": ["s2ld-lite", "SIFT"],
        "walls": ["s2ld-lite", "SIFT"],
    }
    assert left_out == 1
    assert any("left out: posed_pairs: " in line and "DATA.POSED_PAIRS.ROOT" in line for line in told)
    text = (tmp_path / "out/ladder.md").read_text()
    assert text.index("## rooms") < text.index("## walls")
    assert text.count("| SIFT ") == 2
    content = json.loads((tmp_path / "out/ladder.json").read_text())
    sift = content["sets"]["walls"]["matchers"][1]
    assert (sift["matcher"], sift["matches"]) == ("SIFT", done["walls"][1].numbers["matches"])
    assert content["sets"]["rooms"]["protocol"]["estimators"][0]["repeats"] == 3


def test_bad_input_is_one_line_and_status_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    only = [*command[:-1], "['configs/data/posed_pairs.yaml']"]
    for arguments, said in (
        (only, "no set could be measured"),
        ([*command[:-1], "[]"], "DATA.VAL_SETS is empty"),
        ([*command, "--limit", "0"], "--limit"),
        ([*command, "--weight", "absent.pt"], "absent.pt"),
    ):
        assert script(arguments) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
        assert len(lines) == 1
        assert lines[0].startswith("s2ld benchmark ladder: ")
        assert said in lines[0]
