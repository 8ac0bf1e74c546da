"""Which precision pays on a device: whether it has instructions for bfloat16."""

from __future__ import annotations

import torch

from s2ld.errors import S2LDError

PRECISIONS = ("fp32", "bf16", "auto")
"""Of convolutions and linear layers; "auto" is one of the two others, see `resolve_precision`."""
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")  # torch's names


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return "fp32" or "bf16"; "auto" is bf16 where the device computes in it (`bfloat16_support`), else fp32.

    Raises:
        S2LDError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise S2LDError(f"precision is {precision!r}; use {' or '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if bfloat16_support(device)[0] else "fp32"


def bfloat16_support(device: torch.device) -> tuple[bool, str]:
    """Return whether a device has instructions for products in bfloat16, and what says so, e.g. "CPU has avx512_bf16".

    Without them bfloat16 is emulated, and slower than float32. False where it cannot be known.

    - NVIDIA GPU: compute capability 8 (Ampere) or higher; AMD: any that PyTorch supports. Both are what
      `torch.cuda.is_bf16_supported` says without emulation.
    - x86 CPU: avx512_bf16 or amx_bf16 among what PyTorch finds by the processor's own identification, on any operating
      system, and oneDNN in this PyTorch, which uses them.
    - Other CPUs, Apple's among them, and other accelerators: False. Some have such instructions; whether all of the
      network's convolutions use them, those of the way back too, depends on how PyTorch was built.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return supported, f"GPU {'computes' if supported else 'does not compute'} in bfloat16"
    if device.type != "cpu":
        return False, f"device, {device.type}, is not known to compute in bfloat16"
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False, "CPU runs a PyTorch without oneDNN"
    found = _cpu_instructions()
    return bool(found), f"CPU has {' and '.join(found)}" if found else f"CPU has no {' or '.join(_INSTRUCTIONS)}"


def _cpu_instructions() -> list[str]:
    """Return which of `_INSTRUCTIONS` PyTorch finds; none where it cannot say."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        return [name for name in _INSTRUCTIONS if capabilities().get(name, False)]
    # older PyTorch, from 2.6, has only this; processors with amx_bf16 have avx512_bf16 too
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return [_INSTRUCTIONS[0]] if older is not None and older() else []
