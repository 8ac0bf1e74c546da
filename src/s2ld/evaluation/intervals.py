"""Confidence intervals by the bootstrap over pairs (Efron, Annals of Statistics, 1979): percentiles of resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from s2ld.types import FloatArray

COVERAGE = 0.95
"""Share of the resamples that an interval holds, in the middle."""


@dataclass(frozen=True)
class Bootstrap:
    """Draws as many pairs as there are, with replacement, again and again.

    Resample b consists of the pairs in row b of ``default_rng(seed).integers(n, size=(resamples, n))``.
    """

    resamples: int
    """0: no interval can be had."""
    seed: int

    def of_mean(self, values: Sequence[float]) -> tuple[float, float]:
        """Return both ends of the interval of the mean of `values`, one a pair."""
        counts = _counts(len(values), self.resamples, self.seed)
        return _ends(counts @ np.asarray(values, np.float64) / len(values))

    def of_areas(self, errors: FloatArray, threshold: float) -> tuple[float, float]:
        """Return both ends of the interval of the area (`pose_auc`), averaged over repeats.

        Args:
            errors: (R, n) of repeats of the estimation and pairs, infinite ones too.
            threshold: in the unit of the errors.
        """
        counts = _counts(errors.shape[1], self.resamples, self.seed)
        areas = np.zeros(self.resamples)
        for repeat in errors:  # the formula of `pose_auc`, a pair counting as often as it was drawn
            below = np.where(repeat < threshold, repeat, 0.0)
            gained = np.where(repeat < threshold, threshold - below, 0.0)
            last = np.max(np.where(counts > 0, below, 0.0), axis=1)
            areas += (counts @ gained + last / 2) / (len(repeat) * threshold)
        return _ends(areas / len(errors))


@lru_cache(maxsize=4)
def _counts(pairs: int, resamples: int, seed: int) -> FloatArray:
    """Return (resamples, pairs) how often each pair was drawn."""
    drawn = np.random.default_rng(seed).integers(pairs, size=(resamples, pairs))
    flat = (drawn + pairs * np.arange(resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=resamples * pairs).reshape(resamples, pairs).astype(np.float64)


def _ends(statistics: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(statistics, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)
