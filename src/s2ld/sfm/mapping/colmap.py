"""COLMAP by its Python package, which is optional."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2ld.errors import S2LDError, one_line
from s2ld.extras import install


def load_pycolmap() -> Any:
    """Import pycolmap, whose log is kept to errors.

    Raises:
        S2LDError: it is not installed, or cannot be loaded.
    """
    try:
        pycolmap = importlib.import_module("pycolmap")
    except ImportError as error:
        raise S2LDError(f"pycolmap cannot be loaded ({error}): {install('sfm')}") from error
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    return pycolmap


@contextmanager
def colmap_errors(folder: Path, what: str, kept: str) -> Iterator[None]:
    """Turn what COLMAP and SQLite raise, without a class of their own, into one line.

    Args:
        folder: that is written to.
        what: failed, for the message: "COLMAP's mapper".
        kept: what the message says of the work that is done, and the remedy.

    Raises:
        S2LDError: something was raised.
    """
    try:
        yield
    except S2LDError:
        raise
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        reason = one_line(error) or type(error).__name__
        free = shutil.disk_usage(folder).free >> 20
        raise S2LDError(f"{folder}: {what} failed ({reason}; {free} MiB are free on this disk); {kept}") from error
