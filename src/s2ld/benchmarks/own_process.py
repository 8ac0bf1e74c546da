"""Work in a fresh process, so that its peak memory is its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from s2ld.errors import S2LDError

STATUS = Path("/proc/self/status")
Result = TypeVar("Result")


def run_alone(work: Callable[..., Result], *arguments: object) -> Result:
    """Return what `work`, a function of a module, returns in a fresh process.

    Raises:
        S2LDError: the process was killed, as a system does that has no memory left.
    """
    try:
        # "spawn": a forked process would begin with what this one holds
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(work, *arguments).result()
    except BrokenProcessPool as error:
        raise S2LDError("a process of the benchmark was killed, maybe for its memory; end other programs") from error


def own_peak() -> float | None:
    """Return the peak memory of this process in MB, Python and PyTorch in it; None elsewhere than on Linux."""
    if not STATUS.exists():
        return None
    # not ru_maxrss, which a process takes over from the one that starts it
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
