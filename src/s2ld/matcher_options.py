"""What a matcher may be told, checked before anything is loaded or compiled for it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from numbers import Integral, Real
from typing import Any

from s2ld.data.images.reading import MULTIPLE
from s2ld.errors import S2LDError
from s2ld.types import Extracted

MAX_SIDE = 640
"""Default longer side of the resized images, px: what the shipped weights were measured at."""
KEEP_SIZE = -1
"""As `max_side`: no resizing, but for sides that are no multiple of 8."""
ROTATIONS = ("none", "auto")
"""Of image 1 against image 0; see `Matcher`."""


def check_options(threshold: Any, max_side: Any, size: Any, fast: bool, rotation: Any, top_k: Any) -> None:
    """Raise `S2LDError` for options of `Matcher`, named as there, of another type, out of range, or at odds."""
    check_cuts(threshold, top_k)
    if max_side is not None and size is not None:
        raise S2LDError("max_side and size exclude each other; give one of them")
    if max_side is not None and max_side != KEEP_SIZE and not _is_side(max_side):
        raise S2LDError(f"max_side must be at least {MULTIPLE} px, whole, or -1 to keep the size, not {max_side!r}")
    if size is not None:
        sides = list(size) if isinstance(size, Iterable) else [size]
        if len(sides) != 2 or not all(map(_is_side, sides)):
            given = " x ".join(map(repr, sides))
            least = f"at least {MULTIPLE} x {MULTIPLE} px"
            raise S2LDError(f"size must be (width, height), {least}, not {given}; give two whole numbers")
    if fast and size is None:
        raise S2LDError("fast compiles for one size; give size (--resize WIDTH HEIGHT) with it")
    if rotation not in ROTATIONS:
        raise S2LDError(f"rotation is {rotation!r}; use {' or '.join(ROTATIONS)}")
    if fast and rotation != "none":
        raise S2LDError("fast compiles for one size, and rotation looks at others; leave out one of them")


def check_cuts(threshold: Any, top_k: Any) -> None:
    """Raise `S2LDError` for a threshold or a number of matches, of a matcher or a call, that is none."""
    if threshold is not None and not (isinstance(threshold, Real) and 0 <= float(threshold) < 1):
        raise S2LDError(f"threshold must be in [0, 1), not {threshold!r}")
    if top_k is not None and not (isinstance(top_k, Integral) and top_k >= 1):  # type: ignore[operator]
        raise S2LDError(f"top_k must be at least 1 match, whole, not {top_k!r}")


def check_pairs(pairs: Iterable[Any], batch: Any) -> None:
    """Raise `S2LDError` for arguments of `Matcher.match_many` of another type or out of range."""
    if not isinstance(batch, Integral) or not batch >= 1:  # type: ignore[operator]
        raise S2LDError(f"batch must be at least 1 pair, not {batch!r}")
    for side in chain.from_iterable(pairs):
        if not isinstance(side, Extracted):
            raise S2LDError(
                f"match takes what extract returns, not a {type(side).__name__}; call the matcher on images"
            )


def _is_side(value: Any) -> bool:
    return isinstance(value, Integral) and bool(value >= MULTIPLE)  # type: ignore[operator]
