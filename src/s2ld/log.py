"""What a command tells beside its results: one stream on standard error, spared by progress bars, and a file if asked.

Library code says things by `logger`, which is silent until a command runs (`telling`) or a user of the library says
``logger.enable("s2ld")``; what every caller must know is a Python warning instead. Long work is a `Progress`.
"""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger
from tqdm import tqdm

if TYPE_CHECKING:
    from loguru import Logger, Message, Record

__all__ = ["FILE", "Progress", "hushed", "keep", "logger", "set_level", "set_rank", "telling"]

FILE = "log.txt"
"""Name of the log beside the outputs of a command; of process N other than the first, `log.rankN.txt`."""
EVERY = 30.0
"""Seconds between two lines of a `Progress` that has no terminal."""
_LINE = "{desc}: {n_fmt}/{total_fmt} {unit}, {elapsed} so far, {remaining} left, {rate_fmt}{postfix}"
_IN_FILE = "{time:YYYY-MM-DD HH:mm:ss} | {level} | {module}:{line} | {message}"
_FOREIGN = ("pytorch_lightning", "lightning_fabric", "torch")
"""Loggers that may have a handler of their own, from when their package is imported."""


@dataclass
class _State:
    command: str = ""
    """Which is running; empty: none."""
    level: str = "INFO"
    """Least that standard error shows."""
    rank: int = 0
    files: dict[Path, int] = field(default_factory=dict)
    """loguru's numbers of the log files."""
    adopted: dict[str, list[logging.Handler]] = field(default_factory=dict)
    """Handlers that foreign loggers had."""


_state = _State()
logger.disable("s2ld")


class Progress(tqdm):  # type: ignore[type-arg]
    """tqdm's bar on standard error: a line every 30 seconds where that is no terminal; none when only warnings show.

    Takes tqdm's arguments.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._as_lines = bool(_state.command) and not sys.stderr.isatty()
        self._told = time.monotonic()
        quiet = _level_number(_state.level) > _level_number("INFO")
        kwargs["disable"] = kwargs.get("disable") or quiet or (self._as_lines and _state.rank > 0)
        if self._as_lines:  # tqdm's carriage returns go nowhere
            kwargs |= {"file": io.StringIO(), "bar_format": _LINE}
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or say where it stands if that was long ago."""
        if not self._as_lines:
            super().display(msg, pos)
        elif time.monotonic() - self._told >= EVERY:
            self._tell()

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Name the work anew."""
        (super().set_description_str if self._as_lines else super().set_description)(desc, refresh)

    def close(self) -> None:
        """End the bar; of one that stays (`leave`), say how it ended."""
        tells = self._as_lines and not self.disable and self.leave
        super().close()
        if tells:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        logger.opt(depth=1).info(str(self))


@contextmanager
def telling(command: str) -> Iterator[None]:
    """Show what is said inside the block: by this package, by Lightning and torch, and as Python warnings.

    Args:
        command: its name, which stands before warnings and errors.
    """
    shown, root = warnings.showwarning, logging.getLogger()
    _state.command, _state.rank = command, _rank_of_environment()
    with suppress(ValueError):
        logger.remove(0)  # loguru's own sink
    number = logger.add(_write, format=_format, filter=_is_shown, level=0)
    logger.enable("s2ld")
    root.addHandler(intercept := _Intercept())
    _adopt()
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    started = time.monotonic()
    try:
        yield
    finally:
        logger.debug("ended after {:.1f} s", time.monotonic() - started)
        warnings.showwarning = shown
        _give_back()
        root.removeHandler(intercept)
        for sink in (number, *_state.files.values()):
            logger.remove(sink)
        logger.disable("s2ld")
        _state.command, _state.level, _state.rank, _state.files = "", "INFO", 0, {}


def keep(folder: Path) -> None:
    """Write a log beside a command's outputs, from now to its end: all levels, with time and place, appended.

    Args:
        folder: exists.
    """
    _adopt()
    path = folder / (f"log.rank{_state.rank}.txt" if _state.rank else FILE)
    if not _state.command or path in _state.files:
        return
    _state.files[path] = logger.add(path, format=_IN_FILE, level=0, encoding="utf-8")
    logger.debug("{} in {}", shlex.join([*_state.command.split(), *sys.argv[1:]]), Path.cwd())


@contextmanager
def hushed(room: str) -> Iterator[None]:
    """Drop what a room of the package says inside the block.

    Args:
        room: e.g. ``s2ld.training``.
    """
    logger.disable(room)
    try:
        yield
    finally:
        if _state.command:
            logger.enable(room)


def set_level(level: str) -> None:
    """Choose the least that standard error shows: DEBUG, INFO or WARNING."""
    _state.level = level


def set_rank(rank: int) -> None:
    """Tell the number of this process of a run; all but the first show only warnings, and name it before them."""
    _state.rank = rank


class _Intercept(logging.Handler):
    """Hands the records of Python's logging over to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        known = record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        told = _from(record.name, record.lineno).opt(exception=record.exc_info)
        told.log(record.levelname if known else record.levelno, "{}", record.getMessage())


def _rank_of_environment() -> int:
    """Return the number that torchrun, SLURM or Lightning gave this process; 0 if it is alone."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0


def _adopt() -> None:
    """Take the handlers of foreign loggers away, so that their records come here alone."""
    for name in _FOREIGN:
        foreign = logging.getLogger(name)
        if foreign.handlers:
            _state.adopted[name] = foreign.handlers[:]
            foreign.handlers[:], foreign.propagate = [], True


def _give_back() -> None:
    for name, handlers in _state.adopted.items():
        foreign = logging.getLogger(name)
        foreign.handlers[:], foreign.propagate = handlers, False
    _state.adopted = {}


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    place = Path(filename)
    level = "DEBUG" if place.parent.name == "PIL" else "WARNING"  # of a damaged picture the error tells enough
    _from(place.stem, lineno).log(level, "{}", message)


def _from(module: str, line: int) -> Logger:
    """Return the logger for what was said at another place."""
    return logger.patch(lambda record: record.update({"module": module, "line": line}))


def _write(message: Message) -> None:
    tqdm.write(message, file=sys.stderr, end="")


def _is_shown(record: Record) -> bool:
    least = max(_level_number(_state.level), _level_number("WARNING") if _state.rank else 0)
    return record["level"].no >= least


def _format(record: Record) -> str:
    process = "process {extra[rank]}: " if _state.rank else ""
    record["extra"] |= {"rank": _state.rank, "command": _state.command}
    kind = "{extra[command]}: warning: " if record["level"].name == "WARNING" else ""
    kind = "{extra[command]}: " if record["level"].no > logger.level("WARNING").no else kind
    place = "{time:HH:mm:ss} {module}:{line} | " if _state.level == "DEBUG" else ""
    return f"{place}{kind}{process}{{message}}\n{{exception}}"


def _level_number(name: str) -> int:
    return logger.level(name).no
