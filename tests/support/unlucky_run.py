"""train.py with mishaps, for tests that need several processes.

UNLUCKY holds them, separated by spaces: ``starved`` (pairs of odd number do not overlap), ``nan:RANK:STEP`` (a loss),
``SIGTERM:RANK:STEP`` and the like (a process gets this signal amid the step), ``all:RANK:STEP`` (all processes get a
SIGTERM then, loaders too), ``note:FOLDER`` (each process writes the statistics that it validates with),
``start:RANK`` (a process is killed before it begins).
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2ld.cli.train.train import script
from s2ld.data.sample import PairSample
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.training.loop.module import S2LDModule

draw = HomographyPairs.__getitem__
train = S2LDModule.training_step
validate = S2LDModule.on_validation_epoch_end


def starved(source: HomographyPairs, index: int) -> PairSample:
    """A pair; if its number is odd, the second camera has moved so far that both see nothing in common."""
    pair = draw(source, index)
    if index % 2 == 0:
        return pair
    away = pair.T_0to1.clone()
    away[0, 3] += 1e4
    return replace(pair, T_0to1=away)


def _step(mishaps: list[list[str]], module: S2LDModule, *args: Any) -> Tensor:
    here = [str(module.global_rank), str(module.global_step)]
    now = [name for name, *when in mishaps if when == here]
    for name in now:
        if name.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[name])
        elif name == "all":
            os.killpg(os.getpgrp(), signal.SIGTERM)
    loss = train(module, *args)
    return loss * torch.nan if "nan" in now else loss


def _note(folder: str, module: S2LDModule) -> None:
    validate(module)
    torch.save(list(module.averaged.buffers()), Path(folder) / f"{module.global_rank}.pt")


if __name__ == "__main__":
    mishaps = [words.split(":") for words in os.environ["UNLUCKY"].split()]
    if ["starved"] in mishaps:
        HomographyPairs.__getitem__ = starved  # type: ignore[method-assign]
    S2LDModule.training_step = lambda *args: _step(mishaps, *args)  # type: ignore[method-assign,assignment]
    if ["start", os.environ.get("LOCAL_RANK")] in mishaps:
        os.kill(os.getpid(), signal.SIGKILL)
    for name, *place in mishaps:
        if name == "note":
            S2LDModule.on_validation_epoch_end = lambda module, to=place[0]: _note(to, module)  # type: ignore[method-assign,assignment,misc]
    sys.exit(script())
