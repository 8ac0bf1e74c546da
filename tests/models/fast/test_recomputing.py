"""Recomputing on the way back: equal gradients and statistics from two runs."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from s2ld.models.fast.recomputing import recompute, recomputed
from s2ld.models.layers import BasicBlock


def block() -> BasicBlock:
    torch.manual_seed(0)
    return BasicBlock(3, 5, 2).double().train()


def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 8, 10, dtype=torch.float64, generator=generator).requires_grad_()


def runs_of(module: nn.Module) -> list[nn.Module]:
    runs: list[nn.Module] = []
    module.register_forward_pre_hook(lambda run, _: runs.append(run))
    return runs


@pytest.mark.parametrize("keep_products", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_and_statistics_are_those_of_one_run(training: bool, keep_products: bool) -> None:
    plain, again = block().train(training), block().train(training)
    recompute(again, keep_products)
    runs = runs_of(again.conv1)
    x, y = images(), images()
    for _ in range(2):  # statistics of a second step rest on those of the first
        plain(x).square().sum().backward()
        again(y).square().sum().backward()
    assert len(runs) == 4
    assert x.grad is not None
    torch.testing.assert_close(y.grad, x.grad, rtol=0, atol=0)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(again.get_parameter(name).grad, parameter.grad, rtol=0, atol=0)
    assert plain.bn1.num_batches_tracked == 2 * training
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(again.get_buffer(name), buffer, rtol=0, atol=0)


def test_nothing_runs_twice_without_gradients() -> None:
    module = block()
    recompute(module, keep_products=True)
    runs = runs_of(module.conv1)
    with torch.no_grad():
        module(images())
    assert len(runs) == 1


def test_a_copy_has_its_own_weights_and_all_names_stay() -> None:
    module = block()
    names = list(module.state_dict())
    recompute(module, keep_products=True)
    copy = deepcopy(module)
    assert list(copy.state_dict()) == names
    with torch.no_grad():
        before = module(images())
        for parameter in copy.parameters():
            parameter.zero_()
        assert copy(images()).abs().max() == 0
        torch.testing.assert_close(module.eval()(images()), deepcopy(module)(images()))
    assert before.abs().max() > 0


def test_of_a_function_its_inputs_alone_are_kept() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = images()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = recomputed(lambda x: x.exp().sin().exp(), x)
    assert [id(tensor) for tensor in kept if tensor.numel()] == [id(x)]  # torch 2.6 keeps an empty one too
    y.sum().backward()
    expected = images()
    expected.exp().sin().exp().sum().backward()
    torch.testing.assert_close(x.grad, expected.grad, rtol=0, atol=0)
