"""Optimiser, learning rate and its schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from s2ld.config import CN
from s2ld.errors import S2LDError


@dataclass(frozen=True)
class Place:
    """Where a run stands."""

    step: int = 0
    """Optimiser steps done."""
    pairs: int = 0
    """Pairs drawn by all processes together."""


@dataclass(frozen=True)
class RunScale:
    """What follows from the config and the number of processes; printed, never written back."""

    batch: int
    """Pairs an optimiser step: batch size x processes x accumulated batches."""
    canonical_batch: int
    """The batch that the config's rate and warm-up are meant for."""
    learning_rate: float
    """At the end of the warm-up."""
    warmup_steps: int
    """Optimiser steps of this batch, at most a fifth of the run."""
    total_steps: int
    """Optimiser steps at which the run ends."""
    ahead: float = 0.0
    """Steps of this batch by which the pairs drawn are ahead of the step counter, after a resume with another batch."""

    def __str__(self) -> str:
        ratio, inverse = f"{self.batch}/{self.canonical_batch}", f"{self.canonical_batch}/{self.batch}"
        return (
            f"true batch {self.batch} pairs, learning rate {self.learning_rate:.3g} (TRAIN.CANONICAL_LR x {ratio}), "
            f"warm-up {self.warmup_steps} steps (TRAIN.WARMUP_STEPS x {inverse}, or a fifth of the run), "
            f"{self.total_steps} steps in all"
        )


def run_scale(config: CN, world: int, epoch_pairs: int | None = None, place: Place | None = None) -> RunScale:
    """Scale the canonical settings to the true batch.

    The learning rate grows linearly with it, rate = CANONICAL_LR batch / CANONICAL_BATCH, and the warm-up covers the
    same number of pairs: its steps are WARMUP_STEPS CANONICAL_BATCH / batch, and never more than a fifth of the run.
    With EPOCHS the run covers as many pairs as it says; without, MAX_STEPS counts, whatever the batch.

    Args:
        config: the whole config.
        world: number of processes.
        epoch_pairs: pairs an epoch of the training source, all processes together; None where it has no epochs.
        place: where a resumed run stands; with EPOCHS, what it did with another batch counts in pairs.

    Raises:
        S2LDError: EPOCHS for a source without epochs.
    """
    train, place = config.TRAIN, place or Place()
    batch, canonical = int(config.DATA.BATCH_SIZE * world * train.ACCUMULATE), int(train.CANONICAL_BATCH)
    ahead, total = 0.0, int(train.MAX_STEPS)
    if train.EPOCHS:
        if epoch_pairs is None:
            raise S2LDError(
                f"TRAIN.EPOCHS {train.EPOCHS}: DATA.TRAIN_SOURCES {list(config.DATA.TRAIN_SOURCES)} have no epochs; "
                "set TRAIN.EPOCHS 0 and TRAIN.MAX_STEPS"
            )
        ahead = place.pairs / batch - place.step
        total = math.ceil(train.EPOCHS * epoch_pairs / batch - ahead)
    warmup = min(round(train.WARMUP_STEPS * canonical / batch), int((total + ahead) / 5))
    return RunScale(batch, canonical, train.CANONICAL_LR * batch / canonical, warmup, total, ahead)


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


def schedule_factor(config: CN, scale: RunScale) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the optimiser step alone.

    Warm-up: linear from WARMUP_RATIO at step 0 to 1 at its end. Then `cosine`: from 1 down to FINAL_LR_RATIO at the
    run's end; or `multistep`: halved at each of MILESTONES, as fractions of the run.

    Args:
        config: the TRAIN node.
        scale: of the run.

    Raises:
        S2LDError: unknown SCHEDULE.
    """
    warmup, total, ahead = scale.warmup_steps, scale.total_steps + scale.ahead, scale.ahead
    start, final = float(config.WARMUP_RATIO), float(config.FINAL_LR_RATIO)
    milestones = [round(fraction * total) for fraction in config.MILESTONES]
    if config.SCHEDULE not in ("cosine", "multistep"):
        raise S2LDError(f"TRAIN.SCHEDULE {config.SCHEDULE!r} is unknown; use cosine or multistep")

    def factor(step: int) -> float:
        now = step + ahead
        ramp = start + (1.0 - start) * min(now / warmup, 1.0) if warmup else 1.0
        if config.SCHEDULE == "multistep":
            return float(ramp * 0.5 ** sum(now >= milestone for milestone in milestones))
        done = min(max(now - warmup, 0) / (total - warmup), 1.0)
        return float(ramp * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))))

    return factor


class StepSchedule(LambdaLR):
    """The schedule of `schedule_factor`; step it once an optimiser step."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the step of a resumed run; its rates belong to its own batch and are computed anew."""
        own = list(self.base_lrs)
        super().load_state_dict(state_dict)
        self.base_lrs = own
        for group, base, factor in zip(self.optimizer.param_groups, own, self.lr_lambdas, strict=True):
            group["initial_lr"], group["lr"] = base, base * factor(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def build_scheduler(optimizer: Optimizer, config: CN, scale: RunScale) -> StepSchedule:
    """Return the schedule of a TRAIN node and a run's scale for an optimiser."""
    return StepSchedule(optimizer, schedule_factor(config, scale))
