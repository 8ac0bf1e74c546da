import numpy as np
import pytest

from s2ld.sfm.matching.clustering import cluster


def slow_cluster(points: np.ndarray, weights: np.ndarray, radius: float) -> np.ndarray:
    """The same rule, one point after another."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = distance <= radius
    weight = (near * weights).sum(1)
    middles: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (-weight[i], i)):
        if not any(near[i, m] for m in middles):
            middles.append(i)
    own = {m: k for k, m in enumerate(middles)}
    nearest = [min(range(len(middles)), key=lambda k: (distance[i, middles[k]], k)) for i in range(len(points))]
    return np.array([own.get(i, nearest[i]) for i in range(len(points))])


@pytest.mark.parametrize("seed", range(10))
def test_clusters_are_those_of_the_slow_rule(seed: int) -> None:
    random = np.random.default_rng(seed)
    points, weights = random.uniform(0, 8, (80, 2)), random.integers(1, 4, 80).astype(float)
    assert cluster(points, weights, 1.0).tolist() == slow_cluster(points, weights, 1.0).tolist()


def test_groups_that_are_apart_are_found() -> None:
    random = np.random.default_rng(0)
    middles = 5.0 * np.stack(np.meshgrid(np.arange(10), np.arange(10)), -1).reshape(-1, 2)
    points = (middles[:, None] + random.uniform(-0.3, 0.3, (100, 7, 2))).reshape(-1, 2)
    label = cluster(points, np.ones(700), 1.0).reshape(100, 7)
    assert (label == label[:, :1]).all()
    assert sorted(label[:, 0]) == list(range(100))


def test_no_points_and_equal_points() -> None:
    assert len(cluster(np.zeros((0, 2)), np.zeros(0), 1.0)) == 0
    points = np.array([[3.0, 4.0], [7.0, 4.0], [3.0, 4.0]])
    assert cluster(points, np.ones(3), 0.0).tolist() == [0, 1, 0]
