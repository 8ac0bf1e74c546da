"""Trying out that a run can take over all of a checkpoint, before Lightning does it amid its own."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.optim import Optimizer

from s2ld.data.datamodule import PairDataModule
from s2ld.errors import S2LDError, one_line
from s2ld.models.checkpoint import load_plain
from s2ld.training.loop.module import S2LDModule

VERSION = re.compile(r"([2-9]|\d\d+)(\.\d+)+((a|b|rc|\.post|\.dev|dev)\d*)?(\+[\w.]+)?")
"""Of Lightning from 2.0, whose checkpoints have all parts where a run looks for them."""
_MOMENTS = ("exp_avg", "exp_avg_sq")


def check_restorable(path: Path, module: S2LDModule, trainer: pl.Trainer, data: PairDataModule) -> None:
    """See to it that loops, optimiser, schedule, callbacks and data can be restored from a checkpoint.

    Each part is loaded once, as Lightning does it again afterwards.

    Raises:
        S2LDError: a part is not what a run wrote; it is named.
    """
    content = load_plain(path)
    parts: dict[str, Callable[[Any], None]] = {
        "pytorch-lightning_version": _check_version,
        "global_step": _check_counts,
        "loops": lambda loops: _load_loops(loops, trainer),
        "optimizer_states": lambda states: _load_optimizer(states, module),
        "lr_schedulers": lambda states: _load_schedule(states, module),
        "callbacks": lambda states: _load_callbacks(states, trainer),
        "PairDataModule": lambda state: _load_data(state, data),
    }
    for name, load in parts.items():
        _try(path, name, lambda load=load, name=name: load(copy.deepcopy(content[name])))  # type: ignore[misc]
    _try(path, "skipped_steps", lambda: module.on_load_checkpoint(content))


def _try(path: Path, name: str, load: Callable[[], None]) -> None:
    try:
        load()
    except Exception as error:  # whatever values of another kind lead torch and Lightning into
        reason = one_line(error) or type(error).__name__
        raise S2LDError(
            f"{path}: its part {name} is not what a run writes ({reason}), so a run cannot go on from it; start from "
            "its weights by TRAIN.INIT_WEIGHTS"
        ) from error


def _check_version(version: Any) -> None:
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise ValueError(f"Lightning {one_line(version)}")


def _load_loops(loops: Any, trainer: pl.Trainer) -> None:
    _check_counts(loops)
    fit: Any = trainer.fit_loop
    fit.load_state_dict(loops["fit_loop"])


def _check_counts(value: Any) -> None:
    """Raise unless a value, or all leaves of a dict of dicts, are counts or truth values."""
    if isinstance(value, dict):
        for part in value.values():
            _check_counts(part)
    elif not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"a count is {one_line(value)}")


def _load_optimizer(states: Any, module: S2LDModule) -> None:
    (state,) = states
    optimizer: Optimizer = module.configure_optimizers()["optimizer"]
    fresh = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for own, group in zip(fresh, optimizer.param_groups, strict=True):
        for key, value in own.items():
            _check_kind(key, value, group[key])
    for parameter, moments in optimizer.state.items():
        for key in _MOMENTS:
            if moments[key].shape != parameter.shape or not bool(moments[key].isfinite().all()):
                raise ValueError(f"{key} of a parameter is of another shape, or not finite")
        float(moments["step"])


def _check_kind(key: str, own: Any, value: Any) -> None:
    """Raise unless a setting of the optimiser is of the kind that it has."""
    if isinstance(own, tuple):
        if len(own) != len(value) or not all(0 <= part < 1 for part in value):
            raise ValueError(f"{key} is {one_line(value)}")
    elif isinstance(own, float):
        if isinstance(value, Tensor) or not math.isfinite(value):
            raise ValueError(f"{key} is {one_line(value)}")
    elif key != "params" and value != own:
        raise ValueError(f"{key} is {one_line(value)}")


def _load_schedule(states: Any, module: S2LDModule) -> None:
    (state,) = states
    if not isinstance(state["last_epoch"], int) or state["last_epoch"] < 0:
        raise ValueError(f"last_epoch is {one_line(state['last_epoch'])}")
    schedule: Any = module.configure_optimizers()["lr_scheduler"]["scheduler"]  # type: ignore[index]
    schedule.load_state_dict(state)


def _load_callbacks(states: Any, trainer: pl.Trainer) -> None:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        state = states.get(callback.state_key)
        if state:
            callback.load_state_dict(state)


def _load_data(state: Any, data: PairDataModule) -> None:
    if any(not isinstance(state[key], int) or not 0 <= state[key] < 2**63 for key in ("step", "pairs")):
        raise ValueError("step or pairs is no count")
    data.load_state_dict(state)
