"""A checkpoint that was altered is refused in one line that names the part, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import content, run

from s2ld.errors import S2LDError

Content = dict[str, Any]


def moments(state: Content) -> Content:
    return state["optimizer_states"][0]["state"][0]


def group(state: Content) -> Content:
    return state["optimizer_states"][0]["param_groups"][0]


def batches(state: Content) -> Content:
    return state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]


ALTERED: dict[str, tuple[Callable[[Content], object], str]] = {
    "step": (lambda state: state.update(global_step="x"), "does not tell its step and pairs"),
    "no pairs": (lambda state: state.update(PairDataModule={}), "does not tell its step and pairs"),
    "huge step": (lambda state: state.update(global_step=10**400), "part global_step"),
    "negative pairs": (lambda state: state["PairDataModule"].update(pairs=-1), "part PairDataModule"),
    "version": (lambda state: state.update({"pytorch-lightning_version": "a.b"}), "part pytorch-lightning_version"),
    "old version": (lambda state: state.update({"pytorch-lightning_version": "0.5"}), "part pytorch-lightning_version"),
    "no loop": (lambda state: state["loops"].pop("fit_loop"), "part loops .*fit_loop"),
    "count": (lambda state: batches(state).update(ready="x"), r"part loops .*a count is x"),
    "negative count": (lambda state: batches(state).update(ready=-3), r"part loops .*a count is -3"),
    "no optimiser": (lambda state: state.update(optimizer_states=[]), "part optimizer_states"),
    "moment's shape": (lambda state: moments(state).update(exp_avg=torch.zeros(3)), "part optimizer_states"),
    "moment": (lambda state: moments(state)["exp_avg"].fill_(torch.nan), "part optimizer_states"),
    "no moment": (lambda state: moments(state).pop("exp_avg_sq"), "part optimizer_states"),
    "setting": (lambda state: group(state).update(betas=5), "part optimizer_states"),
    "schedule": (lambda state: state["lr_schedulers"][0].update(last_epoch="x"), "part lr_schedulers"),
    "score": (lambda state: state["callbacks"]["Checkpoints"].update(best="x"), "part callbacks"),
    "callbacks": (lambda state: state.update(callbacks=[]), "part callbacks"),
    "skipped": (lambda state: state.update(skipped_steps=None), "part skipped_steps"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(folder, "--output", str(folder / "run"), steps=1)
    return folder / "run/last.ckpt"


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_checkpoint_is_one_line(trained: Path, tmp_path: Path, name: str) -> None:
    alter, words = ALTERED[name]
    state = content(trained)
    alter(state)
    torch.save(state, tmp_path / "altered.ckpt")
    with pytest.raises(S2LDError, match=rf"altered\.ckpt: .*{words}") as caught:
        run(tmp_path, "--output", str(tmp_path / "run"), "--resume", str(tmp_path / "altered.ckpt"), steps=2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run/last.ckpt").exists()
