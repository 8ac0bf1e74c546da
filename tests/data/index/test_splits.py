from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from s2ld.data.index.files import SceneIndex
from s2ld.data.index.splits import hold_out, split_places


@pytest.mark.parametrize(("count", "val", "test"), [(3, 1, 1), (10, 1, 1), (20, 2, 2), (40, 4, 4)])
def test_places_are_shared_out_and_the_largest_trains(count: int, val: int, test: int) -> None:
    places = [[f"p{i}", f"p{i}x"] for i in range(count)]
    pairs = {name: 10 + (name == "p1") for place in places for name in place}
    parts = split_places(places, pairs, 0.1, 0.1, 0)
    assert (len(parts["val"]), len(parts["test"])) == (2 * val, 2 * test)
    assert "p1" in parts["train"]
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == sorted(pairs)
    for place in places:  # no place is torn apart
        assert sum(bool(set(place) & set(part)) for part in parts.values()) == 1
    assert parts == split_places(places[::-1], pairs, 0.1, 0.1, 0)


def test_of_two_places_the_smaller_one_validates_and_tests() -> None:
    assert split_places([["a"], ["b"]], {"a": 3, "b": 4}, 0.1, 0.1, 0) == {"train": ["b"], "val": ["a"], "test": ["a"]}


def test_training_keeps_a_place_however_large_the_shares() -> None:
    parts = split_places([["a"], ["b"], ["c"], ["d"]], dict.fromkeys("abcd", 1), 0.9, 0.9, 0)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [1, 2, 1]


def scene(count: int) -> SceneIndex:
    pairs = np.array(list(combinations(range(count), 2)))
    names = np.array([f"{i}.jpg" for i in range(count)])
    ones = np.ones(len(pairs), np.float32)
    eye = np.tile(np.eye(4), (count, 1, 1))
    return SceneIndex("s", names, names, eye[:, :3, :3], eye, pairs, ones, 9 * ones, None, 2 * ones)


@pytest.mark.parametrize(("count", "held"), [(12, 2), (5, 1), (40, 8)])
def test_held_out_images_are_in_no_training_pair(count: int, held: int) -> None:
    given = scene(count)
    parts = hold_out(given, 0.2)
    assert parts is not None
    train, val = parts
    assert (train.name, val.name) == ("s_train", "s_val")
    seen = set(train.pairs.ravel().tolist())
    assert len(seen) == count - held
    assert all(set(pair) - seen for pair in val.pairs.tolist())
    assert len(train) + len(val) == len(given)
    for part in parts:
        assert part.angle_deg is not None
        assert part.scale_ratio is not None
        assert len(part.overlap) == len(part.angle_deg) == len(part.scale_ratio) == len(part)


def test_too_few_pairs_cannot_be_divided() -> None:
    assert hold_out(scene(2), 0.2) is None
