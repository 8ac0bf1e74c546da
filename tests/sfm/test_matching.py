"""Matching both ways with a consensus, which judges each way by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from s2ld.sfm.matching import KeypointMatcher

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_networks import LITE_PARTS, random_images, tiny_network


def test_both_ways_are_those_of_the_matcher() -> None:
    network = tiny_network(
        "MODEL.CONSENSUS.ENABLED", "True", "MODEL.CONSENSUS.FLOOR", "0.0", "MODEL.MATCH.BORDER", "0", *LITE_PARTS
    )
    images = random_images(1, 96, 96), random_images(1, 96, 96, seed=1)
    with torch.no_grad():
        network.threshold = float(network(*images).coarse.confidence.sort().values[7:9].mean())
    matcher = KeypointMatcher(network, size=(96, 96))
    side0, side1 = (matcher.extract(image.image[0, 0].numpy()) for image in images)
    (found,) = matcher.match_both_ways([(side0, side1)])
    there, back = matcher.match(side0, side1), matcher.match(side1, side0)
    assert len(there) > 3
    assert len(back) > 3
    assert len(found) >= len(there)
    for points, confidence, cell, expected in (
        (found.points1, found.confidence1, found.cell0, there),
        (found.points0, found.confidence0, found.cell1, back),
    ):
        believed = np.flatnonzero(confidence > 0)
        believed = believed[cell[believed].argsort()]
        np.testing.assert_allclose(points[believed], expected.points1, rtol=0, atol=1e-3)
        np.testing.assert_allclose(confidence[believed], expected.confidence, rtol=0, atol=1e-4)
        assert np.isnan(points[confidence == 0]).all()
