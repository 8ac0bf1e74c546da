"""Reading strangers' files, and writing ours so that neither Ctrl-C nor a full disk leaves half of one."""

from __future__ import annotations

import codecs
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unicodedata import category

from s2ld.errors import S2LDError
from s2ld.memory import available_memory

_ALWAYS_FITS = 2**26  # bytes of a file for which the memory is not asked
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_file(path: str | Path, what: str, remedy: str) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        what: it is, for the message: "image".
        remedy: what to do where it cannot be read, for the message: "check the path".

    Raises:
        S2LDError: it is missing, a folder, a pipe or a device (which may never end), or its name can be none.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            reason = "a pipe or a device, not a file"
        elif status.st_size > _ALWAYS_FITS and status.st_size > available_memory():
            reason = f"{status.st_size / 2**30:.1f} GiB, more than the available memory"
        else:
            return Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError as error:  # a name with NUL or a lone surrogate
        reason = str(error)
    raise S2LDError(f"{printable(path)}: cannot read this {what} ({reason}); {remedy}")


def read_text(path: str | Path, what: str, remedy: str) -> str:
    """Return a text file in UTF-8, without the byte order mark that Windows' editors write before it.

    Args:
        path: the file.
        what: it is, for the message: "list of pairs".
        remedy: what to do where it cannot be read, for the message: "check the path".

    Raises:
        S2LDError: what `read_file` says, or it is no text in UTF-8; one in UTF-16 is named so.
    """
    data = read_file(path, what, remedy)
    if data.startswith(_UTF16):
        raise S2LDError(
            f"{printable(path)}: not a text file in UTF-8 but in UTF-16; save this {what} as UTF-8; {remedy}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise S2LDError(f"{printable(path)}: not a text file in UTF-8, so no {what}; {remedy}")
    return text


def printable(name: object) -> str:
    """Return a name, or a message with one, as one line that can be printed, whatever bytes the name is made of."""
    return "".join(c.encode("unicode_escape").decode() if _is_odd(c) else c for c in str(name))


def is_portable(name: str) -> bool:
    """Tell whether a name can stand in text files and data bases: it is UTF-8, without line breaks or controls."""
    return not any(map(_is_odd, name))


def portable_name(name: object, origin: str) -> str:
    """Return a name that a list of ours may hold (`is_portable`); raises `S2LDError`, which names the list."""
    if not is_portable(str(name)):
        raise S2LDError(f"{origin}: the name {printable(name)} is not in UTF-8 or has control characters; rename it")
    return str(name)


def _is_odd(character: str) -> bool:
    """Tell a control character, a line break, or half of a character: a byte of a name that is not UTF-8."""
    return category(character) in ("Cc", "Cs", "Zl", "Zp")


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
