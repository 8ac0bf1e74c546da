from __future__ import annotations

import numpy as np

from s2ld.sfm.matching.pairs import all_pairs
from s2ld.sfm.matching.preselect import COARSE, NEIGHBOURS, RATIO, alike_pairs, by_scale, choose, coarsest, mutual


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    values = rng.normal(size=(count, 128)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def slow_mutual(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    found = []
    for i, a in enumerate(first):
        distances = sorted((float(np.linalg.norm(a - b)), j) for j, b in enumerate(second))
        (nearest, j), (other, _) = distances[:2]
        back = min((float(np.linalg.norm(second[j] - b)), k) for k, b in enumerate(first))[1]
        if back == i and nearest < RATIO * other:
            found.append((i, j))
    return found


def test_matches_are_mutual_and_clear() -> None:
    rng = np.random.default_rng(0)
    first = unit(rng, 40)
    second = unit(rng, 30)
    second[:12] = first[20:32] + 0.05 * rng.normal(size=(12, 128)).astype(np.float32)
    second[12] = second[0]  # two that are alike: neither is clear
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    rows0, rows1 = mutual(first, second)
    expected = slow_mutual(first, second)
    assert list(zip(rows0.tolist(), rows1.tolist(), strict=True)) == expected
    assert len(expected) == 11
    assert len(mutual(first[:1], second)[0]) == 0


def test_the_coarsest_features_come_first() -> None:
    rng = np.random.default_rng(1)
    scale = rng.uniform(1, 9, 500)
    keypoints = np.zeros((500, 6), np.float32)
    keypoints[:, 2] = keypoints[:, 5] = scale
    order = by_scale(keypoints)
    assert np.array_equal(order, np.argsort(-scale))
    points, descriptors = coarsest(keypoints[order, :2], rng.integers(0, 256, (500, 128), np.uint8))
    assert points.shape == (COARSE, 2)
    assert np.allclose(np.linalg.norm(descriptors, axis=1), 1)


def test_each_photograph_is_matched_with_those_most_alike_and_its_neighbours() -> None:
    count = 12
    scores = np.zeros((count, count), np.int64)
    scores[0, 9] = scores[9, 0] = 50
    scores[0, 8] = scores[8, 0] = 40
    pairs = choose(scores, 1)
    assert (0, 9) in pairs
    assert (0, 8) in pairs  # 8's best one is 0
    assert (0, 7) not in pairs
    neighbours = {(i, j) for i, j in all_pairs(count) if j - i <= NEIGHBOURS}
    assert set(pairs) == neighbours | {(0, 9), (0, 8)}


def test_photographs_of_one_thing_find_each_other_among_many() -> None:
    rng = np.random.default_rng(2)
    things = [unit(rng, 30) for _ in range(2)]
    tables = [things[i % 2] + 0.02 * rng.normal(size=(30, 128)).astype(np.float32) for i in range(10)]
    tables = [table / np.linalg.norm(table, axis=1, keepdims=True) for table in tables]
    pairs = set(alike_pairs(10, lambda i: tables[i], 5, progress=False))
    assert {(i, j) for i, j in all_pairs(10) if (j - i) % 2 == 0} <= pairs
    assert (0, 5) not in pairs
