"""Agreement of exact depth maps, and of maps that are wrong in known places; specks."""

from __future__ import annotations

import numpy as np
import torch
from planes import Array, Plane, camera, render, waves

from s2ld.sfm.depth.consistency import DepthView, count_agreeing, remove_speckles

SIZE = (60, 44)


def exact(centre: tuple[float, float, float], yaw: float, factor: Array | float = 1.0) -> DepthView:
    K, pose = camera(centre, SIZE, yaw)
    depth = render([Plane(6.0, 0.3, -0.1, waves(0))], K, pose, SIZE)[1] * factor
    return DepthView(torch.from_numpy(depth).float(), torch.from_numpy(K), torch.from_numpy(pose))


def slow_count(view: DepthView, others: list[DepthView], tolerance: float) -> Array:
    count = np.zeros(view.depth.shape)
    for y, x in np.ndindex(count.shape):
        if view.depth[y, x] == 0:
            continue
        point = np.linalg.inv(view.K.numpy()) @ [x, y, 1.0] * float(view.depth[y, x])
        world = np.linalg.inv(view.pose.numpy()) @ [*point, 1.0]
        for other in others:
            there = (other.pose.numpy() @ world)[:3]
            column, row = np.floor((other.K.numpy() @ there / there[2])[:2] + 0.5).astype(int)
            if there[2] > 0 and 0 <= row < SIZE[1] and 0 <= column < SIZE[0]:
                found = float(other.depth[row, column])
                count[y, x] += found > 0 and abs(there[2] - found) <= tolerance * found
    return count


def test_exact_maps_agree_wherever_they_see_a_point() -> None:
    view, others = exact((0, 0, 0), 0), [exact((0.5, 0.1, 0), -3), exact((-0.4, 0, 0.2), 4)]
    count = count_agreeing(view, others, 0.02)
    assert (count.numpy() == slow_count(view, others, 0.02)).all()
    assert (count[4:-4, 15:-15] == 2).all()
    assert count.min() == 0 or count.min() == 1, "the sides are seen by one alone"


def test_wrong_and_unknown_depths_are_not_confirmed() -> None:
    factor = np.ones((SIZE[1], SIZE[0]))
    factor[10:20, 20:30], factor[25:35, 20:30] = 1.1, 0
    view, others = exact((0, 0, 0), 0, factor), [exact((0.3, 0.1, 0), 0), exact((-0.3, 0, 0), 0)]
    count = count_agreeing(view, others, 0.02)
    assert (count[10:20, 20:30] == 0).all()
    assert (count[25:35, 20:30] == 0).all()
    assert (count[4:10, 20:30] == 2).all()
    assert count_agreeing(view, others, 0.2)[10:20, 20:30].min() == 2
    assert count_agreeing(view, [], 0.02).max() == 0


def test_specks_go_by_their_size() -> None:
    depth = np.zeros((20, 30), np.float32)
    depth[1:4, 1:4] = 5  # 9 px
    depth[1:5, 10:15] = 5  # 20 px
    depth[10:14, 10:15] = 5 * 1.015 ** np.arange(5, dtype=np.float32)  # 20 px, in steps of 1.5 %
    depth[16:19, 10:14] = [5, 5, 5.5, 5.5]  # two pieces of 6 px
    left = remove_speckles(depth, 20, 0.02)
    expected = depth.copy()
    expected[1:4, 1:4] = expected[16:19, 10:14] = 0
    np.testing.assert_array_equal(left, expected)
    np.testing.assert_array_equal(remove_speckles(depth, 21, 0.02), 0)
    np.testing.assert_array_equal(remove_speckles(depth, 1, 0.02), depth)
    np.testing.assert_array_equal(remove_speckles(np.zeros_like(depth), 20, 0.02), 0)


def test_specks_know_no_unit() -> None:
    depth = np.random.default_rng(0).uniform(1, 1.1, (30, 30)).astype(np.float32)
    kept = [remove_speckles(depth * unit, 6, 0.02) > 0 for unit in (np.float32(2**-10), np.float32(1), np.float32(1e5))]
    assert 0 < kept[1].sum() < depth.size
    assert (kept[0] != kept[1]).mean() < 0.05, "rounding to levels may differ"
    assert (kept[2] != kept[1]).mean() < 0.05
