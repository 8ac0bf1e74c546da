"""The training step against its slow, obvious reference: equal losses, equal gradients."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from pair_scenes import plane_pair, turned_pose, view
from tiny_runs import small_config
from torch import Tensor

import s2ld.training.losses.confidences
from s2ld.benchmarks.slow_step import SlowS2LDModule, slow_nearest_keypoint
from s2ld.config import CN, build_config
from s2ld.errors import S2LDError
from s2ld.training.loop.module import S2LDModule
from s2ld.training.losses.targets import nearest_keypoint
from s2ld.types import ImageBatch, LossTerms, PairBatch, View

OUTDOOR = "configs/s2ld/outdoor/s2ld_kp_ds_{}.yaml"


def config_of(kind: str, *overrides: str) -> CN:
    return build_config([OUTDOOR.format(kind)], overrides, small_config())


def double(view: View) -> View:
    assert view.depth is not None
    images = ImageBatch(view.images.image.double(), view.images.mask)
    return View(images, view.scale.double(), view.K.double(), view.depth.double())


def noise_pair(padded: bool) -> PairBatch:
    """Two pairs of noise on a plane, in float64; unknown depth in a corner, and padding where asked for."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(2, 8, 10, dtype=torch.bool)
    mask[1, 6:], mask[1, :, 7:] = False, False
    views = []
    for _ in range(2):
        side = view(64, 80, 2, mask=mask if padded else None)
        assert side.depth is not None
        side.depth[0, :20, :30] = 0
        images = ImageBatch(torch.rand(2, 1, 64, 80, generator=generator), side.images.mask)
        views.append(double(replace(side, images=images)))
    views[1] = replace(views[1], images=replace(views[1].images, image=views[0].images.image.roll(-8, 3)))
    return PairBatch(*views, turned_pose(2, (0.0, -0.08, 0.0)).double(), [("a", "b")] * 2, ["test"] * 2)


def step(kind: type[S2LDModule], config: CN, batch: PairBatch) -> tuple[LossTerms, dict[str, Tensor], int]:
    """Terms, gradients and number of predicted matches."""
    torch.manual_seed(0)
    module = kind(config).double()
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign,assignment]
    terms = module.matcher_terms(batch, 0)
    assert terms is not None
    terms.total.backward()
    gradients = {name: p.grad for name, p in module.matcher.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(module.matcher.parameters()))
    return terms, gradients | dict(module.matcher.named_buffers()), round(2 * logged["train/matches"])


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("match_type", ["dual_softmax", "sinkhorn"])
def test_losses_gradients_and_statistics_are_those_of_the_slow_step(
    kind: str, padded: bool, match_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s2ld.training.losses.confidences, "FAINT", 0.0)
    recomputing = str(kind == "dense")  # either way
    config = config_of(kind, "MODEL.MATCH.TYPE", match_type, "TRAIN.CHECKPOINT", recomputing)
    batch = noise_pair(padded)
    terms, gradients, matches = step(S2LDModule, config, batch)
    slow_terms, slow_gradients, slow_matches = step(SlowS2LDModule, config, batch)
    assert matches == slow_matches
    assert matches > 3 or match_type == "sinkhorn"
    for field in fields(terms):
        torch.testing.assert_close(getattr(terms, field.name), getattr(slow_terms, field.name), msg=field.name)
    used = ("coarse", "fine", "keypoint", "repeatability", "score", "regulariser")
    assert all(getattr(terms, name).item() != 0 for name in used)
    for name, gradient in slow_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-7, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_faint_negatives_change_next_to_nothing() -> None:
    config, batch = config_of("dense"), noise_pair(padded=False)
    terms, gradients, _ = step(S2LDModule, config, batch)
    slow_terms, slow_gradients, _ = step(SlowS2LDModule, config, batch)
    torch.testing.assert_close(terms.total, slow_terms.total, rtol=1e-6, atol=0)
    for name, slow in slow_gradients.items():
        gradient = slow.double()  # counts of batches among them
        assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


LAYOUT = ("MODEL.INPUT.NORMALISATION", "local", "MODEL.COARSE.AGGREGATE", "2", "MODEL.BACKBONE.CONTEXT", "[12, 16]")


@pytest.mark.parametrize(("backbone", "layout"), [("resnet_fpn", ()), ("lite", ()), ("lite", LAYOUT)])
def test_recomputing_changes_nothing(backbone: str, layout: tuple[str, ...]) -> None:
    batch, kind = noise_pair(padded=True), ("dense", "MODEL.BACKBONE.TYPE", backbone, *layout)
    plain, again = (step(S2LDModule, config_of(*kind, "TRAIN.CHECKPOINT", value), batch) for value in ("False", "True"))
    assert again[0] == plain[0]
    assert again[2] == plain[2]
    for name, value in plain[1].items():
        torch.testing.assert_close(again[1][name], value, rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("radius", [3.0, 16.0])
def test_both_searches_find_the_same_neighbours(radius: float) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = plane_pair(pairs=2)
    mask = torch.ones(2, 6, 8, dtype=torch.bool)
    mask[1, 4:] = False
    side = replace(batch.view1, images=replace(batch.view1.images, mask=mask))
    row, column = torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij")
    corners = 8.0 * torch.stack([column, row], -1).reshape(-1, 2)
    points = corners + 10 * torch.rand(2, 48, 2, generator=generator) - 5
    places = 90 * torch.rand(2, 31, 2, generator=generator) - 10
    nearest, distance = nearest_keypoint(places, points, side, radius)
    slow_nearest, slow_distance = slow_nearest_keypoint(places, points, side, radius)
    assert torch.equal(nearest, slow_nearest)
    torch.testing.assert_close(distance, slow_distance)
    assert 0 < int(distance.isfinite().sum()) < distance.numel()


def test_the_slow_step_is_the_paper_configurations() -> None:
    with pytest.raises(S2LDError, match=r"FINE\.TYPE transformer"):
        SlowS2LDModule(config_of("dense", "MODEL.FINE.TYPE", "correlation"))
