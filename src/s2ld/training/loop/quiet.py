"""Lightning's notes on hardware, loaders and models, of which a command that reports something else needs none."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from s2ld.log import hushed


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Drop Lightning's notes, those of our own training and all warnings inside the block."""
    notes = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = notes.level
    notes.setLevel(logging.WARNING)
    try:
        with hushed("s2ld.training"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        notes.setLevel(level)
