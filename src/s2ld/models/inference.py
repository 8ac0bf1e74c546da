"""A copy of a network that computes the same with less work, for inference only."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def for_inference(model: Module) -> Module:
    """Return a copy in evaluation mode: batch norms inside their convolutions, channels last, ReLUs in place.

    Its outputs are those of `model` but for rounding. It cannot be trained, and its state dict is another.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    for module in list(fast.modules()):
        _fuse(module)
        if isinstance(module, nn.ReLU | nn.LeakyReLU):  # always behind a layer of its own
            module.inplace = True
    return fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _fuse(module: nn.Module) -> None:
    """Merge each batch norm that is registered right behind a convolution, as all of the network's are."""
    children = list(module.named_children())
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
