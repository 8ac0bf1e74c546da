"""Curves over the chunks and phases of a run, from logs whose slopes are known."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from s2ld.cli.train.learning_curves import main, script
from s2ld.training.history import PAIRS, RATE, read_history

BATCH = 8


def write_chunk(folder: Path, first: int, last: int, before: int) -> None:
    """Write the logs of steps `first` to `last`: a score that grows by 0.05 a doubling of all pairs seen."""
    with SummaryWriter(str(folder / "tensorboard")) as logs:
        for step in range(first, last + 1):
            pairs = step * BATCH
            logs.add_scalar(PAIRS, pairs, step)
            logs.add_scalar(RATE, 16.0, step)
            logs.add_scalar("loss/total", 1 / step, step)
            if step % 4 == 0:
                logs.add_scalar("val/score", 0.1 + 0.05 * math.log2(before + pairs), step)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    folders = [tmp_path / "1", tmp_path / "2"]
    write_chunk(folders[0], 1, 20, 0)
    write_chunk(folders[0], 17, 40, 0)  # a resume from a checkpoint of step 16
    write_chunk(folders[1], 1, 40, 40 * BATCH)
    return [str(folder) for folder in folders]


def test_phases_and_chunks_make_one_curve(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "curves.png"
    history = main([*runs, "--output", str(picture)])
    assert history.phases == [320, 640]
    score = history.curves["val/score"]
    assert score.pairs.tolist() == [32 * i for i in range(1, 21)]
    assert score.slope() == pytest.approx(0.05, rel=1e-3)
    assert history.rate() == 16
    assert history.gain("val/score", 40) == pytest.approx(0.05, rel=1e-3)  # 640 pairs more
    printed = capsys.readouterr().out
    assert "640 pairs in 2 phase(s), 16 pairs/s" in printed
    assert "| val/score | 0.35 | 0.5661 | +0.05 | +0.33 |" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_too_few_points_have_no_slope(runs: list[str]) -> None:
    assert math.isnan(read_history([Path(runs[0])]).curves["val/score"].slope(0.15))


def test_what_a_short_run_does_not_tell_is_left_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SummaryWriter(str(tmp_path / "tensorboard")) as logs:
        for step in (1, 2):
            logs.add_scalar(PAIRS, step * BATCH, step)
            logs.add_scalar("loss/total", 1 / step, step)
        logs.add_scalar("val/score", math.nan, 2)
    main([str(tmp_path), "--output", str(tmp_path / "curves.png")])
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert "16 pairs in 1 phase(s), - pairs/s in the last" in printed
    assert "| loss/total | 1 | 0.5 | - | - |" in printed
    assert "| val/score | - | - | - | - |" in printed
    assert "-: logged too rarely; a slope takes 3 values in the second half of the pairs" in printed


def test_bad_input_is_one_line(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([str(tmp_path)], [*runs, "--hours", "0"]):
        assert script(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
