"""Which photographs look alike: places of synthetic features, and both ways to search."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from s2ld.sfm.matching import retrieval
from s2ld.sfm.matching.retrieval import Describer, joined, nearest_images, search, unit

VIEWS = 4


def places(count: int, noise: float = 0.2) -> list[NDArray[np.float16]]:
    """Coarse features of images, `VIEWS` of each place, each of which sees half of its place."""
    random = np.random.default_rng(0)
    images = []
    for place in random.normal(size=(count, 60, 16)):
        for _ in range(VIEWS):
            seen = place[random.permutation(60)[:40]] + random.normal(scale=noise, size=(40, 16))
            images.append(unit(seen.astype(np.float32)).astype(np.float16))
    return images


def clusters(count: int) -> NDArray[np.float32]:
    """Unit vectors (10 count, 32), ten near each other."""
    random = np.random.default_rng(1)
    middles = random.normal(size=(count, 1, 32)) + random.normal(scale=0.2, size=(count, 10, 32))
    return unit(middles.reshape(-1, 32).astype(np.float32))


def test_it_finds_images_of_the_same_place() -> None:
    images = places(6)
    near = nearest_images(images, VIEWS - 1)
    assert near.shape == (6 * VIEWS, VIEWS - 1)
    assert (near // VIEWS == np.arange(6 * VIEWS)[:, None] // VIEWS).mean() > 0.9
    assert near.tolist() == nearest_images(images, VIEWS - 1).tolist()


@pytest.mark.parametrize("count", [2, 3])
def test_folders_of_few(count: int) -> None:
    near = nearest_images(places(1)[:count], 5)
    assert [sorted([i, *row]) for i, row in enumerate(near.tolist())] == [list(range(count))] * count


def test_copies_and_images_without_features() -> None:
    images = places(2)
    images[1] = images[0].copy()
    near = nearest_images([*images, np.zeros((0, 16), np.float16)], 3)
    assert near[0, 0] == 1
    assert near[1, 0] == 0
    assert not (near == np.arange(len(near))[:, None]).any()


def test_descriptors_have_length_one_and_few_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "AXES", 5)
    images = places(4)
    describe = Describer.of(images)
    described = np.stack([describe(image) for image in images])
    assert described.shape == (4 * VIEWS, 5)
    np.testing.assert_allclose(np.linalg.norm(described, axis=1), 1, rtol=1e-5)


def test_neighbours_are_added_the_nearest_with_most_weight() -> None:
    described = np.eye(3, dtype=np.float32)
    found = joined(described, np.array([[1, 2], [0, 2], [0, 1]]))
    np.testing.assert_allclose(found[0], np.array([1, 2 / 3, 1 / 3]) / np.linalg.norm([1, 2 / 3, 1 / 3]), rtol=1e-6)


def test_a_search_in_blocks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    described = clusters(12)
    cosines = described @ described.T - 9 * np.eye(120)
    monkeypatch.setattr(retrieval, "BLOCK", 50)
    assert search(described, 7).tolist() == np.argsort(-cosines, axis=1, kind="stable")[:, :7].tolist()


def test_faiss_finds_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    described = clusters(40)
    described[7] = described[3]  # copies
    exact = search(described, 5)
    monkeypatch.setattr(retrieval, "EXACT", 100)
    found = search(described, 5)
    assert not (found == np.arange(400)[:, None]).any()
    assert np.mean([len({*a} & {*b}) / 5 for a, b in zip(found.tolist(), exact.tolist(), strict=True)]) > 0.9
    few = search(described, 60)  # more than the cells that are looked into hold
    assert few.min() >= 0
    assert all(len({*row}) == 60 for row in few.tolist())


def test_without_faiss_all_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    described = clusters(12)
    exact = search(described, 5)
    monkeypatch.setattr(retrieval, "EXACT", 100)
    monkeypatch.setattr(retrieval, "is_there", lambda module: False)
    assert search(described, 5).tolist() == exact.tolist()
