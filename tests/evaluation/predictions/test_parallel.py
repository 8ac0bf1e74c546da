"""A map over processes: order, errors and interruptions."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator

import cv2
import pytest
import torch

from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.parallel import AHEAD, choose_jobs, ordered_map


def threads(number: int) -> tuple[int, int, int]:
    return number, cv2.getNumThreads(), torch.get_num_threads()


def refuse(number: int) -> int:
    if number == 2:
        raise S2LDError("pair 2: bad")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order_from_processes_of_one_thread() -> None:
    assert list(ordered_map(threads, range(40), 2)) == [(number, 1, 1) for number in range(40)]
    assert multiprocessing.active_children() == []


def test_items_are_read_as_they_are_needed() -> None:
    read = []

    def items() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    results = ordered_map(abs, items(), 2)
    assert next(results) == 0
    assert len(read) <= 2 * AHEAD + 1
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


def test_errors_and_ctrl_c_reach_the_caller_and_leave_no_process() -> None:
    with pytest.raises(S2LDError, match="pair 2: bad"):
        list(ordered_map(refuse, range(9), 2))

    def interrupted() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(abs, interrupted(), 2))
    assert multiprocessing.active_children() == []


def test_a_killed_process_is_one_line_and_no_waiting() -> None:
    with pytest.raises(S2LDError, match="was killed"):
        list(ordered_map(die, range(3), 2))


def test_few_pairs_are_not_worth_a_process() -> None:
    assert choose_jobs(1) == choose_jobs(59) == 1
    assert choose_jobs(10**6) >= choose_jobs(1500) >= 1
