"""One writer at a time for an output, by a lock that ends with its process and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2ld.errors import S2LDError

_HELD: dict[Path, int] = {}


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Keep other processes that ask for the same output from writing to it meanwhile.

    The system drops the lock when this process ends, whatever ends it. Within a process an output may be asked for
    again. A file system without such locks (some network ones) gives none.

    Args:
        path: a folder that is there, or a file, which is made where it is missing.

    Raises:
        S2LDError: another process is writing to it, or it cannot be opened.
    """
    with _held(path, fcntl.LOCK_EX):
        yield


@contextmanager
def one_of_several(path: Path) -> Iterator[None]:
    """Keep processes that ask to be the sole writer of an output from writing to it; others of several may.

    Args:
        path: as for `sole_writer`.

    Raises:
        S2LDError: another process is the sole writer, or it cannot be opened.
    """
    with _held(path, fcntl.LOCK_SH):
        yield


@contextmanager
def _held(path: Path, kind: int) -> Iterator[None]:
    place = path.resolve()
    if place in _HELD:
        yield
        return
    try:
        handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise S2LDError(f"{path}: cannot open this output ({error.strerror}); choose another") from error
    try:
        _lock(handle, path, kind)
        _HELD[place] = handle
        yield
    finally:
        _HELD.pop(place, None)
        os.close(handle)


def _lock(handle: int, path: Path, kind: int) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise S2LDError(
            f"{path}: another process is writing to this output; wait until it has ended, or choose another output"
        ) from error
    except OSError:
        return


def _leave_to_parent() -> None:
    """Close the copies of a forked process, which may outlive a killed parent and would keep its locks."""
    for handle in _HELD.values():
        os.close(handle)
    _HELD.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
