"""Callbacks on Lightning's smallest module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.demos.boring_classes import BoringModel

from s2ld.errors import S2LDError
from s2ld.training.loop.callbacks import StepProgressBar


class Breaks(BoringModel):
    def validation_step(self, *_: Any) -> None:
        raise S2LDError("a.jpg: not an image")


def test_the_bar_is_closed_when_a_run_breaks_off(tmp_path: Path) -> None:
    progress = StepProgressBar(1)
    settings = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", callbacks=[progress], default_root_dir=tmp_path, **settings)
    with pytest.raises(S2LDError):
        trainer.validate(Breaks(), verbose=False)
    assert progress.val_progress_bar.disable
