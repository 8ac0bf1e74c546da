"""The module in LoFTR's place: what it takes and returns, whatever the sizes, masks and batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from shifted import as_tensor, share_right, shifted_pair
from torch import Tensor, nn

from s2ld.compat import LoFTRLike
from s2ld.errors import S2LDError

KEYS = ["keypoints0", "keypoints1", "confidence", "batch_indexes"]


@pytest.fixture(scope="module")
def loftr() -> LoFTRLike:
    return LoFTRLike()


def grey_pair(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two images (1, 1, H, W)."""
    image0, image1 = (as_tensor(image).mean(0)[None, None] for image in shifted_pair(height, width, seed))
    return image0, image1


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same matches but for one in twenty: those at the threshold, or of a flat correlation, hang on rounding."""
    rows = [torch.cat([found[key].reshape(len(found[key]), -1) for key in KEYS], 1) for found in (one, other)]
    near = torch.cdist(*rows, compute_mode="donot_use_mm_for_euclid_dist") < 0.01
    return all(float(near.any(axis).float().mean()) > 0.95 for axis in (0, 1))


@pytest.mark.parametrize("size", [(160, 208), (163, 205), (157, 201)])
def test_sizes_of_any_kind(loftr: LoFTRLike, size: tuple[int, int]) -> None:
    image0, image1 = grey_pair(*size)
    found = loftr({"image0": image0, "image1": image1})
    assert list(found) == KEYS
    assert [found[key].dtype for key in KEYS] == [torch.float32] * 3 + [torch.int64]
    assert len(found["confidence"]) > 150
    assert share_right(found["keypoints0"], found["keypoints1"]) > 0.9
    limit = torch.tensor([size[1], size[0]]) - 0.5
    for key in KEYS[:2]:
        assert bool(((found[key] >= -0.5) & (found[key] <= limit)).all())
    assert not found["keypoints0"].is_inference()


def test_images_of_different_size(loftr: LoFTRLike) -> None:
    image0, image1 = grey_pair(160, 208)
    found = loftr({"image0": image0[..., :147, :], "image1": image1[..., :181]})
    assert len(found["confidence"]) > 150
    assert share_right(found["keypoints0"], found["keypoints1"]) > 0.9


def test_a_batch_is_as_its_pairs(loftr: LoFTRLike) -> None:
    pairs = [grey_pair(99, 131, seed) for seed in range(3)]
    batch = {f"image{side}": torch.cat([pair[side] for pair in pairs]) for side in (0, 1)}
    found = loftr(batch)
    assert found["batch_indexes"].unique().tolist() == [0, 1, 2]
    assert found["batch_indexes"].equal(found["batch_indexes"].sort().values)
    for number, pair in enumerate(pairs):
        alone = loftr({"image0": pair[0], "image1": pair[1]})
        mine = found["batch_indexes"] == number
        assert alike({key: found[key][mine] - (number if key == KEYS[3] else 0) for key in KEYS}, alone)


def test_masks_of_pixels_and_of_cells(loftr: LoFTRLike) -> None:
    height, width, side = 120, 163, 200
    padded, mask = {}, torch.zeros(1, side, side)
    mask[:, :height, :width] = 1
    for number, image in enumerate(grey_pair(height, width)):
        padded[f"image{number}"] = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(9))
        padded[f"image{number}"][..., :height, :width] = image
    found = loftr({**padded, "mask0": mask, "mask1": mask.bool()})
    assert len(found["confidence"]) > 60
    assert share_right(found["keypoints0"], found["keypoints1"]) > 0.9
    assert bool((found["keypoints0"] < torch.tensor([160.0, 120.0])).all())  # of the last column only whole cells
    cells = torch.zeros(1, 25, 25, dtype=torch.uint8)
    cells[:, :15, :20] = 1
    assert alike(loftr({**padded, "mask0": cells, "mask1": cells[:, None]}), found)
    assert len(loftr({**padded, "mask0": torch.zeros(1, side, side)})["confidence"]) == 0


def test_colours_and_whole_numbers(loftr: LoFTRLike) -> None:
    colour = [as_tensor(image)[None] for image in shifted_pair(96, 128)]
    floats = loftr({"image0": colour[0], "image1": colour[1]})
    assert share_right(floats["keypoints0"], floats["keypoints1"]) > 0.9
    whole = [(255 * image).round().to(torch.uint8) for image in colour]
    assert alike(loftr({"image0": whole[0], "image1": whole[1]}), floats)


def test_threshold_and_number_may_change_between_calls() -> None:
    loftr = LoFTRLike(threshold=0.5, top_k=7)
    pairs = [grey_pair(96, 128, seed) for seed in range(2)]
    data = {f"image{side}": torch.cat([pair[side] for pair in pairs]) for side in (0, 1)}
    few = loftr(data)
    assert few["batch_indexes"].bincount().tolist() == [7, 7]
    loftr.top_k = None
    more = loftr(data)
    assert float(more["confidence"].min()) > 0.5
    best = more["confidence"][more["batch_indexes"] == 1].topk(7).values
    assert few["confidence"][7:].sort().values.equal(best.sort().values)
    loftr.threshold = 0.0
    assert len(loftr(data)["confidence"]) > len(more["confidence"])
    loftr.threshold = 1.5
    with pytest.raises(S2LDError, match="threshold must be in"):
        loftr(data)


def test_it_is_a_module_among_modules(loftr: LoFTRLike) -> None:
    image0, image1 = grey_pair(96, 128)
    expected = loftr({"image0": image0, "image1": image1})
    around = nn.ModuleDict({"matcher": loftr}).train().to("cpu")
    assert not any(module.training for module in loftr.modules())
    assert not any(parameter.requires_grad for parameter in around.parameters())
    found = around["matcher"]({"image0": image0.requires_grad_(), "image1": image1.double()})
    assert alike(found, expected)


IMAGES = {"image0": torch.zeros(2, 1, 64, 64), "image1": torch.zeros(2, 1, 64, 64)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image1": None}, "image1 is missing"),
        ({"image1": torch.zeros(1, 1, 64, 64)}, "2 images and 1 make no pairs"),
        ({"image0": torch.zeros(1, 64, 64)}, r"image0: shape \(1, 64, 64\); give \(N, 1, H, W\)"),
        ({"image0": torch.zeros(1, 2, 64, 64)}, "image0: shape"),
        ({"image0": torch.zeros(0, 1, 64, 64)}, "image0: shape"),
        ({"mask1": torch.zeros(2, 9, 8)}, r"a mask has the shape \(2, 9, 8\); give .* \(2, 64, 64\)"),
        ({"mask1": torch.zeros(64, 64)}, "a mask has the shape"),
    ],
)
def test_what_does_not_fit_is_said(loftr: LoFTRLike, change: dict[str, Any], words: str) -> None:
    data = {key: value for key, value in {**IMAGES, **change}.items() if value is not None}
    with pytest.raises(S2LDError, match=words) as caught:
        loftr(data)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_said() -> None:
    with pytest.raises(S2LDError, match=r"unknown weights 'outdoor'.*s2ld-lite"):
        LoFTRLike("outdoor")
