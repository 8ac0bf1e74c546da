"""Local affine maps against exact fields, their outliers, and one fitted point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from s2ld.geometry import local_affine as module
from s2ld.geometry.homography import apply_homography
from s2ld.geometry.local_affine import LocalAffine, local_affine, nearest_matches, singular_values

NEIGHBOURS = 12


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def places(count: int, seed: int = 0) -> Tensor:
    """Points of an image of 320 x 240 px."""
    return draw(count, 2, seed=seed) * torch.tensor([320.0, 240.0])


def fit(
    points: Tensor, points0: Tensor, points1: Tensor, weight: Tensor | None = None, **options: float
) -> LocalAffine:
    """Of one pair."""
    pairs = [torch.zeros(len(p), dtype=torch.long) for p in (points, points0)]
    nearest = nearest_matches(points, pairs[0], points0, pairs[1], NEIGHBOURS)
    weight = torch.ones(len(points0)) if weight is None else weight
    return local_affine(points, points0, points1, weight, nearest, **options)


def turn(degrees: float, scale: float = 1.0) -> Tensor:
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return torch.tensor([[c, -s], [s, c]])


@pytest.mark.parametrize(
    "linear",
    [torch.eye(2), turn(75), turn(20, 2.5), turn(-160, 0.4), torch.tensor([[1.0, 0.4], [-0.1, 0.7]])],
    ids=["identity", "turn", "zoom", "over", "shear"],
)
def test_an_affine_field_is_found(linear: Tensor) -> None:
    points0, points = places(300), places(50, seed=1)
    offset = torch.tensor([40.0, -25.0])
    found = fit(points, points0, points0 @ linear.T + offset)
    assert bool(found.usable.all())
    torch.testing.assert_close(found.linear, linear.expand(50, 2, 2), atol=0.01, rtol=0)
    # at the image's border the neighbours are on one side
    torch.testing.assert_close(found.place, points @ linear.T + offset, atol=0.05, rtol=0)
    assert float(found.residual.max()) < 0.1
    assert float(found.support.min()) > NEIGHBOURS - 0.1


def test_a_homography_has_its_derivative() -> None:
    H = torch.tensor([[1.1, 0.15, 5.0], [-0.1, 0.9, 8.0], [4e-4, -3e-4, 1.0]])
    points0, points = places(1500), 40 + 0.7 * places(50, seed=1)
    found = fit(points, points0, apply_homography(H, points0))
    assert bool(found.usable.all())
    torch.testing.assert_close(found.place, apply_homography(H, points), atol=0.1, rtol=0)
    derivative = torch.func.vmap(torch.func.jacrev(lambda p: apply_homography(H, p[None])[0]))(points)
    torch.testing.assert_close(found.linear, derivative, atol=0.02, rtol=0)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_outliers_have_no_say(share: float) -> None:
    linear = torch.tensor([[1.1, 0.2], [-0.3, 0.9]])
    points0, points = places(400), places(200, seed=1)
    wrong = draw(400, seed=2) < share
    points1 = torch.where(wrong[:, None], places(400, seed=3), points0 @ linear.T)
    found = fit(points, points0, points1)
    good = (found.linear - linear).abs().amax((1, 2)) < 0.03
    good &= torch.linalg.vector_norm(found.place - points @ linear.T, dim=1) < 0.5
    assert float(good.float().mean()) > (0.99 if share < 0.3 else 0.9)
    assert float(found.support.mean()) == pytest.approx(NEIGHBOURS * (1 - share), abs=0.5)


def test_trust_decides_between_two_fields() -> None:
    points0, points = places(300).repeat(2, 1), places(50, seed=1)
    moves = torch.tensor([[10.0, 0.0], [-30.0, 5.0]]).repeat_interleave(300, 0)
    trusted = torch.tensor([1.0, 0.2]).repeat_interleave(300)
    for weight, move in ((trusted, moves[0]), (trusted.flip(0), moves[-1])):
        found = fit(points, points0, points0 + moves, weight)
        torch.testing.assert_close(found.place, points + move, atol=0.1, rtol=0)


def test_pairs_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    points0, points = places(200), places(60, seed=1)
    fields = torch.stack([turn(10), turn(-30, 1.5)])
    matched, asked = torch.arange(200) % 2, torch.arange(60) % 2
    points1 = (fields[matched] @ points0[..., None])[..., 0]
    nearest = nearest_matches(points, asked, points0, matched, NEIGHBOURS)
    both = local_affine(points, points0, points1, torch.ones(200), nearest)
    for pair in (0, 1):
        alone = fit(points[asked == pair], points0[matched == pair], points1[matched == pair])
        for name in ("linear", "place", "support"):
            torch.testing.assert_close(getattr(both.at(asked == pair), name), getattr(alone, name))
        torch.testing.assert_close(alone.linear, fields[pair].expand(30, 2, 2), atol=1e-3, rtol=0)
    monkeypatch.setattr(module, "BLOCK", 700)  # three points at a time
    parts = nearest_matches(points, asked, points0, matched, NEIGHBOURS)
    assert torch.equal(parts[0], nearest[0])
    assert torch.equal(parts[1], nearest[1])


def test_a_pair_with_less_matches_takes_none_of_another() -> None:
    points0 = places(40)
    matched = (torch.arange(40) >= 5).long()
    points = places(1, seed=1).repeat(3, 1)
    nearest = nearest_matches(points, torch.tensor([0, 1, 2]), points0, matched, NEIGHBOURS)
    found = local_affine(points, points0, points0 + 7, torch.ones(40), nearest)
    assert found.usable.tolist() == [True, True, False]  # 5 matches, 35 and none
    assert found.support.round().tolist() == [5, 12, 0]
    torch.testing.assert_close(found.place, points + torch.tensor([[7.0], [7.0], [0.0]]), atol=1e-3, rtol=0)


def mirrored(points: Tensor) -> Tensor:
    return points * torch.tensor([-1.0, 1.0])


@pytest.mark.parametrize(
    ("points0", "points1", "radius"),
    [
        (places(3), places(3), math.inf),
        (places(50) * torch.tensor([1.0, 0.0]), places(50) * torch.tensor([1.0, 0.0]), math.inf),
        (places(50), mirrored(places(50)), math.inf),
        (places(50), 9 * places(50), math.inf),
        (places(50), places(50) / 9, math.inf),
        (places(50), places(50, seed=5), math.inf),
        (places(50), places(50), 5.0),
    ],
    ids=["few", "line", "mirror", "large", "small", "chaos", "far"],
)
def test_what_is_no_map_is_told(points0: Tensor, points1: Tensor, radius: float) -> None:
    points = 100 + 0.2 * places(5, seed=1)
    found = fit(points, points0, points1, radius=radius)
    assert not found.usable.any()
    assert torch.equal(found.linear, torch.eye(2).expand(5, 2, 2))
    assert all(bool(getattr(found, name).isfinite().all()) for name in ("place", "residual", "support"))


def test_nothing_to_fit() -> None:
    nothing, some = torch.zeros(0, 2), places(3)
    without_matches, without_points = fit(some, nothing, nothing), fit(nothing, some, some)
    assert torch.equal(without_matches.place, some)
    assert not without_matches.usable.any()
    assert without_points.linear.shape == (0, 2, 2)


def test_singular_values() -> None:
    matrices = torch.randn(20, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.svdvals(matrices)
    torch.testing.assert_close(torch.stack(singular_values(matrices)[::-1], 1), expected, atol=1e-5, rtol=0)


def test_it_agrees_with_one_point_at_a_time() -> None:
    linear = torch.tensor([[1.2, 0.3], [-0.2, 0.8]])
    points0, points, weight = places(200), places(30, seed=1), 0.1 + 0.9 * draw(200, seed=2)
    noisy = points0 @ linear.T + torch.randn(200, 2, generator=torch.Generator().manual_seed(3))
    points1 = torch.where(draw(200, seed=4)[:, None] < 0.25, places(200, seed=5), noisy)
    found = fit(points, points0, points1, weight)
    slow = [
        slow_fit(point, *(x.double().numpy() for x in (points0, points1, weight))) for point in points.double().numpy()
    ]
    expected = [torch.tensor(np.array(column), dtype=torch.float32) for column in zip(*slow, strict=True)]
    assert int(found.usable.sum()) > 25
    for name, values in zip(("linear", "place", "residual", "support"), expected, strict=True):
        actual = getattr(found, name)[found.usable]
        torch.testing.assert_close(actual, values[found.usable], atol=2e-3, rtol=1e-3)


def slow_fit(
    point: np.ndarray, points0: np.ndarray, points1: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """What `local_affine` says of one point, by NumPy's least squares."""
    near = np.argsort(np.linalg.norm(points0 - point, axis=1))[:NEIGHBOURS]
    x, y, trust = points0[near] - point, points1[near] - point, weight[near]
    votes = np.zeros(NEIGHBOURS)
    for i in range(NEIGHBOURS):
        for j in set(range(NEIGHBOURS)) - {i}:
            allowed = module.VOTE_PX**2 + module.VOTE_RATIO**2 * ((x[i] - x[j]) ** 2).sum()
            between = (((y[i] - x[i]) - (y[j] - x[j])) ** 2).sum()
            votes[i] += trust[j] * (allowed / (allowed + between)) ** 2
    current = trust * votes
    for scale in module.SCALES:
        share = current / current.sum()
        middle0, middle1 = share @ x, share @ y
        rows, root = x - middle0, np.sqrt(share)[:, None]
        # a similarity, (a, b) of [[a, -b], [b, a]], drawn to the identity; then a map, drawn to the similarity
        target = np.concatenate([*(root * (y - middle1)).T, [(2 * module.PRIOR) ** 0.5, 0]])
        design = np.concatenate(
            [
                np.stack([rows[:, 0], -rows[:, 1]], 1) * root,
                np.stack([rows[:, 1], rows[:, 0]], 1) * root,
                (2 * module.PRIOR) ** 0.5 * np.eye(2),
            ]
        )
        a, b = np.linalg.lstsq(design, target, rcond=None)[0]
        similarity = np.array([[a, -b], [b, a]])
        design = np.concatenate([root * rows, module.PRIOR**0.5 * np.eye(2)])
        target = np.concatenate([root * (y - middle1), module.PRIOR**0.5 * similarity.T])
        linear = np.linalg.lstsq(design, target, rcond=None)[0].T
        place = middle1 - linear @ middle0
        square = ((x @ linear.T + place - y) ** 2).sum(1)
        agrees = (scale**2 / (scale**2 + square)) ** 2
        current = trust * agrees
    return linear, place + point, float(np.sqrt((current * square).sum() / current.sum())), float(agrees.sum())
