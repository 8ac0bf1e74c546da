"""A step that is not finite leaves no trace but its number; many in a row end the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from test_module import fit
from test_resume import content, differing, note_indices, stop_after_two_steps
from test_resume import run as run_command
from tiny_runs import tiny_config
from torch import Tensor, nn

from s2ld.data.sources.by_name import build_source
from s2ld.errors import S2LDError
from s2ld.training.loop.module import S2LDModule

pytestmark = pytest.mark.filterwarnings("ignore:.*(in eval mode|LeafSpec|across ranks is zero)")


def break_steps(monkeypatch: pytest.MonkeyPatch, bad: set[int], how: str) -> None:
    """Make these optimiser steps go wrong: an image, the loss, or its gradient is not finite."""
    original = S2LDModule.training_step

    def step(module: S2LDModule, batch: Any, batch_idx: int) -> Tensor:
        if module.global_step not in bad:
            return original(module, batch, batch_idx)
        if how == "image":
            batch.view0.images.image[:] = torch.inf
        loss = original(module, batch, batch_idx)
        first = next(p for p in module.matcher.parameters() if p.requires_grad)
        if how == "gradient":  # of a loss that is finite: the root of 0
            return loss + (0 * first).square().sum().sqrt()
        return loss * torch.nan if how == "loss" else loss

    monkeypatch.setattr(S2LDModule, "training_step", step)


def snapshot(module: S2LDModule, trainer: pl.Trainer) -> list[dict[str, Any]]:
    optimizer = trainer.optimizers[0].state_dict()["state"]
    copied = {k: {name: value.clone() for name, value in state.items()} for k, state in optimizer.items()}
    return [{name: value.clone() for name, value in module.state_dict().items()}, copied]


class States(pl.Callback):
    """Keeps the state after each step."""

    def __init__(self) -> None:
        self.after: list[list[dict[str, Any]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.after.append(snapshot(pl_module, trainer))


@pytest.mark.parametrize("how", ["image", "loss", "gradient"])
def test_a_bad_step_changes_nothing_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    break_steps(monkeypatch, {1}, how)
    config = tiny_config(tmp_path, "TRAIN.MAX_STEPS", "3", "TRAIN.WARMUP_STEPS", "0")
    module, states = S2LDModule(config), States()
    trainer = fit(module, config, train=build_source("homography", config, "train"), callbacks=[states])
    first, second, third = states.after
    assert differing(first, second) == []  # weights, statistics, average and moments
    assert differing(second, third) != []
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert trainer.global_step == 3
    assert module.skipped_steps == 1
    assert float(trainer.callback_metrics["train/skipped_steps"]) == 1


def test_a_step_of_half_precision_is_skipped_by_its_scaler_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_steps(monkeypatch, {1}, "loss")
    config = tiny_config(tmp_path, "TRAIN.MAX_STEPS", "3", "TRAIN.WARMUP_STEPS", "0")
    module, states = S2LDModule(config), States()
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    source = build_source("homography", config, "train")
    fit(module, config, train=source, callbacks=[states], plugins=[precision])
    assert precision.scaler is not None
    assert precision.scaler.get_scale() == 512
    assert module.skipped_steps == 1
    assert differing(states.after[0], states.after[1]) == []
    assert differing(states.after[1], states.after[2]) != []


@pytest.mark.parametrize(
    ("stage", "broken", "what"),
    [
        ("matcher", "weights", "a keypoint is not finite"),
        ("detector", "weights", "a keypoint is not finite"),
        ("matcher", "loss", "the loss is not finite"),
    ],
)
def test_bad_steps_that_persist_stop_with_one_line(tmp_path: Path, stage: str, broken: str, what: str) -> None:
    weight = "1e300" if broken == "loss" else "1.0"
    keys = ["TRAIN.STAGE", stage, "TRAIN.MAX_BAD_STEPS", "3", "LOSS.COARSE_WEIGHT", weight]
    config = tiny_config(tmp_path, *keys)
    module = S2LDModule(config)
    if broken == "weights":
        nn.init.constant_(next(module.matcher.parameters()), float("nan"))
    with pytest.raises(S2LDError, match=rf"^step 2: {what} .*3 step\(s\) in a row; .*CANONICAL_LR.*$"):
        fit(module, config, train=build_source("homography", config, "train"))


def test_a_resume_after_a_skipped_step_repeats_and_misses_no_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = note_indices(monkeypatch)
    break_steps(monkeypatch, {1}, "loss")
    run_command(tmp_path, "--output", str(tmp_path / "whole"))
    assert drawn[:8] == list(range(8))
    with monkeypatch.context() as patch:
        patch.setattr("s2ld.training.loop.callbacks.TimeLimit.on_train_batch_end", stop_after_two_steps)
        run_command(tmp_path, "--output", str(tmp_path / "halves"), "--max-time", "1")
    drawn.clear()
    run_command(tmp_path, "--output", str(tmp_path / "halves"), "--resume", "auto")
    assert drawn[:4] == [4, 5, 6, 7]
    a, b = content(tmp_path / "whole/last.ckpt"), content(tmp_path / "halves/last.ckpt")
    assert differing(a["state_dict"], b["state_dict"]) == []
    assert a["skipped_steps"] == b["skipped_steps"] == 1
    assert a["PairDataModule"] == b["PairDataModule"] == {"step": 4, "pairs": 8}
