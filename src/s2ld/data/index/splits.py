"""Training, validation and test parts of scenes: by place, or by image where there is one place only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from s2ld.data.index.files import SceneIndex

SPLITS = ("train", "val", "test")


def split_places(
    places: Sequence[Sequence[str]], pairs: Mapping[str, int], val: float, test: float, seed: int
) -> dict[str, list[str]]:
    """Return the scenes of each of `SPLITS`, those of one place together.

    The place of most pairs trains; of the others as many as the shares say, one at least, validate and test. Of two
    places the smaller one does both; one place is train alone (`hold_out` divides it).

    Args:
        places: scenes that show the same, together.
        pairs: number of pairs of each scene.
        val: share of the places that validate.
        test: share of the places that test.
        seed: of the draw.
    """
    largest, *others = sorted(map(sorted, places), key=lambda place: (-sum(pairs[scene] for scene in place), place))
    drawn = [others[i] for i in np.random.default_rng(seed).permutation(len(others))]
    if len(drawn) == 1:
        return {"train": largest, "val": drawn[0], "test": drawn[0]}
    count_val, count_test = (max(1, round(share * len(places))) if drawn else 0 for share in (val, test))
    while count_val + count_test > len(drawn):
        count_val, count_test = (count_val - 1, count_test) if count_val > count_test else (count_val, count_test - 1)
    parts = drawn[:count_val], drawn[count_val : count_val + count_test], [largest, *drawn[count_val + count_test :]]
    flat_val, flat_test, flat_train = (sorted(scene for place in part for scene in place) for part in parts)
    return {"train": flat_train, "val": flat_val, "test": flat_test}


def hold_out(index: SceneIndex, share: float) -> tuple[SceneIndex, SceneIndex] | None:
    """Return the pairs of a scene without, and those with, images that are held out; None where one has no pair.

    The held-out images are spread evenly over the order of their names, one at least: training never sees them, though
    it sees their place.

    Args:
        index: the scene.
        share: of the images that are in a pair.
    """
    used = np.unique(index.pairs)
    count = max(1, round(share * len(used)))
    held = used[((np.arange(count) + 0.5) * len(used) / count).astype(int)]
    touched: NDArray[np.bool_] = np.asarray(np.isin(index.pairs, held).any(1))
    if touched.all() or not touched.any():
        return None
    return _part(index, ~touched, "train"), _part(index, touched, "val")


def _part(index: SceneIndex, keep: NDArray[np.bool_], split: str) -> SceneIndex:
    return replace(
        index,
        name=f"{index.name}_{split}",
        pairs=index.pairs[keep],
        overlap=index.overlap[keep],
        angle_deg=None if index.angle_deg is None else index.angle_deg[keep],
        scale_ratio=None if index.scale_ratio is None else index.scale_ratio[keep],
    )
