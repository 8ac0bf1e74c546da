"""What a real run logs is what the learning curves are drawn from."""

from __future__ import annotations

from pathlib import Path

from tiny_runs import write_tiny

from s2ld.cli.train.train import main
from s2ld.training.history import read_history


def test_a_run_in_two_chunks_is_one_curve(tmp_path: Path) -> None:
    few = ["DATA.VAL_PAIRS", "1", "TRAIN.FIGURES", "0", "TRAIN.VALIDATE_EVERY", "2"]
    chunk = [str(write_tiny(tmp_path)), "--output", str(tmp_path), "--accelerator", "cpu", "--resume", "auto", *few]
    for steps in ("2", "5"):
        main([*chunk, "TRAIN.MAX_STEPS", steps])
    history = read_history([tmp_path])
    assert history.phases == [10]
    assert history.curves["loss/total"].pairs.tolist() == [2, 4, 6, 8, 10]
    assert history.curves["val/score"].pairs.tolist() == [4, 8]
    assert history.rate() > 0
    waiting = history.curves["train/waiting"].values
    assert len(waiting) == 5
    assert ((waiting > 0) & (waiting < 1)).all()
