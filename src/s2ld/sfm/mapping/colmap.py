"""COLMAP by its Python package, which is optional."""

from __future__ import annotations

import importlib
from typing import Any

from s2ld.errors import S2LDError
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
