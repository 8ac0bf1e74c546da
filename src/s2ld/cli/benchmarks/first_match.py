"""Runs the demo up to its first match and tells how long that took.

`python -m s2ld.cli.benchmarks.first_match START OUT`

START is the time at which the process was started, seconds since the epoch; OUT a folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main(started: float, output: Path) -> None:
    """Print a line of JSON (wall, cpu, load: seconds) and end the process at the demo's first match."""
    from s2ld.cli.match import demo
    from s2ld.matcher import Matcher  # as the demo does, when torch is not loaded yet

    load, match, spent = Matcher.from_pretrained, Matcher.__call__, 0.0

    def timed_load(*args: Any) -> Matcher:
        nonlocal spent
        start = time.perf_counter()
        matcher = load(*args)
        spent = time.perf_counter() - start
        return matcher

    def first_match(self: Matcher, *images: Any) -> None:
        matches = match(self, *images)
        numbers = {"wall": time.time() - started, "cpu": time.process_time(), "load": spent, "matches": len(matches)}
        print(json.dumps(numbers), flush=True)
        os._exit(0)

    Matcher.from_pretrained = timed_load  # type: ignore[method-assign, assignment]
    Matcher.__call__ = first_match  # type: ignore[method-assign, assignment]
    demo.script(["--output", str(output), "--device", "cpu"])


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]))
