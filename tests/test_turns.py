"""Quarter turns of image 1: the right one is found, and points come back into the image as given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import s2ld.turns
from s2ld import Matcher, S2LDError
from s2ld.config import build_config
from s2ld.data.images.motorcycle import load_motorcycle
from s2ld.models.network import S2LD
from s2ld.pair_matching import PairMatching
from s2ld.turns import best_turn, turned, turned_back
from s2ld.types import EncodedPair, Features, ImageBatch, ImageFeatures, Keypoints

LITE = Path(__file__).parents[1] / "configs/s2ld/outdoor/s2ld_lite.yaml"


@pytest.mark.parametrize("turns", range(4))
def test_points_of_every_pixel_come_back_exactly(turns: int) -> None:
    height, width = 5, 7
    image = torch.arange(35.0).view(1, height, width)
    after = turned(image, turns)[0]
    y, x = torch.meshgrid(*(torch.arange(side) for side in after.shape), indexing="ij")
    back = turned_back(torch.stack([x, y], -1).float(), turns, (width, height)).long()
    assert torch.equal(image[0][back[..., 1], back[..., 0]], after)
    assert torch.equal(turned_back(torch.tensor([0.25, 1.5]), turns + 4, (width, height)), turned_back(
        torch.tensor([0.25, 1.5]), turns, (width, height)
    ))  # fmt: skip


class Compass:
    """Stands for a network whose confidence says how alike two images are, by the turn that would make them equal."""

    def __init__(self, quality: dict[int, list[float]], shape: tuple[int, int]) -> None:
        self.quality = quality
        self.upright = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
        self.extracted: list[tuple[int, ...]] = []

    def extract(self, images: ImageBatch) -> ImageFeatures:
        self.extracted.append(tuple(images.image.shape))
        nothing = torch.zeros(len(images.image))
        return ImageFeatures(Features(nothing, nothing), Keypoints(nothing, nothing, nothing), images.image)

    def encode_pair(self, side0: ImageFeatures, side1: ImageFeatures) -> EncodedPair:
        assert len(side0.tokens) == len(side1.tokens) == 2
        return EncodedPair(side0.features, side1.features, side0.keypoints, side1.keypoints, side0.tokens, side1.tokens)

    def confidence(self, encoded: EncodedPair) -> Tensor:
        """Return what is asked for on the diagonal, nothing beside it."""
        return torch.stack([torch.diag(torch.tensor(self.quality[self._turns(one)])) for one in encoded.coarse1])

    def _turns(self, image: Tensor) -> int:
        return next(k for k in range(4) if torch.equal(turned(self.upright[0], k), image))


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        ({0: [0.9], 1: [0.1], 2: [0.1], 3: [0.1]}, 0),
        ({0: [0.1], 1: [0.9], 2: [0.1], 3: [0.1]}, 1),
        ({0: [0.1], 1: [0.1], 2: [0.9], 3: [0.1]}, 2),
        ({0: [0.1], 1: [0.1], 2: [0.2], 3: [0.9]}, 3),
        ({0: [0.5], 1: [0.5], 2: [0.5], 3: [0.5]}, 0),  # a tie
        ({0: [0.0], 1: [0.0], 2: [0.0], 3: [0.0]}, 0),  # nothing matches
        ({0: [0.5], 1: [0.5], 2: [0.52], 3: [0.5]}, 0),  # better by 1.082, less than the margin
        ({0: [0.5], 1: [0.5], 2: [0.53], 3: [0.5]}, 2),  # by 1.124
        ({0: [0.3] * 4, 1: [0.7, 0.0, 0.0, 0.0], 2: [0.0] * 4, 3: [0.0] * 4}, 1),  # sure before many
    ],
)
@pytest.mark.parametrize("shape", [(16, 24), (24, 16), (16, 16)])
def test_a_turn_is_taken_where_it_is_better_by_the_margin(
    quality: dict[int, list[float]], expected: int, shape: tuple[int, int]
) -> None:
    network = Compass(quality, shape)
    assert best_turn(network, torch.zeros(1, 1, 8, 32), network.upright) == expected  # type: ignore[arg-type]
    assert [size[0] for size in network.extracted] == [1, 2, 2]  # image 0 once


def test_only_mutual_best_matches_count() -> None:
    confidence = torch.tensor([[[0.5, 0.4, 0.0], [0.6, 0.1, 0.0], [0.0, 0.0, 0.3]]])
    assert s2ld.turns._measure(confidence).tolist() == pytest.approx([0.6**2 + 0.3**2])


def test_small_copies_are_looked_at() -> None:
    shapes: list[tuple[int, ...]] = []

    class Shown(Compass):
        def extract(self, images: ImageBatch) -> ImageFeatures:
            shapes.append(tuple(images.image.shape[2:]))
            return super().extract(images)

        def _turns(self, image: Tensor) -> int:
            return 0

    network = Shown({0: [0.5]}, (8, 8))
    best_turn(network, torch.zeros(1, 1, 640, 480), torch.zeros(1, 1, 320, 640))  # type: ignore[arg-type]
    assert shapes == [(240, 176), (120, 240), (240, 120)]


@pytest.fixture(scope="module")
def lite() -> S2LD:
    torch.manual_seed(3)
    return S2LD(build_config([LITE]).MODEL)


@pytest.mark.parametrize("options", [{"max_side": 128}, {"size": (128, 96)}], ids=["side", "size"])
@pytest.mark.parametrize("turns", range(4))
def test_points_are_where_a_matcher_puts_them_that_is_given_the_turned_image(
    lite: S2LD, monkeypatch: pytest.MonkeyPatch, turns: int, options: dict[str, Any]
) -> None:
    """The image fits the network's size, so that resizing before or after the turn is the same."""
    rng = np.random.default_rng(0)
    image0, image1 = (rng.integers(0, 256, (96, 128), np.uint8) for _ in range(2))
    monkeypatch.setattr(s2ld.turns, "best_turn", lambda *_: turns)
    found = Matcher(lite, 0.0, device="cpu", rotation="auto", **options)(image0, image1)
    plain = Matcher(lite, 0.0, 128, "cpu")(image0, np.rot90(image1, turns).copy())
    assert len(found) == len(plain) > 10
    assert np.array_equal(found.points0, plain.points0)
    assert np.array_equal(found.confidence, plain.confidence)
    for ours, its in ((found.points1, plain.points1), (found.keypoints1, plain.keypoints1)):
        expected = turned_back(torch.from_numpy(its), turns, (128, 96)).numpy()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)
    if turns == 0:
        assert np.array_equal(found.points1, plain.points1)


@pytest.mark.parametrize("turns", range(4))
def test_the_shipped_weights_match_a_turned_photograph(turns: int) -> None:
    """As many matches, and as many right ones, as of the pair upright, in px of the photograph as given."""
    pytest.importorskip("skimage")
    stereo = load_motorcycle()
    height, width = stereo.right.shape[:2]
    matcher = Matcher.from_pretrained(max_side=320, device="cpu", rotation="auto")
    matches = matcher(stereo.left, np.rot90(stereo.right, turns).copy())
    points1 = turned_back(torch.from_numpy(matches.points1), turns, (width, height)).numpy()
    errors = stereo.errors(matches.points0, points1)
    assert len(matches) >= 300
    assert (errors[np.isfinite(errors)] <= 3).mean() >= 0.8


def test_what_does_not_go_with_it_is_refused_in_one_line(lite: S2LD) -> None:
    matcher = Matcher(lite, 0.0, 64, "cpu", rotation="auto")
    image = np.zeros((64, 64), np.uint8)
    extracted = Matcher(lite, 0.0, 64, "cpu").extract(image)
    words = "rotation 'auto' needs both images at once: call the matcher on the pair"
    for call in (lambda: matcher.extract(image), lambda: matcher.match(extracted, extracted)):
        with pytest.raises(S2LDError, match=words):
            call()
    with pytest.raises(S2LDError, match="rotation is 'all'; use none or auto"):
        Matcher(lite, device="cpu", rotation="all")
    with pytest.raises(S2LDError, match="fast compiles for one size, and rotation looks at others"):
        Matcher(lite, device="cpu", size=(64, 64), fast=True, rotation="auto")


def test_a_list_of_pairs_is_matched_from_images(lite: S2LD) -> None:
    a, b, c = (Path(name) for name in "abc")
    image0, image1 = (np.random.default_rng(seed).integers(0, 256, (64, 96), np.uint8) for seed in (0, 1))
    matcher = Matcher(lite, 0.0, 96, "cpu", rotation="auto")
    found = PairMatching(matcher, [(a, b), (a, c)])((a, b), image0, image1)
    assert np.array_equal(found.points1, matcher(image0, image1).points1)
