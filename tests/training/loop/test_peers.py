"""Processes of a run end when one of them does, also while they are starting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_ddp import ROOT, arguments, run_unlucky

from s2ld.errors import LOST_PROCESS
from s2ld.processes import peers
from s2ld.processes.peers import FIRST, TRAINING, end_with

LINE = f"s2ld train: {TRAINING.lost}"
STARTS = """
import os, subprocess, sys
environment = {**os.environ, "LOCAL_RANK": "1", "NUMBER": str(os.getpid())}
child = subprocess.Popen([sys.executable, *sys.argv[1:]], env=environment)
"""
FOLLOWS = """
import os, sys, threading
from s2ld.processes import peers
peers._POLL = peers._GRACE = 0.01
os.environ[peers.FIRST] = os.environ["NUMBER"]
{wait}
peers.follow_first(peers.TRAINING)
print("following", flush=True)
threading.Event().wait()
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), **more}


@pytest.mark.parametrize("dies", ["while it is followed", "before it is followed"])
def test_a_process_ends_after_the_one_that_started_it(dies: str) -> None:
    early = dies.startswith("before")
    follows = FOLLOWS.format(wait="sys.stdin.read()" if early else "")
    # the first process ends with its standard input, or at once
    starts = STARTS + ("os._exit(0)" if early else "sys.stdin.read()")
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen([sys.executable, "-c", starts, "-c", follows], env=environment(), **options)  # type: ignore[call-overload]
    if early:
        first.wait(60)
    else:
        assert first.stdout.readline() == "following\n"
        first.send_signal(signal.SIGKILL)
    said, told = first.communicate(timeout=60)  # returns when the second process has closed them too
    assert told == f"{LINE}\n"
    assert said == ""


def test_train_py_follows_before_it_imports_what_takes_seconds() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "train.py")],
        env=environment(LOCAL_RANK="1", **{FIRST: "1"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == LOST_PROCESS
    assert LINE in done.stderr
    assert "torch" not in done.stderr


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (["", "os.kill(os.getpid(), 9)", "threading.Event().wait()"], f"{LINE} (process 2: SIGKILL)\n"),
        (["sys.exit(2)", "threading.Event().wait()"], f"{LINE} (process 1: status 2)\n"),
        (["", ""], ""),
    ],
)
def test_the_first_process_says_which_other_one_has_ended_and_how(
    ends: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "_POLL", 0.01)
    monkeypatch.setattr(peers, "_GRACE", 0.0)
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    processes = [subprocess.Popen([sys.executable, "-c", f"import os, sys, threading; {end}"]) for end in ends]
    end_with(processes, TRAINING)
    assert capfd.readouterr().err == told
    assert statuses == ([LOST_PROCESS] if told else [])
    for process in processes:
        process.wait(60)


def test_a_process_that_is_killed_while_it_starts_is_named(tmp_path: Path) -> None:
    done = run_unlucky("start:1", arguments(tmp_path, 2, 1, "TRAIN.MAX_STEPS", "1"))
    assert done.returncode == LOST_PROCESS, done.stderr[-3000:]
    assert done.stderr.count(LINE) == 1
    assert f"{LINE} (process 1: SIGKILL)" in done.stderr
