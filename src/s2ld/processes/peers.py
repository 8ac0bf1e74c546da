"""The processes of a run on one machine watch each other. Nothing here takes long to import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from s2ld.errors import LOST_PROCESS

FIRST = "S2LD_FIRST_PROCESS"
"""Environment variable with the number of the process that has started this one; it may be dead already."""

_POLL = 1.0  # seconds
_GRACE = 5.0  # seconds in which a broken connection may end a process in good order


@dataclass(frozen=True)
class Run:
    """What several processes do together."""

    command: str
    """As the user calls it."""
    remedy: str
    """What to do when one of them is lost."""

    @property
    def lost(self) -> str:
        """What to say then."""
        return f"another process of this run has ended; {self.remedy}"


TRAINING = Run("s2ld train", "go on from the last checkpoint with --resume auto")
MATCHING = Run("s2ld match-folder", "the same command goes on from the pairs that are done")
TESTING = Run("s2ld test", "the same command goes on from the pairs that are done")


@cache
def follow_first(run: Run) -> None:
    """Let a process that another one of its run has started end soon after that one; the first one does nothing.

    Without this, a process whose first one was killed would wait for it until the time limit of a reduction, and hold
    its GPU. To be called before anything that takes time, since the first one may die meanwhile.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        return
    first = int(os.environ.get(FIRST, os.getppid()))  # torchrun, which watches by itself, names none
    if os.getppid() != first:
        _end(run)

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(_POLL)
        time.sleep(_GRACE)
        _end(run)

    threading.Thread(target=watch, daemon=True, name="follow-first").start()


def watch_started(processes: Sequence[subprocess.Popen[bytes]], run: Run) -> None:
    """Let this process, and the others, end soon after one of those that it has started ends badly."""
    threading.Thread(target=end_with, args=(processes, run), daemon=True, name="watch-started").start()


def end_with(processes: Sequence[subprocess.Popen[bytes]], run: Run) -> None:
    """Wait until all processes have ended well, or end all, this one too, after one of them has not.

    Args:
        processes: by their rank, from 1.
        run: of which they are.
    """
    while any(process.poll() is None for process in processes) and not any(p.returncode for p in processes):
        time.sleep(_POLL)
    rank, status = next(((i, p.returncode) for i, p in enumerate(processes, 1) if p.returncode), (0, 0))
    if not status:
        return
    time.sleep(_GRACE)
    for process in processes:
        process.kill()
    _end(run, f" (process {rank}: {signal.Signals(-status).name if status < 0 else f'status {status}'})")


def _end(run: Run, which: str = "") -> None:
    # not by the logger, which the main thread may hold for ever
    print(f"{run.command}: {run.lost}{which}", file=sys.stderr, flush=True)
    os._exit(LOST_PROCESS)
