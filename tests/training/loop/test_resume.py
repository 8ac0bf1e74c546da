"""A run that stops and goes on is the run that did not stop, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import write_tiny

from s2ld.cli.train.train import main
from s2ld.config import config_from_text
from s2ld.data.datamodule import PairDataModule
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import read_weights
from s2ld.training.loop.run import TrainResult

STEPS = [
    *("TRAIN.ACCUMULATE", "2", "TRAIN.WARMUP_STEPS", "1", "TRAIN.VALIDATE_EVERY", "2"),
    *("DATA.VAL_PAIRS", "1", "MODEL.MATCH.THRESHOLD", "0.01"),
]


def run(folder: Path, *arguments: str, steps: int = 4, batch: int = 1) -> TrainResult:
    own = ["TRAIN.MAX_STEPS", str(steps), "DATA.BATCH_SIZE", str(batch)]
    return main([str(write_tiny(folder)), "--accelerator", "cpu", *arguments, *STEPS, *own])


def note_indices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills up with the indices of the training pairs that are drawn."""
    drawn: list[int] = []
    original = HomographyPairs.__getitem__

    def note(source: HomographyPairs, index: int) -> Any:
        if len(source) > 1:  # not the validation
            drawn.append(index)
        return original(source, index)

    monkeypatch.setattr(HomographyPairs, "__getitem__", note)
    return drawn


def content(path: Path) -> dict[str, Any]:
    """Read a checkpoint as strictly as a resume does: nothing but tensors and plain values."""
    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def differing(a: Any, b: Any, where: str = "") -> list[str]:
    """Return where two nested containers of tensors and plain values are not exactly the same."""
    if isinstance(a, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [where]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [where]
        return [bad for key in a for bad in differing(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [where]
        return [bad for i, pair in enumerate(zip(a, b, strict=True)) for bad in differing(*pair, f"{where}/{i}")]
    return [] if a == b else [where]


def test_two_and_two_steps_are_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = note_indices(monkeypatch)
    whole = run(tmp_path, "--output", str(tmp_path / "whole"))
    order = drawn[:]
    drawn.clear()

    halves = tmp_path / "halves"
    monkeypatch.setattr("s2ld.training.loop.callbacks.TimeLimit.on_train_batch_end", stop_after_two_steps)
    half = run(tmp_path, "--output", str(halves), "--max-time", "1")
    assert half.steps == 2
    first = drawn[:]
    drawn.clear()
    rest = run(tmp_path, "--output", str(halves), "--resume", "auto")

    assert rest.steps == whole.steps == 4
    # Lightning fetches one batch ahead, which a stop throws away
    assert order[:8] == list(range(8))
    assert first[:4] + drawn[:4] == order[:8]
    a, b = content(tmp_path / "whole" / "last.ckpt"), content(halves / "last.ckpt")
    assert differing(a["state_dict"], b["state_dict"]) == []
    assert differing(a["optimizer_states"], b["optimizer_states"]) == []
    assert differing(a["lr_schedulers"], b["lr_schedulers"]) == []
    assert a["global_step"] == b["global_step"] == 4
    assert a["PairDataModule"] == b["PairDataModule"] == {"step": 4, "pairs": 8}
    assert any(name.startswith("average.") for name in a["state_dict"])
    assert whole.metrics["loss/total"] == rest.metrics["loss/total"]
    assert whole.weights is not None
    assert rest.weights is not None
    assert differing(read_weights(whole.weights).state, read_weights(rest.weights).state) == []


def stop_after_two_steps(_: Any, trainer: Any, *__: Any) -> None:
    trainer.should_stop = trainer.global_step >= 2


def test_a_run_of_epochs_ends_with_its_pairs_also_with_another_batch_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PairDataModule, "epoch_pairs", 4)
    output = ["--output", str(tmp_path / "run")]
    assert run(tmp_path, *output, "TRAIN.EPOCHS", "2").steps == 4
    longer = [*output, "--resume", "auto", "TRAIN.EPOCHS", "4"]
    assert run(tmp_path, *longer, steps=1, batch=2).steps == 4 + 2
    assert content(tmp_path / "run/last.ckpt")["PairDataModule"] == {"step": 6, "pairs": 16}
    (schedule,) = content(tmp_path / "run/last.ckpt")["lr_schedulers"]
    assert schedule["base_lrs"][0] == pytest.approx(2.5e-4 * 4 / 2)


def test_checkpoints_hold_the_config_and_refuse_another_network(tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = run(tmp_path, "--output", str(output), "TRAIN.CANONICAL_LR", "0.03")
    assert {path.name for path in output.iterdir()} >= {"last.ckpt", "best.ckpt", "s2ld.safetensors", "tensorboard"}
    assert config_from_text(content(output / "last.ckpt")["s2ld_config"], "checkpoint").TRAIN.CANONICAL_LR == 0.03
    assert content(output / "best.ckpt")["global_step"] in (2, 4)
    assert result.metrics["val/score"] >= 0
    with pytest.raises(S2LDError, match="another MODEL"):
        run(tmp_path, "--output", str(output), "--resume", "auto", "MODEL.ADJUSTER.HIDDEN_DIM", "16")
    with pytest.raises(S2LDError, match="holds a run already"):
        run(tmp_path, "--output", str(output))


def test_a_folder_that_another_run_writes_to_is_left_alone(tmp_path: Path, take_output: Callable[[Path], None]) -> None:
    take_output(tmp_path / "run")
    with pytest.raises(S2LDError, match="another process is writing to this output"):
        run(tmp_path, "--output", str(tmp_path / "run"))
    assert list((tmp_path / "run").iterdir()) == []


def test_a_file_that_could_execute_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "payload": tmp_path.joinpath}, path)
    with pytest.raises(S2LDError, match=r"evil\.ckpt"):
        run(tmp_path, "--output", str(tmp_path / "run"), "--resume", str(path))
