"""What is worth carrying of a checkpoint: the averaged weights, or a state to resume from in half the bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2ld.config import CN, config_from_text
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import CONFIG_KEY, PREFIX, load_plain
from s2ld.training.checkpoints import resume_place

AVERAGE = "average.model."
"""Beginning of the averaged weights' keys in a checkpoint."""


@dataclass(frozen=True)
class RunWeights:
    """The weights that a checkpoint's validation measured, and what is known of them."""

    state: dict[str, Tensor]
    config: CN
    metadata: dict[str, str]
    """``steps``, ``pairs`` and ``score``: the best ``val/score`` so far, in best.ckpt that of these weights."""


def run_weights(path: Path) -> RunWeights:
    """Return the averaged weights of a checkpoint, or the weights themselves where the run has no average.

    Raises:
        S2LDError: the file is no checkpoint of train.py.
    """
    place, content = resume_place(path), load_plain(path)
    state = content["state_dict"]
    prefix = AVERAGE if any(key.startswith(AVERAGE) for key in state) else PREFIX
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    scores = [part["best"] for part in content["callbacks"].values() if isinstance(part, dict) and "best" in part]
    score = float(scores[0]) if scores else math.nan
    metadata = {"steps": str(place.step), "pairs": str(place.pairs), "score": f"{score:.4f}"}
    return RunWeights(weights, config_from_text(content[CONFIG_KEY], str(path)), metadata)


def slim_state(path: Path, moments: bool = True) -> dict[str, Any]:
    """Return a checkpoint's content in half the bytes or, without moments, a quarter; it can be resumed as it is.

    Matrices and kernels are kept as float16, the optimiser's moments of them as bfloat16 (the second ones are too small
    for float16); vectors and scalars (norms, biases, running statistics) as they are. Step, schedule, data order and
    best score stay exact. A resume from it is no longer bit for bit; without moments AdamW begins to collect them anew.

    Raises:
        S2LDError: the file is no checkpoint of train.py, or a weight is too large for float16.
    """
    resume_place(path)
    content: dict[str, Any] = load_plain(path)
    state = {key: _reduced(value, torch.float16) for key, value in content["state_dict"].items()}
    broken = next((key for key, value in state.items() if not bool(value.isfinite().all())), None)
    if broken is not None:
        raise S2LDError(f"{path}: {broken} does not fit float16; carry the whole file, in more parts")
    optimizers = [{**part, "state": _moments(part["state"]) if moments else {}} for part in content["optimizer_states"]]
    return {**content, "state_dict": state, "optimizer_states": optimizers}


def _moments(state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Reduce the tensors of each parameter's moments."""

    def reduce(value: Any) -> Any:
        return _reduced(value, torch.bfloat16) if isinstance(value, Tensor) else value

    return {index: {name: reduce(value) for name, value in moments.items()} for index, moments in state.items()}


def _reduced(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.ndim > 1 and value.dtype == torch.float32 else value
