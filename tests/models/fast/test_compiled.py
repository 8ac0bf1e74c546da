"""`torch.compile` takes the network whole. That its code computes the same is PyTorch's business, and slow to test."""

from __future__ import annotations

import torch
from tiny_networks import LITE_PARTS, random_images, tiny_network

from s2ld.models.fast.inference import for_inference


def test_what_comes_before_the_count_of_the_matches_is_one_graph() -> None:
    network = for_inference(tiny_network(*LITE_PARTS))
    images = random_images(2, 64, 64), random_images(2, 64, 64, seed=1)
    try:
        with torch.inference_mode():
            # fullgraph: an error where Python would have to step in
            compiled = torch.compile(network.encode, dynamic=False, fullgraph=True, backend="eager")(*images)
            expected = network.encode(*images)
    finally:
        torch.compiler.reset()
    assert torch.equal(compiled.coarse0, expected.coarse0)
    assert torch.equal(compiled.keypoints1.points, expected.keypoints1.points)
