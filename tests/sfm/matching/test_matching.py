"""Matching both ways with a consensus, which judges each way by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from tiny_networks import LITE_PARTS, random_images, tiny_network

from s2ld.models.consensus.stage import gather_candidates
from s2ld.sfm.matching.matcher import KeypointMatcher
from s2ld.types import EncodedPair


def test_each_way_is_judged_by_itself() -> None:
    network = tiny_network(
        "MODEL.CONSENSUS.ENABLED", "True", "MODEL.CONSENSUS.FLOOR", "0.0", "MODEL.MATCH.BORDER", "0", *LITE_PARTS
    )
    images = random_images(1, 96, 96), random_images(1, 96, 96, seed=1)
    with torch.no_grad():
        network.threshold = float(network(*images).coarse.confidence.sort().values[7:9].mean())
    matcher = KeypointMatcher(network, size=(96, 96))
    side0, side1 = (matcher.extract(image.image[0, 0].numpy()) for image in images)
    (found,) = matcher.match_both_ways([(side0, side1)])
    there = matcher.match(side0, side1)
    assert len(there) > 3
    assert len(found) >= len(there)
    believed = found.confidence1 > 0
    np.testing.assert_allclose(found.points1[believed], there.points1, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found.confidence1[believed], there.confidence, rtol=0, atol=1e-4)
    assert np.isnan(found.points1[~believed]).all()

    with torch.no_grad():
        encoded = matcher.model.encode_pair(side0.features, side1.features)
        coarse = matcher.model.match(encoded)
        coarse = replace(coarse, cell0=coarse.cell1, cell1=coarse.cell0)
        exchanged = EncodedPair(
            encoded.features1, encoded.features0, encoded.keypoints1, encoded.keypoints0,
            encoded.coarse1, encoded.coarse0,
        )  # fmt: skip
        fine = matcher.model.refine(exchanged, coarse)
        consensus = matcher.model.consensus
        assert consensus is not None
        probability = torch.sigmoid(consensus(gather_candidates(exchanged, coarse, fine), 1))
    back = dict(zip(coarse.cell0.tolist(), probability.tolist(), strict=True))
    believed = found.confidence0 > 0
    assert set(found.cell1[believed]) == {cell for cell, value in back.items() if value > network.threshold}
    np.testing.assert_allclose(found.confidence0[believed], [back[cell] for cell in found.cell1[believed]], atol=1e-4)
    assert np.isnan(found.points0[~believed]).all()
