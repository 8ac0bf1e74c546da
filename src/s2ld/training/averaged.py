"""The averaged weights of a checkpoint: those that its validation measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from s2ld.config import CN, config_from_text
from s2ld.models.checkpoint import CONFIG_KEY, PREFIX, load_plain
from s2ld.training.loop.checkpoints import resume_place

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
