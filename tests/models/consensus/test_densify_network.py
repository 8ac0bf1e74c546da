"""Densification in the network: on pictures whose displacement is known, and what must change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from host_waits import HostWaits
from tiny_networks import LITE_PARTS, random_images, tiny_network
from torch import Tensor

from s2ld.config import build_config
from s2ld.data.images.reading import to_grey
from s2ld.errors import S2LDError
from s2ld.matcher import Matcher
from s2ld.models import network as network_module
from s2ld.models.checkpoint import load_fitting, read_weights
from s2ld.models.network import S2LD
from s2ld.pretrained import resolve
from s2ld.sfm.matching.matcher import KeypointMatcher
from s2ld.types import Candidates, FineMatches, ImageBatch, Prediction

HEIGHT, WIDTH = 240, 320
ON = (
    *("MODEL.CONSENSUS.ENABLED", "True", "MODEL.MATCH.THRESHOLD", "0.3", "MODEL.CONSENSUS.FLOOR", "0.1"),
    *("MODEL.REFINEMENT.ENABLED", "False"),  # which moves points by their neighbours
)
DENSE = ("MODEL.DENSIFY.ENABLED", "True")


def believing(*overrides: str) -> S2LD:
    """The shipped network, whose consensus takes the word of the fine stage; its sparse stage misses much."""
    file = read_weights(resolve("s2ld-lite"))
    network = S2LD(build_config(overrides=[*ON, *overrides], base=file.config).MODEL).eval()
    load_fitting(network, file.state, file.path)

    def consensus(candidates: Candidates, pairs: int) -> Tensor:
        assert bool((candidates.batch.diff() >= 0).all())
        return 4 * candidates.evidence[:, 1]

    network.consensus = None
    del network.consensus
    network.consensus = consensus  # type: ignore[assignment]
    return network


@pytest.fixture(scope="module")
def networks() -> tuple[S2LD, S2LD]:
    """Without densification and with it."""
    return believing(), believing(*DENSE)


def crop(shift: int) -> Tensor:
    data = pytest.importorskip("skimage.data")
    grey = np.ascontiguousarray(to_grey(data.coffee())[20 : 20 + HEIGHT, 20 + shift : 20 + shift + WIDTH])
    return torch.from_numpy(grey).float()[None, None] / 255


def pair_of(shift: int) -> tuple[ImageBatch, ImageBatch]:
    return ImageBatch(crop(0)), ImageBatch(crop(shift))


def run(network: S2LD, *images: ImageBatch) -> Prediction:
    with torch.inference_mode():
        prediction: Prediction = network(*images)
        return prediction


def rows_of(prediction: Prediction) -> dict[tuple[int, int], list[float]]:
    """Point 1 and confidence, by pair and cell of image 0."""
    coarse, fine = prediction.coarse, prediction.fine
    rows = zip(coarse.batch.tolist(), coarse.cell0.tolist(), strict=True)
    values = torch.cat([fine.points1, coarse.confidence[:, None]], 1).tolist()
    found = dict(zip(rows, values, strict=True))
    assert len(found) == len(coarse)
    return found


def test_matches_stay_and_right_ones_are_added(networks: tuple[S2LD, S2LD]) -> None:
    plain, dense = (run(network, *pair_of(21)) for network in networks)
    before, after = rows_of(plain), rows_of(dense)
    assert {key: after[key] for key in before} == before
    assert list(after) == sorted(after)
    added = torch.tensor([key not in before for key in after])
    assert int(added.sum()) > 0.2 * len(before)
    error = torch.linalg.vector_norm(dense.fine.points1 - dense.fine.points0 + torch.tensor([21.0, 0.0]), dim=1)
    assert float((error[added] < 3).float().mean()) > 0.95
    assert float(error[added].median()) < 1
    assert torch.equal(dense.fine.points0, dense.encoded.keypoints0.points[0, dense.coarse.cell0])
    assert bool((dense.coarse.confidence > 0.3).all())


def test_without_verified_matches_nothing_changes_bit_for_bit(networks: tuple[S2LD, S2LD]) -> None:
    images = pair_of(21)
    dense = believing(*DENSE, "MODEL.DENSIFY.VERIFIED", "1.0")
    for one, other in zip(*(vars(run(n, *images).fine).items() for n in (networks[0], dense)), strict=True):
        assert one[0] == other[0]
        if isinstance(one[1], Tensor):
            assert torch.equal(one[1], other[1])


def test_no_gradients_no_densification(networks: tuple[S2LD, S2LD]) -> None:
    images = pair_of(21)
    recorded = [network(*images).coarse.cell0 for network in networks]
    assert torch.equal(*recorded)
    assert networks[1].state_dict().keys() == networks[0].state_dict().keys()
    with torch.no_grad():
        training = [network.train()(*images).coarse.cell0 for network in networks]
        for network in networks:
            network.eval()
    assert torch.equal(*training)


def test_a_batch_of_pairs_is_its_pairs_alone(networks: tuple[S2LD, S2LD]) -> None:
    shown = [pair_of(shift) for shift in (21, 5)]
    shown.append((shown[0][0], ImageBatch(torch.zeros(1, 1, HEIGHT, WIDTH))))  # without any match
    together = rows_of(run(networks[1], *(ImageBatch(torch.cat([p[i].image for p in shown])) for i in (0, 1))))
    for number, pair in enumerate(shown):
        alone = {(number, cell): row for (_, cell), row in rows_of(run(networks[1], *pair)).items()}
        mine = {key: row for key, row in together.items() if key[0] == number}
        same = [key for key in mine.keys() & alone.keys() if np.allclose(mine[key], alone[key], atol=0.02)]
        assert len(same) >= 0.98 * max(len(mine), len(alone))  # rounding decides a few


def test_padding_holds_no_match(networks: tuple[S2LD, S2LD]) -> None:
    mask = torch.ones(1, HEIGHT // 8, WIDTH // 8, dtype=torch.bool)
    mask[:, :, 30:] = False
    images = [replace(x, image=x.image * (torch.arange(WIDTH) < 240), mask=mask) for x in pair_of(21)]
    plain, dense = (run(network, *images) for network in networks)
    assert len(dense.coarse) > len(plain.coarse)
    for points, cells in ((dense.fine.points0, dense.coarse.cell0), (dense.fine.points1, dense.coarse.cell1)):
        assert float(points[:, 0].max()) < 240
        assert int((cells % (WIDTH // 8)).max()) < 30


def test_images_without_a_match(networks: tuple[S2LD, S2LD]) -> None:
    for size in ((16, 16), (HEIGHT, WIDTH)):
        blank = ImageBatch(torch.zeros(1, 1, *size))
        assert len(run(networks[1], blank, blank).coarse) == len(run(networks[0], blank, blank).coarse) == 0


def test_many_proposals_are_refined_some_at_a_time(
    networks: tuple[S2LD, S2LD], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows_of(run(networks[1], *pair_of(21)))
    monkeypatch.setattr(network_module, "REFINED", {"cpu": 50})
    parts = rows_of(run(networks[1], *pair_of(21)))
    same = [key for key in whole.keys() & parts.keys() if np.allclose(whole[key], parts[key], atol=0.02)]
    assert len(same) >= 0.98 * max(len(whole), len(parts))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_way_to_match_finds_as_much(networks: tuple[S2LD, S2LD], precision: str) -> None:
    pictures = [(x.image[0], y.image[0]) for x, y in (pair_of(21), pair_of(5))]
    plain, dense = (Matcher(n, size=(WIDTH, HEIGHT), device="cpu", precision=precision) for n in networks)
    extracted = [(dense.extract(x), dense.extract(y)) for x, y in pictures]
    for (x, y), many, shift in zip(pictures, dense.match_many(extracted, batch=2), (21, 5), strict=True):
        whole = dense(x, y)
        assert len(whole) > 1.1 * len(plain(x, y))
        assert abs(len(many) - len(whole)) <= 0.03 * len(whole)
        assert np.median(np.abs(many.points1 - many.points0 + [shift, 0])) < 0.5


def test_the_refinement_sees_all_matches() -> None:
    network = believing(*DENSE, "MODEL.REFINEMENT.ENABLED", "True")
    prediction = run(network, *pair_of(21))
    error = prediction.fine.points1 - prediction.fine.points0 + torch.tensor([21.0, 0.0])
    assert float(error.abs().median()) < 0.03


def test_folders_are_measured_both_ways(networks: tuple[S2LD, S2LD]) -> None:
    found = []
    for network in networks:
        matcher = KeypointMatcher(network, size=(WIDTH, HEIGHT), device="cpu")
        sides = [matcher.extract(x.image[0]) for x in pair_of(21)]
        (matches,) = matcher.match_both_ways([(sides[0], sides[1])])
        points = [matcher.keypoints(side).points for side in sides]
        there = matches.points1 - points[0][matches.cell0] + [21, 0]
        back = matches.points0 - points[1][matches.cell1] - [21, 0]
        both = (matches.confidence0 > 0) & (matches.confidence1 > 0)
        assert np.array_equal(np.isnan(matches.points1[:, 0]), matches.confidence1 == 0)
        for error in (there[both], back[both]):
            assert np.mean(np.linalg.norm(error, axis=1) < 3) > 0.9
        believed = matches.cell0[matches.confidence1 > 0]
        assert len(set(believed.tolist())) == len(believed)
        assert set(believed.tolist()) == set(run(network, *pair_of(21)).coarse.cell0.tolist())
        found.append(both.sum())
    assert found[1] > 1.1 * found[0]


@pytest.mark.parametrize(("n", "counts"), [(1, 0), (8, 2)])
def test_it_waits_for_its_counts_alone(n: int, counts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free keypoints, proposals, plausible ones and right ones are counted; pairs' fullest twice by the consensus."""
    monkeypatch.setattr("s2ld.models.sparse_matching.FEW_ONLY", set())
    network = tiny_network(*LITE_PARTS, "MODEL.CONSENSUS.ENABLED", "True", *DENSE)
    counter = HostWaits()
    with torch.inference_mode(), counter:
        network(random_images(n, 64, 96), random_images(n, 64, 96, seed=1))
    assert counter.found.count("nonzero") == 2 + 4
    assert counter.found.count("_local_scalar_dense") == counts
    assert len(counter.found) == 2 + 4 + counts


def test_the_places_reach_only_a_fine_stage_that_can_look_there() -> None:
    for overrides in (LITE_PARTS, ("MODEL.CONSENSUS.ENABLED", "True")):
        with pytest.raises(
            S2LDError, match=r"^MODEL\.DENSIFY needs MODEL\.CONSENSUS\.ENABLED True and .* correlation$"
        ):
            tiny_network(*DENSE, *overrides)


def test_places_are_looked_at() -> None:
    network = tiny_network(*LITE_PARTS)
    with torch.no_grad():
        encoded = network.encode(random_images(1, 96, 96), random_images(1, 96, 96, seed=1))
        coarse = network.match(encoded)
        keypoints1 = encoded.keypoints1.points[0, coarse.cell1]
        here, same, there = (network.refine(encoded, coarse, p) for p in (None, keypoints1, keypoints1 + 24))
    assert isinstance(same, FineMatches)
    assert torch.equal(here.points1, same.points1)
    assert float((there.points1 - keypoints1 - 24).abs().max()) <= network.window_radius_px + 5
