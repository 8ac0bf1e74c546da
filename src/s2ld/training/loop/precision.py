"""The precision of a training run."""

from __future__ import annotations

import torch

from s2ld.models.precision import bfloat16_support
from s2ld.processes.ddp import uses_cuda

AUTO = "auto"


def run_precision(name: str, accelerator: str) -> tuple[str, str]:
    """Return Lightning's name of the precision of a run on this machine, and the same with the reason, to be printed.

    "auto" is bf16-mixed where processor or GPU computes in bfloat16 (`bfloat16_support`), else 32-true. The config
    keeps the word, so that a run which goes on on another machine chooses anew. Each process asks for its own machine;
    gradients are float32 either way, so that unlike machines can train together.

    Args:
        name: TRAIN.PRECISION.
        accelerator: auto | cpu | gpu.
    """
    if name != AUTO:
        return name, name
    supported, reason = bfloat16_support(torch.device("cuda" if uses_cuda(accelerator) else "cpu"))
    chosen = "bf16-mixed" if supported else "32-true"
    return chosen, f"{chosen}, since this {reason}"
