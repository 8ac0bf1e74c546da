"""Less memory for a gradient: what is cheap to make again is not kept, but made once more on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, noop_context_fn


def recompute(module: nn.Module) -> None:
    """Let `module` keep its inputs only and run once more on the way back, where gradients are recorded.

    Its names, weights and buffers stay as they are: running statistics of batch norms take in each batch once.
    """
    module.forward = partial(_run, module)


def recomputed(
    function: Callable[..., Tensor],
    *inputs: Tensor | None,
    contexts: Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]] = noop_context_fn,
) -> Tensor:
    """Return `function(*inputs)`, of which autograd keeps the inputs only; it must draw no random numbers.

    Args:
        function: of tensors.
        inputs: to it.
        contexts: return what the first and the second run are in; by default nothing.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    result: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return result


def _run(module: nn.Module, *inputs: Tensor | None) -> Tensor:
    # of the class, since the instance's is this
    forward = partial(type(module).forward, module)
    return recomputed(forward, *inputs, contexts=lambda: (nullcontext(), _buffers_kept(module)))


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undo what happens to the buffers."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
