"""Features kept on the disk are those that were computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_networks import LITE_PARTS, random_images, tiny_network

from s2ld.sfm.matching.matcher import KeypointMatcher
from s2ld.sfm.matching.storage import features
from s2ld.sfm.matching.storage.features import FeatureCache, PackedFeatures
from s2ld.types import Extracted


class Extractor:
    """A tiny network, and what it was asked for."""

    def __init__(self) -> None:
        self.matcher = KeypointMatcher(tiny_network(*LITE_PARTS), size=(96, 96))
        self.asked: list[str] = []

    def __call__(self, photo: Path) -> Extracted:
        self.asked.append(photo.name)
        return self.matcher.extract(photo)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), (255 * random_images(1, 96, 96, seed=number).image[0, 0].numpy()).astype(np.uint8))
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def same(one: PackedFeatures, other: PackedFeatures) -> bool:
    return (one.size, one.scale, set(one.tensors)) == (other.size, other.scale, set(other.tensors)) and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def test_each_is_computed_once_and_comes_back_equal(photos: list[Path], folder: Path) -> None:
    extract = Extractor()
    cache = FeatureCache(folder, {}, extract, memory=1)
    first = [cache(photo) for photo in photos]
    again = [cache(photo) for photo in photos]
    assert all(map(same, first, again))
    assert extract.asked == ["0.png", "1.png", "2.png"]
    assert len(list(folder.iterdir())) == 3
    other = FeatureCache(folder, {"weight": "another"}, extract, memory=1)
    other(photos[0])
    assert extract.asked[3:] == ["0.png"]


def test_what_fits_into_memory_is_not_written_unless_others_need_it(photos: list[Path], folder: Path) -> None:
    cache = FeatureCache(folder, {}, Extractor(), memory=2**30)
    assert cache(photos[0]) is cache(photos[0])
    assert not list(folder.iterdir())
    FeatureCache(folder, {}, Extractor(), 2**30, shared=True)(photos[0])
    second = Extractor()
    FeatureCache(folder, {}, second, 2**30)(photos[0])
    assert not second.asked


def test_a_damaged_file_and_a_full_disk_cost_time_only(
    photos: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = Extractor()
    FeatureCache(folder, {}, extract, 1, shared=True)(photos[0])
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    monkeypatch.setattr(features, "FREE", 2**80)
    FeatureCache(folder, {}, extract, 1, shared=True)(photos[0])
    assert extract.asked == ["0.png", "0.png"]
    assert not list(folder.iterdir())


def test_points_are_exact_and_the_rest_is_rounded(photos: list[Path]) -> None:
    extracted = Extractor()(photos[0])
    back = PackedFeatures.of(extracted).extracted(torch.device("cpu"))
    assert torch.equal(back.features.keypoints.points, extracted.features.keypoints.points)
    assert torch.equal(back.features.features.fine, extracted.features.features.fine.half().float())
    assert (back.size, back.scale) == (extracted.size, extracted.scale)
    assert replace(back.features, mask=None).nbytes == extracted.features.nbytes
