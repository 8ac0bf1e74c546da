"""Section `start`: from the start of a process to its first match."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import s2ld
from s2ld.benchmarks.outcome import Outcome
from s2ld.data.images.motorcycle import load_motorcycle
from s2ld.errors import S2LDError
from s2ld.log import Progress

FIRST_MATCH, MODEL_LOAD = 3.0, 0.5
"""Largest times, s."""


def measure(threads: int, rounds: int) -> list[Outcome]:
    """Fresh processes of demo_match.py with Lite and the built-in pair, up to its first match.

    Medians by the clock and of CPU seconds, Python's own start in them; one process before them, which fills the disk's
    cache, is not counted. Loading: from the weight file to the network on its device, PyTorch being there.

    Raises:
        S2LDError: the demo does not run here; its last line says why.
    """
    load_motorcycle()  # tells in one line if it is missing
    runs = [_first_match(threads) for _ in Progress(range(rounds + 1), unit="process")][1:]
    wall, cpu, load = (statistics.median(run[name] for run in runs) for name in ("wall", "cpu", "load"))
    spread = f"{min(run['wall'] for run in runs):.2f} to {max(run['wall'] for run in runs):.2f} s"
    return [
        Outcome("start to first match, by the clock", wall, "s", FIRST_MATCH, note=spread),
        Outcome("start to first match, CPU", cpu, "s"),
        Outcome("loading the model, by the clock", load, "s", MODEL_LOAD),
    ]


def _first_match(threads: int) -> dict[str, float]:
    paths = [str(Path(s2ld.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]  # this package, not another one
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "s2ld.cli.benchmarks.first_match", str(time.time()), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError) as error:
        raise S2LDError(f"the demo does not run: {(done.stderr.strip() or 'no output').splitlines()[-1]}") from error
