"""Signals and the loss of a process, in runs of real processes: they end soon, say why, and can go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_ddp import arguments, run_unlucky
from test_resume import content, differing, note_indices

from s2ld.cli.train.train import main
from s2ld.errors import LOST_PROCESS, TERMINATED
from s2ld.processes.peers import TRAINING

STEPS = ["TRAIN.MAX_STEPS", "5", "TRAIN.WARMUP_STEPS", "1", "TRAIN.CHECKPOINT_EVERY", "2", "DATA.VAL_PAIRS", "2"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as `run_unlucky` does: sums are rounded otherwise with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_sigterm_saves_the_step_and_the_resumed_run_is_the_uninterrupted_one(tmp_path: Path, one_thread: None) -> None:
    keys = [*STEPS, "TRAIN.ACCUMULATE", "2", "DATA.WORKERS", "1"]
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    main(arguments(tmp_path / "whole", 1, 1, *keys))
    cut = arguments(tmp_path / "cut", 1, 1, *keys)
    done = run_unlucky("all:0:2", cut)
    assert done.returncode == TERMINATED == 143, done.stderr[-3000:]
    assert f"s2ld train: SIGTERM; step 3 is saved in {tmp_path}/cut/1; go on with --resume auto" in done.stderr
    assert content(tmp_path / "cut/1/last.ckpt")["PairDataModule"] == {"step": 3, "pairs": 6}
    main([*cut, "--resume", "auto"])
    a, b = (content(tmp_path / name / "1/last.ckpt") for name in ("whole", "cut"))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "PairDataModule", "global_step"):
        assert differing(a[part], b[part]) == [], part


def test_a_bad_loss_and_a_signal_in_one_process_are_for_all_of_them(tmp_path: Path) -> None:
    command = arguments(tmp_path, 2, 1, *STEPS, "TRAIN.VALIDATE_EVERY", "2")
    done = run_unlucky(f"nan:1:1 SIGTERM:1:2 note:{tmp_path}", command)
    assert done.returncode == TERMINATED, done.stderr[-3000:]
    assert "step 1 is skipped: the gradient is not finite" in done.stderr
    saved = content(tmp_path / "2/last.ckpt")
    assert saved["PairDataModule"] == {"step": 3, "pairs": 6}
    assert saved["skipped_steps"] == 1
    assert all(value.isfinite().all() for value in saved["state_dict"].values())
    statistics = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert differing(*statistics) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_without_one_process_the_run_ends_and_goes_on_from_the_last_checkpoint(
    tmp_path: Path, rank: int, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    done = run_unlucky(f"SIGKILL:{rank}:3", arguments(tmp_path, 2, 1, *STEPS))
    assert done.returncode == (LOST_PROCESS if rank else -9), done.stderr[-3000:]
    assert done.stderr.count(TRAINING.lost) == 1
    assert "Traceback" not in done.stderr
    output = tmp_path / "2"
    assert content(output / "last.ckpt")["PairDataModule"] == {"step": 2, "pairs": 4}
    if rank:
        return
    drawn = note_indices(monkeypatch)
    again = main([*arguments(tmp_path, 1, 1, *STEPS), "--output", str(output), "--resume", "auto"])
    assert again.steps == 5
    assert drawn[:3] == [4, 5, 6]
    said = "going on after step 2, 4 pairs, not all in batches of 1: the order goes on after as many pairs"
    assert any(said in message for message in told)
    assert content(output / "last.ckpt")["PairDataModule"] == {"step": 5, "pairs": 7}
