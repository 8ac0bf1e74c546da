"""The network's convolutions and transformer, compiled by PyTorch for images of one size."""

from __future__ import annotations

import copy

import torch

from s2ld.errors import S2LDError
from s2ld.models.network import S2LD
from s2ld.types import EncodedPair, ImageBatch

_COMPILED = ("extract", "encode_pair", "encode")
NEEDS = "compiling needs a C++ compiler (g++) and Python's header files (python3-dev)"


def compile_encoder(network: S2LD, size: tuple[int, int], device: torch.device) -> None:
    """Replace `extract`, `encode_pair` and `encode` of a network in place by compiled ones, which say the same.

    Elementwise work goes into the convolutions and products before it, constants are computed once. The matches
    themselves, whose number depends on the images, stay as they are. To be called in the context of the later calls
    (inference mode, precision); images of another size would be compiled for anew.

    Args:
        network: as `for_inference` makes it.
        size: (width, height) px of the images, multiples of 8.
        device: of the network.

    Raises:
        S2LDError: no compiler that works.
    """
    extract = torch.compile(network.extract, dynamic=False, options={"freezing": True})
    encode_pair = torch.compile(network.encode_pair, dynamic=False, options={"freezing": True})

    def encode(images0: ImageBatch, images1: ImageBatch) -> EncodedPair:
        return encode_pair(extract(images0), extract(images1))

    network.extract, network.encode_pair, network.encode = extract, encode_pair, encode  # type: ignore[method-assign]
    blank = ImageBatch(torch.zeros(1, 1, size[1], size[0], device=device))
    try:
        network.encode(blank, blank)
    except Exception as error:  # whatever a compiler, its loader or PyTorch's tracer says
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise S2LDError(
            f"the network cannot be compiled here ({reason}); {NEEDS}, or leave out fast (--fast)"
        ) from error


def without_compiled(network: S2LD) -> S2LD:
    """Return a network with the same weights, not copied, and with its own methods instead of compiled ones."""
    plain = copy.copy(network)
    for name in _COMPILED:
        plain.__dict__.pop(name, None)
    return plain
