"""TRAIN.PRECISION auto: chosen by the machine, said at the start, chosen anew where the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import write_tiny

from s2ld.cli.train.train import main
from s2ld.models.checkpoint import read_weights
from s2ld.training.loop.module import S2LDModule
from s2ld.training.loop.precision import run_precision
from s2ld.types import PairBatch


def computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch, *types: str) -> None:
    """Let devices of these types be all that compute in bfloat16."""

    def support(device: torch.device) -> tuple[bool, str]:
        return device.type in types, f"{device.type} was asked"

    monkeypatch.setattr("s2ld.training.loop.precision.bfloat16_support", support)


def test_the_device_that_trains_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    computes_in_bfloat16(monkeypatch, "cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert run_precision("auto", "auto") == ("bf16-mixed", "bf16-mixed, since this cuda was asked")
    assert run_precision("auto", "cpu") == ("32-true", "32-true, since this cpu was asked")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run_precision("auto", "auto") == ("32-true", "32-true, since this cpu was asked")


@pytest.mark.parametrize("name", ["32-true", "bf16-mixed", "16-mixed"])
def test_other_words_are_lightnings(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    computes_in_bfloat16(monkeypatch)
    assert run_precision(name, "cpu") == (name, name)


@pytest.mark.parametrize("first", [False, True])
def test_a_run_goes_on_where_the_other_precision_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str], first: bool
) -> None:
    reduced: list[bool] = []
    step = S2LDModule.training_step

    def note(module: S2LDModule, batch: PairBatch, index: int) -> Any:
        reduced.append(torch.is_autocast_enabled("cpu"))
        return step(module, batch, index)

    monkeypatch.setattr(S2LDModule, "training_step", note)
    output = tmp_path / "out"
    command = [str(write_tiny(tmp_path)), "--accelerator", "cpu", "--output", str(output), "--resume", "auto"]
    command += ["TRAIN.PRECISION", "auto", "TRAIN.WARMUP_STEPS", "1", "DATA.VAL_PAIRS", "1"]
    for steps, supported in ((1, first), (2, not first)):
        computes_in_bfloat16(monkeypatch, *(["cpu"] if supported else []))
        told.clear()
        assert main([*command, "TRAIN.MAX_STEPS", str(steps)]).steps == steps
        said = f"; {'bf16-mixed' if supported else '32-true'}, since this cpu was asked; to "
        assert sum(said in message for message in told) == 1
        kept = read_weights(output / "last.ckpt").config
        assert kept is not None
        assert kept.TRAIN.PRECISION == "auto"
    assert reduced == [first, not first]
