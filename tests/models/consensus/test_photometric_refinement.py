"""Photometric refinement on images whose displacement is known, and in the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from host_waits import HostWaits
from tiny_networks import LITE_PARTS, random_images, tiny_network
from torch import Tensor
from torch.nn import functional as F

from s2ld.config import defaults
from s2ld.data.images.reading import to_grey
from s2ld.errors import S2LDError
from s2ld.evaluation.shifts import pictures, shift_errors
from s2ld.geometry.homography import apply_homography
from s2ld.matcher import Matcher
from s2ld.models.checkpoint import load_model
from s2ld.models.consensus.photometric import PhotometricRefinement, levels
from s2ld.models.network import S2LD
from s2ld.pretrained import resolve
from s2ld.sfm.matching.matcher import KeypointMatcher
from s2ld.types import ImageBatch

PLAIN, REFINED = (("MODEL.REFINEMENT.ENABLED", enabled) for enabled in ("False", "True"))
HEIGHT, WIDTH = 240, 320
PICTURES = ("coffee", "camera", "astronaut")
NOISE = 0.4  # px


def refinement(**settings: float) -> PhotometricRefinement:
    node = defaults().MODEL.REFINEMENT
    node.merge_from_list([text for key, value in settings.items() for text in (key, value)])
    return PhotometricRefinement(node)


def picture(name: str) -> Tensor:
    """(H, W) grey in [0, 1]."""
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(np.ascontiguousarray(to_grey(getattr(data, name)()))).float() / 255


def seen_through(image: Tensor, H: Tensor) -> Tensor:
    """(1, 1, HEIGHT, WIDTH): what image 1 shows of an image (h, w), H from its px to those of image 1; 4 x 4 rays."""
    fine = 4
    y, x = ((torch.arange(n * fine) + 0.5) / fine - 0.5 for n in (HEIGHT, WIDTH))
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
    source = apply_homography(torch.linalg.inv(H), grid.view(-1, 2)).view(grid.shape)
    size = torch.tensor([image.shape[1] - 1.0, image.shape[0] - 1.0])
    values = F.grid_sample(image[None, None], (2 * source / size - 1)[None], mode="bicubic", align_corners=True)
    return F.avg_pool2d(values, fine).clamp(0, 1)


def points_between(H: Tensor, count: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Points 0 and where they are, well inside both images, and what a matcher would say: with noise."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([WIDTH, HEIGHT])
    points0 = 20 + torch.rand(3 * count, 2, generator=generator) * (size - 40)
    truth = apply_homography(H, points0)
    inside = ((truth > 20) & (truth < size - 20)).all(1)
    points0, truth = points0[inside][:count], truth[inside][:count]
    return points0, truth, truth + NOISE * torch.randn(len(truth), 2, generator=generator)


def refine(image0: Tensor, image1: Tensor, points0: Tensor, points1: Tensor, **settings: float) -> Tensor:
    pairs = torch.zeros(len(points0), dtype=torch.long)
    return refinement(**settings)((image0, image1), (None, None), pairs, points0, points1, torch.ones(len(points0)))


HOMOGRAPHIES = {
    "fraction": [[1, 0, 3.3], [0, 1, -2.6], [0, 0, 1]],
    "turn": [[0.87, -0.5, 90], [0.5, 0.87, -50], [0, 0, 1]],
    "tilt": [[0.9, 0.1, 10], [0.05, 1.0, -5], [-8e-4, 2e-4, 1]],
    "half": [[0.5, 0.02, 50], [-0.02, 0.5, 40], [0, 0, 1]],
    "double": [[2, 0.1, -150], [0.1, 2.1, -120], [0, 0, 1]],
}


@pytest.mark.parametrize("name", HOMOGRAPHIES)
@pytest.mark.parametrize("shown", PICTURES)
def test_a_homography_is_measured_below_a_tenth(name: str, shown: str) -> None:
    """In px of the image that shows less detail."""
    H, image = torch.tensor(HOMOGRAPHIES[name]), picture(shown)
    image0 = seen_through(image, torch.eye(3))
    image1 = seen_through(image, H)
    points0, truth, points1 = points_between(H)
    assert len(points0) > 150
    refined = refine(image0, image1, points0, points1)
    coarser = max(1.0, float(H[:2, :2].det()) ** 0.5)
    moved = (refined != points1).any(1)  # the sky of one picture tells nothing
    assert float(moved.float().mean()) > 0.4
    before, after = (((points - truth) / coarser)[moved] for points in (points1, refined))
    assert float(after.abs().median()) < 0.06
    assert float(after.abs().median()) < 0.35 * float(before.abs().median())
    torch.testing.assert_close(after.mean(0), torch.zeros(2), atol=0.04, rtol=0)


def test_brightness_and_contrast_do_not_matter() -> None:
    H, image = torch.tensor(HOMOGRAPHIES["fraction"]), picture("coffee")
    image0, image1 = seen_through(image, torch.eye(3)), seen_through(image, H)
    points0, _, points1 = points_between(H)
    one, other = (refine(image0, image, points0, points1) for image in (image1, 0.7 * image1 + 0.2))
    same = ((one - other).abs() < 0.01).all(1)
    assert float(same.float().mean()) > 0.85  # but for patches that are flat after that


def flat(image: Tensor) -> tuple[Tensor, Tensor]:
    return image, torch.full_like(image, 0.4)


def saturated(image: Tensor) -> tuple[Tensor, Tensor]:
    return (image + 2).clamp(max=1), image


def unlike(image: Tensor) -> tuple[Tensor, Tensor]:
    return image, torch.rand(image.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("change", [flat, saturated, unlike])
def test_what_tells_nothing_stays_exactly(change: object) -> None:
    image = seen_through(picture("coffee"), torch.eye(3))
    points0, _, points1 = points_between(torch.eye(3))
    assert callable(change)
    refined = refine(*change(image), points0, points1)
    assert float((refined != points1).float().mean()) < (0.05 if change is unlike else 1e-9)


def test_points_of_identical_patches_stay_exactly() -> None:
    image = seen_through(picture("camera"), torch.eye(3))
    points0, _, _ = points_between(torch.eye(3))
    assert torch.equal(refine(image, image, points0, points0), points0)
    moved = torch.roll(image, (3, -2), (2, 3))
    assert torch.equal(refine(image, moved, points0, points0 + torch.tensor([-2, 3])), points0 + torch.tensor([-2, 3]))


def test_points_near_the_border_stay_exactly() -> None:
    H = torch.tensor(HOMOGRAPHIES["fraction"])
    image0, image1 = (seen_through(picture("coffee"), matrix) for matrix in (torch.eye(3), H))
    side = torch.linspace(0, 1, 40)[:, None] * torch.tensor([0.0, HEIGHT - 1.0])
    edges = [side + torch.tensor([x, 0.0]) for x in (0.0, 4.0, WIDTH - 5.0, WIDTH - 1.0)]
    points0, _, points1 = points_between(H)
    near = torch.cat(edges)
    both = torch.cat([points0, near]), torch.cat([points1, near + torch.tensor([3.0, -3.0])])
    refined = refine(image0, image1, *both)
    assert torch.equal(refined[len(points0) :], both[1][len(points0) :])
    assert not torch.equal(refined[: len(points0)], points1)


def test_padding_counts_as_outside() -> None:
    H = torch.eye(3)
    image = seen_through(picture("coffee"), H)
    points0, _, points1 = points_between(H)
    size = torch.tensor([[160, 120]])
    pairs, trust = torch.zeros(len(points0), dtype=torch.long), torch.ones(len(points0))
    refined = refinement()((image, image), (None, size), pairs, points0, points1, trust)
    outside = (points1 > torch.tensor([152, 112])).any(1)
    assert torch.equal(refined[outside], points1[outside])
    assert float((refined != points1)[~outside].any(1).float().mean()) > 0.8


def test_no_point_moves_farther_than_it_may() -> None:
    H = torch.tensor(HOMOGRAPHIES["fraction"])
    image0, image1 = (seen_through(picture("coffee"), matrix) for matrix in (torch.eye(3), H))
    points0, _, points1 = points_between(H)
    for limit in (0.2, 2.0):
        moves = torch.linalg.vector_norm(refine(image0, image1, points0, points1, MAX_SHIFT=limit) - points1, dim=1)
        assert 0 < float(moves.max()) < limit
    assert torch.equal(refine(image0, image1, points0, points1, MIN_CORRELATION=1.0), points1)


def test_pairs_do_not_mix_and_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    H = torch.tensor(HOMOGRAPHIES["turn"])
    images = [torch.cat([seen_through(picture(name), matrix) for name in PICTURES[:2]]) for matrix in (torch.eye(3), H)]
    points0, _, points1 = points_between(H, 100)
    pairs, count = torch.arange(2).repeat_interleave(len(points0)), len(points0)
    both = refinement()(
        (images[0], images[1]), (None, None), pairs, points0.repeat(2, 1), points1.repeat(2, 1), torch.ones(2 * count)
    )
    alone = [refine(images[0][i : i + 1], images[1][i : i + 1], points0, points1) for i in (0, 1)]
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-4, rtol=0)
    monkeypatch.setattr("s2ld.models.consensus.photometric.PART", {"cpu": 7})
    torch.testing.assert_close(refine(images[0][:1], images[1][:1], points0, points1), alone[0], atol=1e-4, rtol=0)


def test_small_images_and_no_match() -> None:
    image = random_images(1, 16, 16).image
    points = torch.tensor([[8.0, 8.0], [1.0, 14.0]])
    assert torch.equal(refine(image, image, points, points + 0.3), points + 0.3)
    assert refine(image, image, points[:0], points[:0]).shape == (0, 2)


def test_levels_follow_the_scale() -> None:
    scales = torch.tensor([0.1, 0.3, 0.6, 0.9, 1.2, 1.8, 4.5, 20.0])
    first, second = levels(scales[:, None, None] * torch.eye(2))
    assert first.tolist() == [2, 2, 1, 0, 0, 0, 0, 0]
    assert second.tolist() == [0, 0, 0, 0, 0, 1, 2, 2]


def test_a_patch_without_a_middle_is_refused() -> None:
    with pytest.raises(S2LDError, match=r"MODEL\.REFINEMENT\.PATCH is 10; use an odd number from 3"):
        tiny_network(*REFINED, "MODEL.REFINEMENT.PATCH", "10")


@pytest.fixture(scope="module")
def networks() -> tuple[S2LD, S2LD]:
    """The shipped weights without refinement and with it."""
    plain, refined = (load_model(resolve("s2ld-lite"), model_overrides=overrides)[0] for overrides in (PLAIN, REFINED))
    return plain, refined


def test_errors_are_not_locked_to_the_cells(networks: tuple[S2LD, S2LD]) -> None:
    pytest.importorskip("skimage")
    plain, refined = (Matcher(network, max_side=-1, device="cpu") for network in networks)
    images = pictures(PICTURES)
    assert float(np.abs(shift_errors(plain, images, (3, 5)).mean(0)).min()) > 0.1  # the fault
    assert float(np.abs(shift_errors(refined, images).mean(0)).max()) < 0.05


def crop(shift: int) -> Tensor:
    return picture("coffee")[None, None, 20 : 20 + HEIGHT, 20 + shift : 20 + shift + WIDTH].contiguous()


def images_of(shift: int) -> tuple[ImageBatch, ImageBatch]:
    return ImageBatch(crop(0)), ImageBatch(crop(shift))


def test_only_points_1_change_and_only_in_evaluation(networks: tuple[S2LD, S2LD]) -> None:
    plain, refined = networks
    with torch.inference_mode():
        one, other = (network(*images_of(3)) for network in networks)
    assert one.encoded.image0 is None
    assert other.encoded.image0 is not None
    for name in ("batch", "cell0", "cell1", "confidence"):
        assert torch.equal(getattr(one.coarse, name), getattr(other.coarse, name))
    assert torch.equal(one.fine.points0, other.fine.points0)
    assert float((one.fine.points1 != other.fine.points1).any(1).float().mean()) > 0.8
    recorded = [network(*images_of(3)).fine.points1.detach() for network in networks]
    assert torch.equal(recorded[0], recorded[1])
    assert plain.state_dict().keys() == refined.state_dict().keys()


def test_it_does_nothing_in_training_mode() -> None:
    network = tiny_network(*LITE_PARTS, *REFINED).train()
    called: list[object] = []
    network.photometric = lambda *args: called.append(args) or args[4]  # type: ignore[assignment, func-returns-value]
    with torch.no_grad():
        network(random_images(1, 64, 64), random_images(1, 64, 64, seed=1))
        assert not called
        network.eval()(random_images(1, 64, 64), random_images(1, 64, 64, seed=1))
    assert len(called) == 1


def test_extracted_images_and_batches_give_the_same(networks: tuple[S2LD, S2LD]) -> None:
    matcher = Matcher(networks[1], size=(WIDTH, HEIGHT), device="cpu")
    images = [[x.image[0] for x in images_of(shift)] for shift in (3, 6)]
    whole = [matcher(*pair) for pair in images]
    extracted = [(matcher.extract(first), matcher.extract(second)) for first, second in images]
    plain = Matcher(networks[0], size=(WIDTH, HEIGHT), device="cpu").extract(images[0][0])
    assert extracted[0][0].features.nbytes == plain.features.nbytes + 4 * WIDTH * HEIGHT
    for expected, found in zip(whole, matcher.match_many(extracted, batch=2), strict=True):
        assert len(found) == len(expected)
        assert np.abs(found.points1 - expected.points1).max() < 0.01


def test_half_precision_refines_as_well(networks: tuple[S2LD, S2LD]) -> None:
    found = Matcher(networks[1], size=(WIDTH, HEIGHT), device="cpu", precision="bf16")(
        *(x.image[0] for x in images_of(3))
    )
    error = found.points1 - found.points0 + [3, 0]
    assert np.median(np.abs(error)) < 0.03


def test_folders_are_refined_both_ways(networks: tuple[S2LD, S2LD]) -> None:
    errors = []
    for network in networks:
        matcher = KeypointMatcher(network, size=(WIDTH, HEIGHT), device="cpu")
        sides = [matcher.extract(x.image[0]) for x in images_of(3)]
        (found,) = matcher.match_both_ways([(sides[0], sides[1])])
        points = [matcher.keypoints(side).points for side in sides]
        assert np.array_equal(np.isnan(found.points1[:, 0]), found.confidence1 == 0)
        there = found.points1 - points[0][found.cell0] + [3, 0]
        back = found.points0 - points[1][found.cell1] - [3, 0]
        errors.append([float(np.nanmedian(np.abs(e))) for e in (there, back)])
    assert max(errors[1]) < 0.03 < 0.1 < min(errors[0])


def test_masks_reach_it() -> None:
    network = tiny_network(*LITE_PARTS, *REFINED)
    sizes: list[object] = []
    network.photometric = lambda *args: sizes.append(args[1]) or args[4]  # type: ignore[assignment, func-returns-value]
    mask = torch.ones(2, 8, 8, dtype=torch.bool)
    mask[1, :, 5:] = False
    mask[1, 6:] = False
    images = [replace(random_images(2, 64, 64, seed=s), mask=mask) for s in (0, 1)]
    with torch.inference_mode():
        network(*images)
    for size in sizes[0]:  # type: ignore[attr-defined]
        assert size.tolist() == [[64, 64], [40, 48]]


@pytest.mark.parametrize("n", [1, 4])
def test_nothing_waits_for_an_accelerator(n: int) -> None:
    images = random_images(n, 64, 96).image
    pairs = torch.arange(n).repeat_interleave(30)
    points = 20 + 20 * torch.rand(30 * n, 2, generator=torch.Generator().manual_seed(0))
    refining = refinement()
    with torch.inference_mode(), HostWaits() as counter:
        refining((images, images), (None, None), pairs, points, points + 0.3, torch.ones(30 * n))
    assert counter.found == []
