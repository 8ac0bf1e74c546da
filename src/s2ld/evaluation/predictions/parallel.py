"""A function over many items in several processes, in order, with little held in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
import torch

from s2ld.errors import S2LDError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 8  # items that each process may lag behind the reader
ITEMS_PER_PROCESS = 100  # below, the start of a process (seconds) does not pay


def choose_jobs(items: int) -> int:
    """Return how many processes are worth it: at most the cores that this process may use, 1 for few items."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, items // ITEMS_PER_PROCESS))


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """Yield `function` of each item in order.

    Args:
        function: can be pickled, as items and results; processes are spawned, with one thread each.
        items: read by this process as they are needed.
        jobs: processes; with 1 all is done in this one.

    Raises:
        S2LDError: a process was killed.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while waiting and (waiting[0].done() or len(waiting) > AHEAD * jobs):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise S2LDError("an evaluating process was killed, perhaps for want of memory; use --jobs 1") from error
    finally:
        pool.shutdown(cancel_futures=True)  # also on Ctrl-C: what runs is short, what waits is dropped


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
