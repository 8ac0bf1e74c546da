"""What this package raises: for bad input one exception, for a stopped run one; how values stand in a message."""

from __future__ import annotations

import reprlib

LONGEST = 200
"""Characters that a value takes in a message."""


class S2LDError(ValueError):
    """Bad input: the message is one line that names the file, key or value and the remedy.

    Command-line scripts print the message and exit with status 2; a traceback means a defect of ours.
    """


LOST_PROCESS = 3
"""Another process of the same run has ended."""
TERMINATED = 143
"""128 + SIGTERM: a scheduler took the machine away; what was done is saved."""


class Stopped(Exception):  # noqa: N818 (no error)
    """Ends a command with one line and a status of its own, for what is neither bad input nor a defect."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


def as_one_line(error: S2LDError) -> S2LDError:
    """Return the error with its own line only: a loader process hands it over below the text of a traceback."""
    line = str(error).strip().splitlines()[-1]
    return S2LDError(line.removeprefix(f"{S2LDError.__module__}.{S2LDError.__name__}: "))


def first_sentence(error: BaseException) -> str:
    """Return the beginning of what a library says of an error, for a message of ours, or the name of its kind."""
    text = " ".join(str(error).split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") or type(error).__name__


def shown(value: object) -> str:
    """Return a value of a stranger's file for a message: on one line, of some `LONGEST` characters at most, soon.

    It is as Python writes it where that is short; a list that holds itself a million times is not.
    """
    text = _SHORT.repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def one_line(text: object) -> str:
    """Return a text, or another library's error, for a message: on one line and of `LONGEST` characters at most."""
    start = str(text)[: 10 * LONGEST]
    line = "".join(character if character.isprintable() else " " for character in " ".join(start.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 3, 8, 8, 4
        self.maxstring = self.maxother = LONGEST // 2

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write whole numbers of thousands of digits."""
        bits = x.bit_length()
        return repr(x) if bits <= LONGEST else f"a whole number of about {bits * 3 // 10} digits"


_SHORT = _Short()
