"""What a run has logged, over its chunks and phases: curves against the pairs seen, and where they lead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2ld.errors import S2LDError
from s2ld.types import FloatArray

LOGS = "tensorboard"
"""Folder of the logs in a run's output folder."""
RATE = "train/pairs_per_second"
PAIRS = "train/pairs"
LEAST_POINTS = 3  # of a slope


@dataclass(frozen=True)
class Curve:
    """One logged value over several phases."""

    pairs: FloatArray
    """(Q,) pairs seen since the first phase began, ascending."""
    values: FloatArray
    """(Q,)"""

    def slope(self, share: float = 0.5) -> float:
        """Return the growth for each doubling of the pairs, a least-squares line over the last `share` of the pairs.

        NaN where that part has fewer than `LEAST_POINTS` values.
        """
        last = self.pairs >= (1 - share) * self.pairs.max(initial=0.0)
        if int(last.sum()) < LEAST_POINTS or not (self.pairs[last] > 0).all():
            return math.nan
        return float(np.polyfit(np.log2(self.pairs[last]), self.values[last], 1)[0])


@dataclass(frozen=True)
class History:
    """Everything that the phases of a run have logged."""

    curves: dict[str, Curve]
    """By the name in the logs: ``loss/total``, ``val/score`` ..."""
    phases: list[float]
    """Pairs seen at the end of each phase."""

    def rate(self) -> float:
        """Return the median of the pairs a second that the last phase has logged; NaN if it has logged none."""
        start = self.phases[-2] if len(self.phases) > 1 else 0.0
        curve = self.curves.get(RATE)
        values = curve.values[curve.pairs > start] if curve is not None else np.zeros(0)
        return float(np.median(values)) if len(values) else math.nan

    def gain(self, name: str, seconds: float) -> float:
        """Return what a value would gain in so many further seconds, at the last phase's rate and by its slope.

        A guess: it takes the curve to be a line over the logarithm of the pairs, which no learning rate lets fall off.
        """
        pairs, curve = self.phases[-1], self.curves[name]
        return curve.slope() * math.log2(1 + seconds * self.rate() / pairs) if pairs else math.nan


def read_history(folders: Sequence[Path]) -> History:
    """Read the logs of the phases of a run, in their order; a phase may have been written in several chunks.

    Args:
        folders: output folders of train.py.

    Raises:
        S2LDError: a folder has no logs.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    phases: list[float] = []
    for folder in folders:
        before = phases[-1] if phases else 0.0
        scalars = _scalars(folder)
        steps, pairs = (np.array(values) for values in zip(*sorted(scalars.pop(PAIRS).items()), strict=True))
        for name, values in scalars.items():
            seen = before + np.interp(np.array(sorted(values)), [0, *steps], [0, *pairs])
            points.setdefault(name, []).extend(zip(seen.tolist(), (values[s] for s in sorted(values)), strict=True))
        phases.append(before + float(pairs.max()))
    arrays = {name: np.array(rows, np.float64) for name, rows in points.items()}
    return History({name: Curve(rows[:, 0], rows[:, 1]) for name, rows in arrays.items()}, phases)


def _scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return the scalars of a run's logs by name and step; what a resume repeats counts once."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
        EventAccumulator,
    )

    logs = EventAccumulator(str(folder / LOGS), size_guidance={"scalars": 0})
    if (folder / LOGS).is_dir():
        logs.Reload()
    names = logs.Tags()["scalars"] if (folder / LOGS).is_dir() else []
    if PAIRS not in names:
        raise S2LDError(f"{folder / LOGS}: no logs of train.py with {PAIRS} in them; give the output folder of a run")
    return {name: {event.step: event.value for event in logs.Scalars(name)} for name in names}
