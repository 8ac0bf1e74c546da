"""Two processes do not write to one output, and one that was killed keeps nobody from it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s2ld.errors import S2LDError
from s2ld.locks import one_of_several, sole_writer

SOURCES = str(Path(__file__).parents[1] / "src")
WRITES = """
import os, sys, threading
from pathlib import Path
from s2ld.locks import sole_writer
with sole_writer(Path(sys.argv[1])):
    if not os.fork():  # by now it has closed its copies
        print(os.getpid(), flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def start_writer() -> Iterator[Callable[[Path], tuple[int, int]]]:
    """Give a function that starts a process which holds an output, and returns its number and that of its fork."""
    started: list[subprocess.Popen[str]] = []
    forks: list[int] = []

    def start(path: Path) -> tuple[int, int]:
        environment = {**os.environ, "PYTHONPATH": SOURCES}
        command = [sys.executable, "-c", WRITES, str(path)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        stdout = started[-1].stdout
        assert stdout is not None
        forks.append(int(stdout.readline()))
        return started[-1].pid, forks[-1]

    yield start
    for fork in forks:
        os.kill(fork, signal.SIGKILL)
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_killed_writer_leaves_neither_a_lock_nor_a_file(
    tmp_path: Path, kind: str, start_writer: Callable[[Path], tuple[int, int]]
) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "a.journal"
    writer, fork = start_writer(path)
    with pytest.raises(S2LDError, match="another process is writing to this output") as caught, sole_writer(path):
        pass
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    os.kill(writer, signal.SIGKILL)
    os.waitid(os.P_PID, writer, os.WEXITED | os.WNOWAIT)
    os.kill(fork, 0)  # as a loader process may, it lives on
    with sole_writer(path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ([] if kind == "folder" else ["a.journal"])


def test_a_process_may_ask_for_its_output_again_and_later(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_writer(tmp_path), sole_writer(tmp_path / "sub" / ".."):
            pass
        with pytest.raises(KeyError), sole_writer(tmp_path):
            raise KeyError
    with pytest.raises(S2LDError, match=r"absent/file: cannot open this output"), sole_writer(tmp_path / "absent/file"):
        pass


def test_where_there_are_no_locks_there_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EBADF, "as network file systems say of folders")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_writer(tmp_path):
        (tmp_path / "a").write_text("a")


def test_several_may_write_where_none_is_alone(tmp_path: Path) -> None:
    several = os.open(tmp_path, os.O_RDONLY)  # another holder: a lock belongs to what was opened
    try:
        fcntl.flock(several, fcntl.LOCK_SH)
        with one_of_several(tmp_path):
            pass
        with pytest.raises(S2LDError, match="another process is writing to this output"), sole_writer(tmp_path):
            pass
        fcntl.flock(several, fcntl.LOCK_EX)
        with pytest.raises(S2LDError, match="another process is writing to this output"), one_of_several(tmp_path):
            pass
    finally:
        os.close(several)
