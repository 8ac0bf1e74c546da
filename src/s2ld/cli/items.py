"""Configs and KEY VALUE pairs as a command line gives them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from s2ld.errors import S2LDError

_KEY = re.compile(r"\w+\.[\w.]+|[A-Z_0-9]+")
_SUFFIXES = (".yaml", ".yml", ".py")  # the last is refused with its reason


def add_items(parser: argparse.ArgumentParser) -> None:
    """Add the positional arguments of commands that take any number of configs."""
    parser.add_argument(
        "items", nargs="+", metavar="CONFIG ... [KEY VALUE ...]", help="configs, files or names, merged in order"
    )


def split_items(items: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split the positional arguments into configs, which come first, and KEY VALUE pairs.

    Raises:
        S2LDError: there is no config.
    """
    first = next((i for i, item in enumerate(items) if _is_key(item)), len(items))
    if first == 0:
        raise S2LDError(f"{items[0]}: give a data and a main config first (*.yaml), KEY VALUE pairs after them")
    return [Path(item) for item in items[:first]], list(items[first:])


def _is_key(item: str) -> bool:
    return Path(item).suffix not in _SUFFIXES and _KEY.fullmatch(item) is not None
