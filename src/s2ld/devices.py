"""Which device computes, in which type by default, and what a forked process may do with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from s2ld.errors import S2LDError, first_sentence

_process = os.getpid()


def choose_device(device: str | torch.device) -> torch.device:
    """Return the torch device of that name; "auto" is CUDA where there is a GPU, else the CPU.

    Raises:
        S2LDError: torch knows no such device, or it is not there or holds no values ("meta").
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).cpu()
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:
        reason = first_sentence(error)
        raise S2LDError(f"device {str(device)!r} cannot be used ({reason}); use auto, cpu, cuda or cuda:N") from error
    return chosen


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Make new tensors float32 in this context, as weights and images are, whatever `set_default_dtype` was told."""
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def allow_forks() -> None:
    """Compute with one thread from now on, if this process was forked from one that has imported this module.

    The other threads stay with the parent, and a forked process that shares work out to them waits for ever.
    """
    global _process
    if os.getpid() != _process:
        _process = os.getpid()
        torch.set_num_threads(1)
