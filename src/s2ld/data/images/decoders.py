"""Keeps what the libraries behind OpenCV print of damaged pictures from standing beside this program's own lines."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

QUIET = "S2LD_QUIET_DECODERS"
"""Environment variable; `quiet_decoders` does nothing unless it is set, as the commands do for all their processes."""

_STDERR = 2
_LINES = re.compile(
    rb"(?:libpng (?:error|warning)|Corrupt JPEG data|Premature end of JPEG|Unsupported marker type|Invalid SOS param"
    rb"|Inconsistent progression|Unknown Adobe color|Warning: unknown JFIF|\[ ?[A-Z]+:\d+@[\d.]+\] global"
    rb"|\[[\w, ]+ @ 0x[0-9a-f]+\])[^\n]*\n"
)
_lock = threading.Lock()


class _Catcher:
    """Stands in the place of standard error while any thread decodes."""

    def __init__(self) -> None:
        self._threads = self._read = 0
        self._true = self._caught = -1

    def begin(self) -> None:
        if self._threads == 0:
            self._true, self._caught, self._read = os.dup(_STDERR), os.memfd_create("stderr"), 0
            os.dup2(self._caught, _STDERR)
        self._threads += 1

    def end(self) -> None:
        self._threads -= 1
        if self._threads == 0:
            os.dup2(self._true, _STDERR)
        size = os.fstat(self._caught).st_size
        text = os.pread(self._caught, size - self._read, self._read)
        self._read = size
        with suppress(OSError):  # nobody may listen any more
            os.write(self._true, _LINES.sub(b"", text))
        if self._threads == 0:
            os.close(self._true)
            os.close(self._caught)


_catcher = _Catcher()


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Drop the lines that decoders print of a picture meanwhile; what others print comes out at the end.

    It is for commands alone: a process that another thread starts meanwhile would print into nothing. Where the system
    cannot catch the lines they stay.
    """
    if QUIET not in os.environ or sys.__stderr__ is None or not hasattr(os, "memfd_create"):
        yield
        return
    with _lock:
        _catcher.begin()
    try:
        yield
    finally:
        with _lock:
            _catcher.end()
