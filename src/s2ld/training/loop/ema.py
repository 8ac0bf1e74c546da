"""Exponential moving average of the weights: what is validated, exported and shipped.

By hand, since the decay of Lightning's `EMAWeightAveraging` is constant from the first step, so that short runs would
average in their random beginning, and since it swaps the weights of the network at each validation.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """A copy of a network whose weights follow it slowly; its state travels with the owner's state dict.

    ``average = d average + (1 - d) weight`` with ``d = min(decay, (1 + step) / (10 + step))``, so that the first
    steps do not hang on to the initial weights. Buffers (running statistics) are copied.

    Args:
        model: the network to follow.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model = deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow `model` after optimiser step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: list[Tensor] = [p for p in self.model.parameters() if p.is_floating_point()]
        weights = [p.detach() for p in model.parameters() if p.is_floating_point()]
        torch._foreach_lerp_(averages, weights, 1.0 - decay)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)

    def train(self, mode: bool = True) -> WeightAverage:
        """Stay in evaluation mode, whatever the owner does."""
        return super().train(False)
