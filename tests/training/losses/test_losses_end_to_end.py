"""The losses over several processes, and on a network of the real class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from pair_scenes import Leaves, lateral_pose, leaves, matrix_confidences, plane_pair, refine, turned_pose, with_depth
from torch import Tensor

from s2ld.config import CN, defaults
from s2ld.models.network import S2LD
from s2ld.training.losses.targets import build_targets, select_fine
from s2ld.training.losses.total import matching_losses
from s2ld.types import CoarseMatches, Correlation, ImageBatch, LossTerms, PairBatch

CONFIG = defaults()
LOSS = CONFIG.LOSS
RADIUS = 4.0


def alone(count: Tensor) -> Tensor:
    """`reduce_count` of one process."""
    return count


class TestRanks:
    """Two processes of one pair each against one process with both pairs."""

    def part(self, batch: PairBatch, start: Leaves, i: int) -> tuple[PairBatch, Leaves]:
        views = [
            replace(
                v,
                images=ImageBatch(v.images.image[i : i + 1]),
                scale=v.scale[i : i + 1],
                K=v.K[i : i + 1],
                depth=None if v.depth is None else v.depth[i : i + 1],
            )
            for v in (batch.view0, batch.view1)
        ]
        return PairBatch(*views, batch.T_0to1[i : i + 1]), Leaves(*(leaf[i : i + 1] for leaf in start.all()))

    def losses(
        self,
        batch: PairBatch,
        start: Leaves,
        confidence: Tensor,
        reduce_count: Callable[[Tensor], Tensor],
        correlating: bool,
    ) -> LossTerms:
        targets, encoded = build_targets(start.encoded(), batch, CONFIG.TARGETS), start.encoded()
        number = len(targets.batch)
        coarse = CoarseMatches(
            targets.batch, targets.cell0, targets.cell1, confidence[targets.batch, targets.cell0, targets.cell1]
        )
        expectation = encoded.keypoints0.offset.flatten(2)[coarse.batch, :, coarse.cell0] / 10
        expectation = torch.cat([expectation, encoded.keypoints0.score.flatten(1)[coarse.batch, coarse.cell0, None]], 1)
        assert len(expectation) == number
        fine = refine(encoded, coarse, expectation, RADIUS)
        if correlating:
            logits = expectation @ torch.ones(3, 25).cumsum(1)
            centre = encoded.keypoints1.points.detach()[coarse.batch, coarse.cell1]
            fine = replace(fine, correlation=Correlation(logits, centre, expectation[:, 0]))
        confidences = matrix_confidences(confidence, targets, batch)
        return matching_losses(encoded, confidences, coarse, fine, targets, batch, LOSS, RADIUS, reduce_count)

    @pytest.mark.parametrize("empty", [False, True])
    @pytest.mark.parametrize("correlating", [False, True])
    def test_mean_over_ranks_is_the_pooled_loss(self, empty: bool, correlating: bool) -> None:
        batch = replace(plane_pair(pairs=2), T_0to1=torch.cat([turned_pose(), lateral_pose(-11.0)]))
        assert batch.view0.depth is not None
        depth = batch.view0.depth.clone()
        depth[1, : 48 if empty else 30] = 0
        batch = with_depth(batch, depth, depth)
        start = leaves(batch)
        confidence = torch.rand(2, 48, 48, generator=torch.Generator().manual_seed(1)).requires_grad_()
        pooled = self.losses(batch, start, confidence, alone, correlating)
        leaf_list = [*start.all(), confidence]
        expected = torch.autograd.grad(pooled.total, leaf_list)

        counts: list[list[Tensor]] = [[], []]

        def recorder(rank: int) -> Callable[[Tensor], Tensor]:
            def record(count: Tensor) -> Tensor:
                counts[rank].append(count)
                return count

            return record

        for rank in (0, 1):
            self.losses(*self.part(batch, start, rank), confidence[rank : rank + 1], recorder(rank), correlating)
        assert len(counts[0]) == len(counts[1])
        assert not any(count.requires_grad for count in counts[0])
        means = [(a + b) / 2 for a, b in zip(*counts, strict=True)]

        def replay() -> Callable[[Tensor], Tensor]:
            remaining = iter(means)
            return lambda _: next(remaining)

        ranks = [
            self.losses(*self.part(batch, start, rank), confidence[rank : rank + 1], replay(), correlating)
            for rank in (0, 1)
        ]
        for field in fields(pooled):
            mean = (getattr(ranks[0], field.name) + getattr(ranks[1], field.name)) / 2
            torch.testing.assert_close(mean, getattr(pooled, field.name), msg=lambda m, n=field.name: f"{n}: {m}")
        together = torch.autograd.grad((ranks[0].total + ranks[1].total) / 2, leaf_list)
        for got, wanted in zip(together, expected, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


class TestNetwork:
    """The losses on a small network of the real class."""

    def small(self, match_type: str = "dual_softmax", lite: bool = False) -> tuple[S2LD, CN]:
        config = defaults()
        model = config.MODEL
        model.BACKBONE.TYPE, model.BACKBONE.STEM_DIM = "lite", 8
        model.BACKBONE.DIMS, model.BACKBONE.FINE_DIM = [8, 16, 32], 16
        model.DETECTOR.COARSE_DIMS, model.DETECTOR.FINE_DIMS, model.DETECTOR.HEAD_DIMS = [16, 16], [16, 16], [16, 16]
        model.COARSE.HEADS = model.FINE.HEADS = 4
        model.COARSE.LAYERS = ["self", "cross"]
        model.MATCH.TYPE = match_type
        if lite:
            model.DETECTOR.TYPE, model.FINE.TYPE, model.FINE.WINDOW = "heatmap", "correlation", 9
            config.LOSS.CORNER_WEIGHT = config.LOSS.HARD_NEGATIVE_WEIGHT = 0.3
        torch.manual_seed(0)
        return S2LD(model), config

    def pair(self) -> PairBatch:
        batch = replace(plane_pair(pairs=2), T_0to1=turned_pose(2))
        noise = torch.rand(2, 1, 48, 64, generator=torch.Generator().manual_seed(2))
        images = ImageBatch(noise)
        return replace(batch, view0=replace(batch.view0, images=images), view1=replace(batch.view1, images=images))

    def step(self, net: S2LD, config: CN, batch: PairBatch) -> LossTerms:
        encoded = net.encode(batch.view0.images, batch.view1.images)
        targets = build_targets(encoded, batch, config.TARGETS)
        confidence = net.confidence(encoded)
        # cells of the true matches, as if they were predicted: an untrained network predicts none
        index = (targets.batch[::2], targets.cell0[::2], targets.cell1[::2])
        coarse = CoarseMatches(*index, confidence[index])
        config.TARGETS.FINE_MIN_TRUE = 5
        coarse = select_fine(coarse, targets, batch, config.TARGETS, torch.Generator().manual_seed(0))
        fine = net.refine(encoded, coarse)
        confidences = matrix_confidences(confidence, targets, batch)
        return matching_losses(
            encoded, confidences, coarse, fine, targets, batch, config.LOSS, net.window_radius_px, alone
        )

    @pytest.mark.parametrize("lite", [False, True])
    def test_regulariser_teaches_detector_fine_stage_and_coarse_confidence(self, lite: bool) -> None:
        net, config = self.small(lite=lite)
        self.step(net, config, self.pair()).regulariser.backward()
        paper = "keypoint_detector.k_regressor", "fine_preprocess", "s2ld_fine"
        own = ("keypoint_detector", "local_dense.query", "local_dense.regression") if lite else paper
        for part in (*own, "s2ld_coarse", "backbone"):
            gradients = [p.grad for p in net.get_submodule(part).parameters()]
            assert all(g is not None and bool(g.isfinite().all()) for g in gradients), part
            assert any(g is not None and bool(g.any()) for g in gradients), part

    @pytest.mark.parametrize("match_type", ["dual_softmax", "sinkhorn"])
    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("lite", [False, True])
    def test_every_parameter_gets_a_finite_gradient(self, match_type: str, known: bool, lite: bool) -> None:
        net, config = self.small(match_type, lite)
        batch = self.pair() if known else with_depth(self.pair(), None, None)
        terms = self.step(net, config, batch)
        terms.total.backward()
        assert (abs(terms.total.item() - config.LOSS.CORNER_WEIGHT * terms.corner.item()) > 1e-6) == known
        for name in ("heatmap", "verification"):
            assert (getattr(terms, name).item() > 0) == (known and lite)
        assert (terms.corner.item() > 0) == lite  # which needs no depth
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name
