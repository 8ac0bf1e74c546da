"""Proposals on scenes whose map is known exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from s2ld.models.consensus.densify import (
    DensifySettings,
    Proposals,
    best_in_place,
    densify,
    nearest_keypoint_cell,
    propose,
)
from s2ld.types import CoarseMatches, EncodedPair, Features, FineMatches, Keypoints

ROWS, COLUMNS = 30, 40
LINEAR, OFFSET = torch.tensor([[0.9, 0.2], [-0.15, 1.1]]), torch.tensor([12.0, 20.0])
BORDER = 16  # px


def keypoints(n: int, seed: int) -> Keypoints:
    offset = 2 * torch.rand(n, 2, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed)) - 1
    y, x = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    corners = 8.0 * torch.stack([x, y], -1).view(1, -1, 2)
    return Keypoints(offset, torch.ones(n, 1, ROWS, COLUMNS), corners + 4 * offset.flatten(2).transpose(1, 2))


def mapped(points: Tensor) -> Tensor:
    return points @ LINEAR.T + OFFSET


def inside(points: Tensor) -> Tensor:
    return ((points >= BORDER) & (points <= torch.tensor([8.0 * COLUMNS, 8.0 * ROWS]) - 1 - BORDER)).all(1)


def scene(n: int = 1, share: float = 0.3) -> tuple[Keypoints, Keypoints, CoarseMatches, Tensor]:
    """Keypoints of both images, some of which match, and where these are."""
    first, second = keypoints(n, 0), keypoints(n, 1)
    truth = mapped(first.points.flatten(0, 1))
    drawn = torch.rand(len(truth), generator=torch.Generator().manual_seed(2)) < share
    rows = (drawn & inside(truth)).nonzero()[:, 0]
    batch, cell0 = rows // (ROWS * COLUMNS), rows % (ROWS * COLUMNS)
    cell1 = nearest_keypoint_cell(second, batch, truth[rows])
    return first, second, CoarseMatches(batch, cell0, cell1, torch.ones(len(rows))), truth[rows]


def pairs_of(found: Proposals) -> set[tuple[int, int]]:
    return set(zip(found.coarse.batch.tolist(), found.coarse.cell0.tolist(), strict=True))


@pytest.mark.parametrize("n", [1, 2])
def test_every_unmatched_keypoint_is_proposed_where_it_is(n: int) -> None:
    first, second, matches, points1 = scene(n)
    found = propose(first, second, matches, points1)
    truth = mapped(first.points.flatten(0, 1)).view(n, -1, 2)
    torch.testing.assert_close(found.place, truth[found.coarse.batch, found.coarse.cell0], atol=0.1, rtol=0)
    torch.testing.assert_close(found.linear, LINEAR.expand(len(found.place), 2, 2), atol=0.02, rtol=0)
    assert not found.coarse.confidence.any()
    assert bool((found.coarse.batch.diff() >= 0).all())
    matched = set(zip(matches.batch.tolist(), matches.cell0.tolist(), strict=True))
    well_inside = inside(truth.flatten(0, 1) - 0.2) & inside(truth.flatten(0, 1) + 0.2)
    wanted = {divmod(row, ROWS * COLUMNS) for row in well_inside.nonzero()[:, 0].tolist()} - matched
    assert pairs_of(found) >= wanted
    assert not pairs_of(found) & matched
    assert bool(inside(found.place).all())


def test_cell_1_has_the_nearest_keypoint() -> None:
    first, second, matches, points1 = scene()
    found = propose(first, second, matches, points1)
    nearest = torch.cdist(found.place, second.points[0], compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    chosen = torch.linalg.vector_norm(second.points[0, found.coarse.cell1] - found.place, dim=1)
    # nearest of the cells around the place, of which the nearest of all is nearly always one
    assert float((chosen <= nearest + 1e-3).float().mean()) > 0.99
    assert float(chosen.max()) < 12


def test_outliers_are_outvoted_and_chaos_proposes_nothing() -> None:
    first, second, matches, points1 = scene()
    generator = torch.Generator().manual_seed(3)
    anywhere = torch.rand(points1.shape, generator=generator) * torch.tensor([320.0, 240.0])
    wrong = torch.rand(len(points1), generator=generator) < 0.2
    found = propose(first, second, matches, torch.where(wrong[:, None], anywhere, points1))
    error = torch.linalg.vector_norm(found.place - mapped(first.points[0, found.coarse.cell0]), dim=1)
    assert len(error) > 300
    assert float((error < 0.5).float().mean()) > 0.98
    assert len(propose(first, second, matches, anywhere).place) < 0.02 * len(error)


def test_far_few_and_no_matches_propose_nothing() -> None:
    first, second, matches, points1 = scene()
    near = propose(first, second, matches, points1, DensifySettings(radius=40.0))
    assert len(near.place) > 300
    assert len(propose(first, second, matches, points1, DensifySettings(radius=5.0)).place) == 0
    for count in (5, 0):
        few = torch.arange(count)
        assert len(propose(first, second, matches.at(few), points1[few]).place) == 0


def test_padding_is_left_out() -> None:
    first, second, matches, points1 = scene()
    whole = propose(first, second, matches, points1)
    mask = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    mask[:, :, 25:] = False
    without0 = propose(first, second, matches, points1, mask0=mask)
    assert pairs_of(without0) == {(b, cell) for b, cell in pairs_of(whole) if cell % COLUMNS < 25}
    without1 = propose(first, second, matches, points1, mask1=mask)
    assert 0 < len(without1.place) < len(whole.place)
    assert float(without1.place[:, 0].max()) <= 25 * 8 - 1 - BORDER


def fine_at(points0: Tensor, points1: Tensor) -> FineMatches:
    return FineMatches(points0, points1, torch.zeros(len(points0), 3), torch.ones(len(points0)))


class Scene:
    """A scene whose fine stage finds what is told, and whose consensus believes what is right."""

    def __init__(self, n: int = 1, miss: Tensor | None = None) -> None:
        self.first, self.second, self.coarse, self.points1 = scene(n)
        self.truth = mapped(self.first.points)
        self.miss = torch.zeros(n, ROWS * COLUMNS, 2) if miss is None else miss
        self.judged: list[CoarseMatches] = []
        tokens, maps = torch.zeros(n, ROWS * COLUMNS, 4), Features(torch.zeros(n, 4, ROWS, COLUMNS), torch.zeros(0))
        self.encoded = EncodedPair(maps, maps, self.first, self.second, tokens, tokens)
        self.cells0 = set(zip(self.coarse.batch.tolist(), self.coarse.cell0.tolist(), strict=True))

    def refine(self, encoded: EncodedPair, coarse: CoarseMatches, place: Tensor) -> FineMatches:
        torch.testing.assert_close(place, self.truth[coarse.batch, coarse.cell0], atol=0.1, rtol=0)
        return fine_at(encoded.keypoints0.points[coarse.batch, coarse.cell0], self.found(coarse))

    def found(self, coarse: CoarseMatches) -> Tensor:
        return (self.truth + self.miss)[coarse.batch, coarse.cell0]

    def judge(self, encoded: EncodedPair, coarse: CoarseMatches, fine: FineMatches) -> tuple[Tensor, Tensor]:
        assert bool((coarse.batch.diff() >= 0).all())
        self.judged.append(coarse)
        error = torch.linalg.vector_norm(fine.points1 - self.truth[coarse.batch, coarse.cell0], dim=1)
        probability = 0.9 - 0.1 * error.clamp(max=8)
        return probability, probability > 0.75

    def densify(self, most: int = 10**6, separation: float = 0.0) -> tuple[Proposals, FineMatches, Tensor]:
        matches = self.coarse, fine_at(self.truth[self.coarse.batch, self.coarse.cell0], self.points1)
        settings = DensifySettings(most=most, separation=separation)
        trust = torch.ones(len(self.coarse))
        return densify(self.encoded, (*matches, trust), (None, None), settings, self.refine, self.judge, 0.01)


@pytest.mark.parametrize("n", [1, 2])
def test_what_is_right_enters_and_what_is_wrong_does_not(n: int) -> None:
    kind = torch.arange(n * ROWS * COLUMNS).view(n, -1) % 3  # found exactly, 2.5 px away, 6 px away
    given = Scene(n, torch.tensor([0.0, 2.5, 6.0])[kind][..., None] * torch.tensor([1.0, 0.0]))
    proposals, fine, probability = given.densify()
    coarse, found = proposals.coarse, pairs_of(proposals)
    assert len(found) == len(coarse) > 100 * n
    assert not found & given.cells0
    assert not kind[coarse.batch, coarse.cell0].any()
    torch.testing.assert_close(fine.points1, given.truth[coarse.batch, coarse.cell0])
    torch.testing.assert_close(probability, torch.full_like(probability, 0.9))
    everything = propose(given.first, given.second, given.coarse, given.points1, DensifySettings(most=10**6))
    assert found == {(b, c) for b, c in pairs_of(everything) if kind[b, c] == 0}
    (judged,) = given.judged  # among the matches, and without those that were found too far away
    assert {1} == set(kind[judged.batch, judged.cell0][judged.confidence < 0.02].tolist()) - {0}
    assert given.cells0 <= set(zip(judged.batch.tolist(), judged.cell0.tolist(), strict=True))


def test_no_place_is_taken_twice() -> None:
    given = Scene()
    (apart, _, _), (together, _, _) = given.densify(separation=3.0), given.densify()
    taken = {cell: place for (_, cell), place in zip(sorted(given.cells0), given.points1, strict=True)}
    expected = set()
    for _, cell in sorted(pairs_of(together)):
        place = given.truth[0, cell]
        if all(float(torch.linalg.vector_norm(place - other)) >= 3 for other in taken.values()):
            expected.add((0, cell))
    # among themselves all are equally probable, so that the first one stays
    for _, cell in sorted(expected):
        rivals = [other for _, other in expected if other < cell]
        if any(float(torch.linalg.vector_norm(given.truth[0, cell] - given.truth[0, other])) < 3 for other in rivals):
            taken[cell] = given.truth[0, cell]
    expected -= {(0, cell) for cell in taken}
    assert 0 < len(expected) < len(together.coarse)
    assert pairs_of(apart) == expected


def test_the_better_one_stays_in_its_place() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.5, 0.0], [9.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
    pair = torch.tensor([0, 0, 0, 0, 0, 1])
    probability = torch.tensor([0.6, 0.7, 0.8, 0.5, 0.5, 0.4])
    assert best_in_place(pair, points, probability, 1.2).tolist() == [False, False, True, True, False, True]
    assert best_in_place(pair[:0], points[:0], probability[:0], 1.2).tolist() == []


def test_keypoints_of_the_best_score_are_proposed() -> None:
    first, second, matches, points1 = scene(2)
    scored = replace(first, score=torch.rand(first.score.shape, generator=torch.Generator().manual_seed(4)))
    everything = propose(scored, second, matches, points1)
    few = propose(scored, second, matches, points1, DensifySettings(most=50))
    for pair in range(2):
        scores = [
            scored.score.flatten(1)[pair, found.coarse.cell0[found.coarse.batch == pair]] for found in (few, everything)
        ]
        assert len(scores[0]) == 50 < len(scores[1])
        assert torch.equal(scores[0].sort().values, scores[1].sort().values[-50:])


def test_unverified_matches_propose_nothing() -> None:
    first, second, matches, points1 = scene()
    assert len(propose(first, second, matches, points1, DensifySettings(verified=1.0)).place) == 0


def test_keypoint_1_is_where_the_inverse_map_says() -> None:
    given = Scene()
    found = propose(given.first, given.second, given.coarse, given.points1)
    expected = (given.second.points[0, found.coarse.cell1] - OFFSET) @ torch.linalg.inv(LINEAR).T
    torch.testing.assert_close(found.place0(given.encoded), expected, atol=0.3, rtol=0)
