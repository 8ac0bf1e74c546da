from __future__ import annotations

from itertools import combinations

import numpy as np

from s2ld.data.index.overlap import PairMeasures
from s2ld.data.index.pair_selection import select_pairs

EDGES = [0.1, 0.3, 0.5, 0.8]


def measures(overlap: np.ndarray, count: int, angle: float = 20.0) -> PairMeasures:
    pairs = np.array(list(combinations(range(count), 2)))
    ones = np.ones(len(pairs), np.float32)
    return PairMeasures(pairs, overlap.astype(np.float32), angle * ones, ones)


def test_bins_are_even_and_no_image_has_too_many() -> None:
    count = 40
    overlap = np.random.default_rng(0).choice([0.05, 0.2, 0.2, 0.2, 0.4, 0.6, 0.9], count * (count - 1) // 2)
    given = measures(overlap, count)
    rows = select_pairs(given, EDGES, 9, 60.0, 0)
    assert np.bincount(given.pairs[rows].ravel()).max() <= 9
    kept = np.histogram(given.overlap[rows], EDGES)[0]
    assert kept.sum() == len(rows)
    assert kept.max() - kept.min() <= 0.2 * kept.mean()
    assert len(rows) > 0.85 * count * 9 / 2  # hardly any room is left
    assert np.array_equal(rows, select_pairs(given, EDGES, 9, 60.0, 0))
    assert not np.array_equal(rows, select_pairs(given, EDGES, 9, 60.0, 1))


def test_everything_is_kept_where_there_is_room() -> None:
    overlap = np.array([0.1, 0.8, 0.3, 0.0999, 0.801, 0.5])
    assert select_pairs(measures(overlap, 4), EDGES, 30, 60.0, 0).tolist() == [0, 1, 2, 5]


def test_wide_angles_take_the_room_that_is_left() -> None:
    given = measures(np.full(6, 0.4), 4)
    given.angle_deg[:] = [70, 70, 20, 20, 70, 70]  # (0, 3) and (1, 2) are narrow
    assert select_pairs(given, EDGES, 1, 60.0, 0).tolist() == [2, 3]
    assert len(select_pairs(given, EDGES, 2, 60.0, 0)) == 4
    assert select_pairs(measures(np.zeros(0), 1), EDGES, 2, 60.0, 0).tolist() == []
