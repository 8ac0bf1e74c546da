"""Which of a scene's pairs are kept: evenly over bins of overlap, not too many of one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s2ld.data.index.overlap import PairMeasures


def select_pairs(
    measures: PairMeasures, edges: Sequence[float], per_image: int, max_angle: float, seed: int
) -> NDArray[np.int64]:
    """Return the rows of the pairs that are kept, ascending.

    The bins take turns, each with a pair drawn at random of which neither image has enough; first those of angles up
    to `max_angle`, then the others where room is left.

    Args:
        measures: all pairs.
        edges: of the bins of overlap, ascending; pairs outside of them are not kept.
        per_image: pairs that an image is in at most.
        max_angle: degrees.
        seed: of the draw.
    """
    bins = np.digitize(measures.overlap, edges) - 1
    bins[measures.overlap == edges[-1]] = len(edges) - 2
    order = np.random.default_rng(seed).permutation(len(measures.pairs))
    taken = np.zeros(int(measures.pairs.max(initial=-1)) + 1, np.int64)
    kept: list[int] = []
    narrow = measures.angle_deg <= max_angle
    for allowed in (narrow, ~narrow):
        queues = [iter(order[(bins[order] == b) & allowed[order]].tolist()) for b in range(len(edges) - 1)]
        while queues:
            left = []
            for queue in queues:
                row = next((r for r in queue if (taken[measures.pairs[r]] < per_image).all()), None)
                if row is not None:
                    taken[measures.pairs[row]] += 1
                    kept.append(row)
                    left.append(queue)
            queues = left
    return np.array(sorted(kept), np.int64)
