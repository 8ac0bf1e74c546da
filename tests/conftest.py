"""What tests of several rooms need."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s2ld.log import logger


@pytest.fixture
def take_output() -> Iterator[Callable[[Path], None]]:
    """Give a function that locks an output, and makes a missing folder, as a process that writes to it does."""
    handles: list[int] = []

    def take(path: Path) -> None:
        if not path.exists():
            path.mkdir(parents=True)
        handles.append(os.open(path, os.O_RDONLY))
        fcntl.flock(handles[-1], fcntl.LOCK_EX)

    yield take
    for handle in handles:
        os.close(handle)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Give the list that what the package tells is added to, of functions that no command calls."""
    lines: list[str] = []
    logger.enable("s2ld")
    number = logger.add(lines.append, format="{level}: {message}")
    yield lines
    logger.remove(number)
    logger.disable("s2ld")
