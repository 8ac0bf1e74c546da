"""The averaged weights."""

from __future__ import annotations

import torch
from torch import nn

from s2ld.training.loop.ema import WeightAverage


def model(weight: float) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    nn.init.constant_(net[0].weight, weight)
    return net


def test_average_by_hand() -> None:
    net = model(1.0)
    average = WeightAverage(net, decay=0.5)
    nn.init.constant_(net[0].weight, 2.0)
    average.update(net, step=0)  # decay 1/10
    torch.testing.assert_close(average.model[0].weight.flatten(), torch.tensor([0.1 * 1 + 0.9 * 2]))
    nn.init.constant_(net[0].weight, 4.0)
    average.update(net, step=1000)  # the ramp has passed the decay
    torch.testing.assert_close(average.model[0].weight.flatten(), torch.tensor([0.5 * 1.9 + 0.5 * 4]))


def test_buffers_are_copied() -> None:
    net = model(1.0)
    average = WeightAverage(net, decay=0.9)
    net(torch.rand(4, 1, 8, 8))
    average.update(net, step=5)
    torch.testing.assert_close(average.model[1].running_mean, net[1].running_mean)
    assert int(average.model[1].num_batches_tracked) == 1


def test_the_copy_neither_trains_nor_shares_memory() -> None:
    net = model(1.0)
    average = WeightAverage(net, decay=0.9).train()
    assert not any(module.training for module in average.modules())
    assert not any(p.requires_grad for p in average.parameters())
    nn.init.constant_(net[0].weight, 7.0)
    assert float(average.model[0].weight) == 1.0


def test_state_travels_with_the_owner() -> None:
    owner = nn.Module()
    owner.matcher = model(1.0)
    owner.average = WeightAverage(owner.matcher, decay=0.9)
    assert {"matcher.0.weight", "average.model.0.weight"} <= owner.state_dict().keys()
