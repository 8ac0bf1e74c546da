"""Command lines as people write them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse as `parser.parse_args` does, but options that take many values take no more than can be theirs.

    In `--resize 640 a.jpg b.jpg` the images are no numbers, and so they are the images. Options may also stand between
    the others. Ends the program, with a usage line, as argparse does.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    many = {name: action for action in parser._actions if action.nargs == "+" for name in action.option_strings}
    rest: list[str] = []
    moved: list[str] = []  # behind the others, where argparse lets them end
    at = 0
    while at < end:
        start, at = at, at + 1
        if words[start] not in many:
            rest.append(words[start])
            continue
        while at < end and _can_be(many[words[start]], words[at]):
            at += 1
        moved += words[start:at]
    return parser.parse_intermixed_args([*rest, *moved, *words[end:]])


def _can_be(action: argparse.Action, word: str) -> bool:
    """Tell whether a word can be a value of an option."""
    try:
        value = action.type(word) if callable(action.type) else word
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        return False
    return action.choices is None or value in action.choices
