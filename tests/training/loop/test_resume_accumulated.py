"""Whatever ends a run that accumulates batches, and however often, the losses after it are those without the end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from test_resume import content, differing
from tiny_runs import write_tiny
from torch import Tensor

from s2ld.cli.status import Stopped
from s2ld.cli.train.train import main
from s2ld.errors import S2LDError
from s2ld.training.loop.module import S2LDModule

STEPS = 3


class Machine:
    """Notes the loss of each micro-batch by its step and place in it, and takes a run away amid one of them.

    Args:
        accumulate: micro-batches of a step.
    """

    def __init__(self, accumulate: int) -> None:
        self.accumulate = accumulate
        self.losses: dict[tuple[int, int], float] = {}
        self.end: tuple[str, int] | None = None
        """SIGTERM or SIGKILL, and before which micro-batch of this part of the run."""
        self.batches = 0
        self._step = S2LDModule.training_step

    def step(self, module: S2LDModule, batch: object, batch_idx: int) -> Tensor:
        if self.end == ("SIGKILL", self.batches):
            raise S2LDError("the machine is taken away")  # nothing is written any more, as after a SIGKILL
        if self.end == ("SIGTERM", self.batches):
            os.kill(os.getpid(), signal.SIGTERM)
        self.batches += 1
        loss = self._step(module, batch, batch_idx)  # type: ignore[arg-type]
        self.losses[module.global_step, batch_idx % self.accumulate] = loss.item()
        return loss

    def run(self, folder: Path, *arguments: str, end: tuple[str, int] | None = None) -> None:
        self.end, self.batches = end, 0
        keys = [
            *("TRAIN.ACCUMULATE", str(self.accumulate), "TRAIN.MAX_STEPS", str(STEPS), "TRAIN.CHECKPOINT_EVERY", "1"),
            *("TRAIN.WARMUP_STEPS", "1", "DATA.VAL_PAIRS", "1", "DATA.BATCH_SIZE", "1"),
        ]
        main([str(write_tiny(folder)), "--accelerator", "cpu", "--output", str(folder / "run"), *keys, *arguments])


@pytest.mark.parametrize(
    ("accumulate", "ends"),
    [
        (2, [("SIGKILL", 3), ("SIGKILL", 1)]),
        (3, [("SIGTERM", 1), ("SIGKILL", 1), ("SIGTERM", 1)]),
    ],
)
def test_losses_after_kills_amid_a_step_are_those_without_kills(
    tmp_path: Path, accumulate: int, ends: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = Machine(accumulate), Machine(accumulate)
    for machine, name in ((whole, "whole"), (cut, "cut")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(S2LDModule, "training_step", lambda *args, to=machine: to.step(*args))
        for number, end in enumerate(ends if machine is cut else []):
            with pytest.raises((S2LDError, Stopped)):
                machine.run(tmp_path / name, *(["--resume", "auto"] if number else []), end=end)
        machine.run(tmp_path / name, "--resume", "auto")
    assert len(whole.losses) == STEPS * accumulate
    assert cut.losses == whole.losses
    a, b = (content(tmp_path / name / "run/last.ckpt") for name in ("whole", "cut"))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "PairDataModule", "global_step"):
        assert differing(a[part], b[part]) == [], part


def test_a_resume_with_another_accumulation_begins_with_a_whole_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for accumulate, batches in ((1, 1), (2, 4)):  # one step of one micro-batch, then two of two
        machine = Machine(accumulate)
        monkeypatch.setattr(S2LDModule, "training_step", lambda *args, to=machine: to.step(*args))
        steps = ["TRAIN.MAX_STEPS", "1"] if accumulate == 1 else []
        machine.run(tmp_path, "--resume", "auto", *steps)
        assert machine.batches == batches
    assert content(tmp_path / "run/last.ckpt")["PairDataModule"] == {"step": 3, "pairs": 5}
