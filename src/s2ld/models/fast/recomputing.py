"""Less memory for a gradient: what is cheap to make again is not kept, but made once more on the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from s2ld.models.attention import AttentionLayer
from s2ld.models.fast.convolution import OPERATOR

Contexts = tuple[AbstractContextManager[None], AbstractContextManager[None]]


def save_memory(network: nn.Module) -> None:
    """Let the largest parts of an `S2LD` keep less for the gradient.

    Stages of the backbone and layers of the fine transformer keep convolutions and products only, which costs little
    time. Layers of the coarse transformer keep their inputs only: for them alone the products are worth their memory,
    where the peak lies.
    """
    for child in network.get_submodule("backbone").children():
        if isinstance(child, nn.Sequential):
            recompute(child, keep_products=True)
    for name, module in network.named_modules():
        if isinstance(module, AttentionLayer):
            recompute(module, keep_products=not name.startswith("s2ld_coarse"))
            for part in module.mlp:
                if isinstance(part, nn.ReLU):
                    part.inplace = False  # before it there is a product


def recompute(module: nn.Module, keep_products: bool) -> None:
    """Let `module` run once more on the way back, where gradients are recorded, instead of keeping what it computes.

    Names, weights and buffers stay as they are: running statistics of batch norms take in each batch once.

    Args:
        module: draws no random numbers.
        keep_products: keep outputs of convolutions and matrix products, beside the inputs, and do not repeat these;
            nothing in the module may change such an output in place.
    """
    module.forward = partial(_run, module, keep_products)


def recomputed(
    function: Callable[..., Tensor],
    *inputs: object,
    contexts: Callable[[], Contexts] = lambda: (nullcontext(), nullcontext()),
) -> Tensor:
    """Return `function(*inputs)`, of which autograd keeps the inputs only; it must draw no random numbers.

    Args:
        function: of tensors.
        inputs: to it: tensors, and what else never changes.
        contexts: return what the first and the second run are in; by default nothing.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    result: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return result


def _run(module: nn.Module, keep_products: bool, *inputs: object) -> Tensor:
    forward = partial(type(module).forward, module)  # of the class, since the instance's is this
    return recomputed(forward, *inputs, contexts=partial(_contexts, module, keep_products))


def _contexts(module: nn.Module, keep_products: bool) -> Contexts:
    first: AbstractContextManager[None] = nullcontext()
    second: AbstractContextManager[None] = nullcontext()
    if keep_products:
        aten = torch.ops.aten
        kept = [aten.mm.default, aten.addmm.default, aten.convolution.default, OPERATOR]
        first, second = create_selective_checkpoint_contexts(kept)  # type: ignore[no-untyped-call]
    return first, _second(module, second)


@contextmanager
def _second(module: nn.Module, context: AbstractContextManager[None]) -> Iterator[None]:
    """The second run, after which the buffers are as before."""
    before = [buffer.clone() for buffer in module.buffers()]
    try:
        with context:
            yield
    finally:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
