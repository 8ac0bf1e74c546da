"""Batches of pairs whose images have unlike sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from s2ld.data.index.files import SceneIndex
from s2ld.data.sample import PairSample, ViewSample, collate
from s2ld.data.sources.megadepth import MegaDepthPairs

SIZES = [(101, 67), (53, 90), (64, 64)]  # width, height of the files, px; two are no multiples of 8
RESIZED = [(64, 40), (32, 64), (64, 64)]  # at a longer side of 64


@pytest.fixture
def source(tmp_path: Path) -> MegaDepthPairs:
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate(SIZES):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(1, 256, (height, width, 3), np.uint8))
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["depth"] = rng.uniform(1, 9, (height, width)).astype(np.float32)
    count = len(SIZES)
    names, depths = (np.array([f"{number}{suffix}" for number in range(count)]) for suffix in (".png", ".h5"))
    K, poses = np.tile(np.diag([50.0, 60.0, 1.0]), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))
    pairs = np.array([(0, 1), (1, 2), (2, 0)])
    index = SceneIndex("scene", names, depths, K, poses, pairs, np.full(3, 0.5, np.float32), None)
    return MegaDepthPairs(tmp_path, [index], 64)


def test_unlike_images_are_padded_at_right_and_bottom_and_masked(source: MegaDepthPairs) -> None:
    samples = [source[row] for row in range(3)]
    batch = collate(samples)
    for side, view in enumerate((batch.view0, batch.view1)):
        own = [(sample.view0, sample.view1)[side] for sample in samples]
        assert view.images.image.shape == (3, 1, 64, 64)
        assert view.depth is not None
        assert view.images.mask is not None
        for row, sample in enumerate(own):
            width, height = RESIZED[(row + side) % 3]
            assert sample.image.shape == (1, height, width)
            assert sample.depth is not None
            assert torch.equal(view.images.image[row, :, :height, :width], sample.image)
            assert torch.equal(view.depth[row, :height, :width], sample.depth)
            assert sample.image.min() > 0
            assert sample.depth.min() > 0
            inside = torch.zeros(64, 64, dtype=torch.bool)
            inside[:height, :width] = True
            assert torch.equal(view.images.mask[row], inside[::8, ::8])
            assert not view.images.image[row, 0, ~inside].any()
            assert not view.depth[row, ~inside].any()
            file_width, file_height = SIZES[(row + side) % 3]
            scale = (file_width / width, file_height / height)
            assert view.scale[row].tolist() == pytest.approx(scale)
            assert view.K[row].diagonal().tolist() == pytest.approx([50 / scale[0], 60 / scale[1], 1])


def test_like_images_need_no_mask_and_depth_may_be_missing_of_some(source: MegaDepthPairs) -> None:
    sample = source[0]
    batch = collate([sample, replace(sample, view0=replace(sample.view0, depth=None))])
    assert batch.view0.images.mask is None
    assert batch.view0.depth is not None
    assert (bool(batch.view0.depth[0].any()), bool(batch.view0.depth[1].any())) == (True, False)
    blind = replace(sample.view0, depth=None)
    assert collate([replace(sample, view0=blind)]).view0.depth is None


def test_skipped_pairs_of_all_samples_come_together() -> None:
    view = ViewSample(torch.zeros(1, 8, 8), torch.eye(3), None)
    sample = PairSample(view, view, torch.eye(4))
    batch = collate([replace(sample, skipped=("a", "b")), sample, replace(sample, skipped=("c",))])
    assert list(batch.skipped) == ["a", "b", "c"]
