"""How the pairs of scenes of very unlike sizes are shared out to steps, lanes and processes."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from s2ld.data.index.scene_order import SceneOrder, shuffled
from s2ld.data.samplers import StepBatchSampler

COUNTS = [7, 100, 30, 450, 61, 300, 33, 1200]
SHARE = 30


def drawn(order: SceneOrder, first: int, end: int) -> list[tuple[int, int]]:
    return [order.locate(index) for index in range(first, end)]


@pytest.mark.parametrize("length", [*range(1, 30), 1000])
def test_shuffled_is_a_permutation_that_depends_on_its_key(length: int) -> None:
    orders = [tuple(shuffled(place, length, 5, key) for place in range(length)) for key in range(20)]
    assert all(sorted(order) == list(range(length)) for order in orders)
    assert len(set(orders)) > 15 or length < 5


@pytest.mark.parametrize("length", [3, 4, 5, 100])
def test_shuffled_puts_every_element_everywhere_alike(length: int) -> None:
    """Over the keys an element's places are even, and so is what follows on it: no shift, no fixed neighbours."""
    keys = range(100 * length)
    places = Counter(shuffled(0, length, key) for key in keys)
    steps = Counter((shuffled(1, length, key) - shuffled(0, length, key)) % length for key in keys)
    for counter, kinds in ((places, length), (steps, length - 1)):
        expected = len(keys) / kinds
        assert len(counter) == kinds
        assert sum((count - expected) ** 2 / expected for count in counter.values()) < kinds + 6 * (2 * kinds) ** 0.5


def test_an_element_of_a_huge_permutation_is_in_range() -> None:
    assert len({shuffled(place, 2**31, 1) for place in range(200)}) == 200
    assert all(0 <= shuffled(place, 2**31, 1) < 2**31 for place in range(200))


@pytest.mark.parametrize("lanes", [1, 2, 8, 12, 48])  # these divide the line of 240 slots
def test_every_scene_has_its_share_of_every_epoch(lanes: int) -> None:
    order = SceneOrder(COUNTS, SHARE, seed=1, lanes=lanes)
    assert order.epoch_pairs == 240
    for epoch in range(3):
        pairs = drawn(order, epoch * 240, (epoch + 1) * 240)
        assert Counter(which for which, _ in pairs) == dict.fromkeys(range(len(COUNTS)), SHARE)
        small = Counter(pair for which, pair in pairs if which == 0)  # 30 draws of 7 pairs
        assert set(small) == set(range(7))
        assert max(small.values()) - min(small.values()) <= 2  # one walk is begun in one epoch and ended in the next


@pytest.mark.parametrize("lanes", [7, 11, 64, 500])
def test_what_is_left_over_goes_to_the_largest_scene_and_repeats_nothing(lanes: int) -> None:
    order = SceneOrder(COUNTS, SHARE, seed=1, lanes=lanes)
    slots = -(-240 // lanes) * lanes
    for epoch in range(2):
        pairs = drawn(order, epoch * slots, (epoch + 1) * slots)
        counts = Counter(which for which, _ in pairs)
        assert counts == {**dict.fromkeys(range(7), SHARE), 7: SHARE + slots - 240}
        assert len({pair for pair in pairs if pair[0] == 7}) == counts[7]


@pytest.mark.parametrize("lanes", [1, 8, 11])
def test_all_pairs_of_a_scene_are_drawn_before_one_comes_again(lanes: int) -> None:
    order = SceneOrder(COUNTS, SHARE, seed=2, lanes=lanes)
    slots = -(-240 // lanes) * lanes
    for which, (count, epochs) in {1: (100, 10), 3: (450, 15), 2: (30, 4)}.items():  # whole walks after whole epochs
        pairs = drawn(order, 0, epochs * slots)
        assert Counter(pair for scene, pair in pairs if scene == which) == dict.fromkeys(
            range(count), epochs * SHARE // count
        )
    assert Counter(pair for scene, pair in drawn(order, 0, 3 * slots) if scene == 1).most_common(1)[0][1] == 1


def test_epochs_and_seeds_differ_and_repeat_exactly() -> None:
    order, again, other = (SceneOrder(COUNTS, SHARE, seed, lanes=4) for seed in (1, 1, 2))
    first, second = drawn(order, 0, 240), drawn(order, 240, 480)
    assert first != second
    assert [which for which, _ in first] != [which for which, _ in second]
    assert drawn(again, 100, 480) == [*first, *second][100:]  # wherever one begins
    assert drawn(other, 0, 240) != first


def ranks(world: int, size: int, steps: int, start: int = 0) -> list[list[list[tuple[int, int]]]]:
    """Return the pairs that each of `world` processes draws in each of so many batches."""
    order = SceneOrder(COUNTS, SHARE, seed=3, lanes=world * size)
    samplers = [islice(StepBatchSampler(size, rank, world, start), steps) for rank in range(world)]
    return [[[order.locate(index) for index in batch] for batch in sampler] for sampler in samplers]


def test_any_number_of_processes_draws_the_same_pairs_in_the_same_steps() -> None:
    one, two, four = (ranks(world, 8 // world, 40) for world in (1, 2, 4))
    for step in range(40):
        assert one[0][step] == two[0][step] + two[1][step] == [pair for rank in four for pair in rank[step]]


def test_processes_share_pairs_never_and_scenes_hardly() -> None:
    epoch = [[pair for step in rank for pair in step] for rank in ranks(4, 2, 30)]  # 240 pairs
    large = [{pair for pair in rank if COUNTS[pair[0]] >= SHARE} for rank in epoch]
    assert sum(len(pairs) for pairs in large) == len(set().union(*large)) == 240 - SHARE
    scenes = [{which for which, _ in rank} for rank in epoch]
    assert [len(own) for own in scenes] == [2, 2, 2, 2]  # of 8
    assert set().union(*scenes) == set(range(8))
    odd = [{which for step in rank for which, _ in step} for rank in ranks(3, 2, 80)]  # 2 epochs of segments that split
    assert max(len(own) for own in odd) <= 4


def test_a_run_that_is_resumed_amid_an_epoch_goes_on_with_the_next_pair() -> None:
    whole = ranks(2, 4, 70)
    rest = ranks(2, 4, 59, start=11 * 8)
    assert [rank[11:] for rank in whole] == rest
