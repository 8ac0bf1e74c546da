"""Writing files so that neither Ctrl-C nor a full disk leaves half of one."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2ld.errors import S2LDError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; what was written takes the place of `path` at the end, or goes.

    It is on the disk before it takes the place, so that a power cut leaves one of both whole. It may be read by whom
    the umask says, whatever a library's own temporary file was made with.

    Raises:
        S2LDError: the file cannot be written; missing parent folders are made.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            mode = _mode_of_new_file(part)
            yield part
            part.chmod(mode)
            _flush(part)
            os.replace(part, path)
            _flush(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise S2LDError(f"{path}: cannot write this file ({error.strerror or error}); choose another folder") from error


def _mode_of_new_file(path: Path) -> int:
    """Return the permissions that a new file gets in this place; nothing is at `path` afterwards."""
    path.unlink(missing_ok=True)
    path.touch(exist_ok=False)
    mode = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; it takes the place of `path` at the end, or goes.

    Raises:
        S2LDError: a file cannot be written; missing parent folders are made.
    """
    part, old = (path.with_name(path.name + suffix) for suffix in (".part", ".old"))
    try:
        if old.exists() and not path.exists():  # a kill came between the two renames
            old.rename(path)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            yield part
            for file in part.rglob("*"):
                _flush(file)
            if path.exists():
                path.rename(old)
            part.rename(path)
            _flush(path.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise S2LDError(f"{path}: cannot write this folder ({error.strerror or error}); choose another") from error


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Create a folder to write to, and its parents.

    Raises:
        S2LDError: it cannot be created, or nothing can be written in it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise S2LDError(f"{path}: cannot create this output folder ({error.strerror}); choose another") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise S2LDError(f"{path}: this output folder is not writable; choose another")
