"""Optimiser, learning rate and its schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from s2ld.config import CN
from s2ld.errors import S2LDError


@dataclass(frozen=True)
class RunScale:
    """What follows from the config and the number of processes; printed, never written back."""

    batch: int
    """Pairs an optimiser step: batch size x processes x accumulated batches."""
    learning_rate: float
    """At the end of the warm-up."""

    def __str__(self) -> str:
        return f"true batch {self.batch} pairs, learning rate {self.learning_rate:.3g}"


def run_scale(config: CN, world: int) -> RunScale:
    """Scale the canonical learning rate linearly with the true batch: rate = CANONICAL_LR batch / CANONICAL_BATCH."""
    batch = config.DATA.BATCH_SIZE * world * config.TRAIN.ACCUMULATE
    return RunScale(batch, config.TRAIN.CANONICAL_LR * batch / config.TRAIN.CANONICAL_BATCH)


def build_optimizer(modules: Iterable[nn.Module], learning_rate: float, weight_decay: float) -> AdamW:
    """Return AdamW over what requires a gradient; vectors and scalars (norms, biases, the dustbin) do not decay.

    Raises:
        S2LDError: nothing requires a gradient.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise S2LDError("TRAIN.FREEZE leaves nothing to train; take a module out of it")
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=learning_rate)


def schedule_factor(config: CN) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the optimiser step alone.

    Warm-up: linear from WARMUP_RATIO at step 0 to 1 at WARMUP_STEPS. Then `cosine`: from 1 down to FINAL_LR_RATIO at
    MAX_STEPS; or `multistep`: halved at each of MILESTONES, as fractions of MAX_STEPS.

    Args:
        config: the TRAIN node.

    Raises:
        S2LDError: unknown SCHEDULE, or a warm-up that takes the whole run.
    """
    warmup, total = int(config.WARMUP_STEPS), int(config.MAX_STEPS)
    start, final = float(config.WARMUP_RATIO), float(config.FINAL_LR_RATIO)
    milestones = [fraction * total for fraction in config.MILESTONES]
    if config.SCHEDULE not in ("cosine", "multistep"):
        raise S2LDError(f"TRAIN.SCHEDULE {config.SCHEDULE!r} is unknown; use cosine or multistep")
    if warmup >= total:
        raise S2LDError(f"TRAIN.WARMUP_STEPS {warmup} must be below TRAIN.MAX_STEPS {total}; lower it")

    def factor(step: int) -> float:
        ramp = start + (1.0 - start) * min(step / warmup, 1.0) if warmup else 1.0
        if config.SCHEDULE == "multistep":
            return float(ramp * 0.5 ** sum(step >= milestone for milestone in milestones))
        done = min(max(step - warmup, 0) / (total - warmup), 1.0)
        return float(ramp * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))))

    return factor


def build_scheduler(optimizer: Optimizer, config: CN) -> LambdaLR:
    """Return the step-based schedule of `schedule_factor`; step it once an optimiser step."""
    return LambdaLR(optimizer, schedule_factor(config))
