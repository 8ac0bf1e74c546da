"""Where a run of operations would make the host wait for a GPU, told on any device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "_local_scalar_dense",  # .item(), float(), int(), bool() and comparisons in `if`
    "equal",
    "nonzero",
    "argwhere",
    "masked_select",
    "unique_dim",
    "_unique",
    "_unique2",
    "unique_consecutive",
    "unique_dim_consecutive",
    "bincount",
    "lift_fresh",  # a tensor of Python numbers: copied from pageable memory to the device
}
"""Operators whose result or its size the host has to see, by name."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Of integers they run on; a mask is turned into indices first, by `nonzero`."""


class HostWaits(TorchDispatchMode):
    """Keeps the names of operators that would wait, in their order.

    It cannot see `.tolist()`, `.numpy()` and `.cpu()` of a CPU's tensors, which are no operators there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with self:  # in inference mode composite operators arrive whole
            result = func.decompose(*args, **(kwargs or {}))
        if result is not NotImplemented:
            return result
        if _waits(func.overloadpacket.__name__, args, kwargs or {}):
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _waits(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if name in INDEXING:
        return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("_to_copy", "copy_"):  # from one device to another
        target = args[1].device if name == "copy_" else kwargs.get("device")
        return target is not None and torch.device(target) != args[0].device
    return name in WAITING
