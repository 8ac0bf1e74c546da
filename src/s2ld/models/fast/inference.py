"""A copy of a network that computes the same with less work, reduced precision, and what memory inference takes."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from s2ld.config import CN
from s2ld.models.detector import CELL
from s2ld.models.network import S2LD
from s2ld.models.precision import resolve_precision

Module = TypeVar("Module", bound=nn.Module)
FIXED_BYTES = 2**27  # measured: code that oneDNN makes, and windows of the matches that are refined at a time
FINE_MAPS = 6.5  # measured: what is alive at the peak beside that, in float32 fine maps of the image that passes
KEPT_MAPS = 1.5  # measured: what an image leaves while another one passes the backbone
MATRIX_BYTES = 14  # measured: what Sinkhorn takes for each entry of the confidence matrix; dual softmax makes none


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


def with_threshold(network: S2LD, threshold: float | None) -> S2LD:
    """Return the network with another threshold for this call: its own stays, and the weights are shared.

    None is its own threshold: the network itself.
    """
    if threshold is None:
        return network
    view = copy.copy(network)
    view._modules = {**network._modules, "sparse_matching": copy.copy(network.sparse_matching)}
    view.threshold = threshold
    return view


def computing_in(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a network computes in a precision of `s2ld.models.precision.PRECISIONS`.

    In "bf16" convolutions, linear layers and features are bfloat16 (8 bits of mantissa); keypoints, linear attention,
    confidences and the refinement stay float32, and weights as they are.

    Raises:
        S2LDError: there is no such precision.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision(precision, device) == "bf16")


def memory_needed(config: CN, cells: Sequence[int]) -> int:
    """Return about how many bytes inference on a CPU takes beside the weights.

    Args:
        config: the MODEL node.
        cells: number of cells of the image or of each of the two images.
    """
    fine_map = 4 * config.BACKBONE.FINE_DIM * (CELL // config.BACKBONE.FINE_STRIDE) ** 2
    matrix = MATRIX_BYTES * math.prod(cells) if len(cells) == 2 and config.MATCH.TYPE == "sinkhorn" else 0
    most, every = max(cells), sum(cells)
    maps = FINE_MAPS * most + KEPT_MAPS * (every - most)
    return FIXED_BYTES + int(maps * fine_map) + matrix


def _fuse(module: nn.Module) -> None:
    """Merge each batch norm that is registered right behind a convolution, as all of the network's are."""
    children = list(module.named_children())
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
