"""One training step and one validation step of S2LD, in the order in which the method is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from s2ld.config import CN, config_to_text
from s2ld.errors import S2LDError
from s2ld.evaluation.estimators import ESTIMATORS, build_homography_estimator
from s2ld.log import logger
from s2ld.models.checkpoint import CONFIG_KEY
from s2ld.models.fast.recomputing import save_memory
from s2ld.models.network import S2LD
from s2ld.training.consensus.candidates import CandidateBatch
from s2ld.training.consensus.loss import candidate_losses, candidates_of
from s2ld.training.loop.ema import WeightAverage
from s2ld.training.loop.optim import RunScale, build_optimizer, build_scheduler, run_scale
from s2ld.training.loop.stages import frozen_modules
from s2ld.training.losses.confidences import sparse_stage
from s2ld.training.losses.targets import build_targets, select_fine
from s2ld.training.losses.teacher import build_teacher_head, teacher_losses
from s2ld.training.losses.total import detector_losses, matching_losses, with_teacher
from s2ld.training.validation import COLUMNS, NOTHING, detector_row, matcher_row, summarise, weighted_score
from s2ld.types import CoarseMatches, EncodedPair, Features, FineMatches, LossTerms, PairBatch, Prediction, Targets

RIGHT_PX = 8.0  # resized px: a predicted match farther than a cell from the truth is wrong, in the training's log


class S2LDModule(pl.LightningModule):
    """The network and how it learns; the state dict has ``matcher.``, if any ``average.model.`` and ``teacher.``.

    A step whose loss, output or gradient is not finite in any process is skipped in all of them: neither weights nor
    statistics nor the average take anything from it. It counts as a step, so that schedule and data order do not shift.

    Args:
        config: the whole config.
        scale: of the run; by default that of the config and the trainer's processes.

    Raises:
        S2LDError: unknown stage or module to freeze.
    """

    def __init__(self, config: CN, scale: RunScale | None = None) -> None:
        super().__init__()
        self.config = config
        self.skipped_steps = 0
        """Steps skipped since the run's beginning."""
        self._skipped_in_a_row = 0
        self._why = ""
        self._scale = scale
        self._good_buffers: list[Tensor] = []
        self.matcher = S2LD(config.MODEL)
        if config.TRAIN.CHANNELS_LAST:
            self.matcher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in self.matcher.modules():
            if isinstance(module, nn.ReLU | nn.LeakyReLU):  # always behind a layer of its own
                module.inplace = True
        if config.TRAIN.CHECKPOINT:
            save_memory(self.matcher)
        self._frozen = frozen_modules(self.matcher, config.TRAIN)
        for module in self._frozen:
            module.requires_grad_(False)
        self.average = WeightAverage(self.matcher, config.TRAIN.EMA_DECAY) if config.TRAIN.EMA_DECAY else None
        self.teacher = build_teacher_head(config)
        self._estimator = ESTIMATORS["poselib"](config.EVAL)  # less of chance in it than in OpenCV's
        self._homography = build_homography_estimator(config.EVAL)
        self._table = torch.zeros(0, len(COLUMNS))
        self.train()

    @property
    def averaged(self) -> S2LD:
        """The network that is validated and exported: the average where there is one."""
        return self.matcher if self.average is None else cast("S2LD", self.average.model)

    def restart_average(self) -> None:
        """Let the average start from the weights that the matcher has now."""
        if self.average is not None:
            self.average.model.load_state_dict(self.matcher.state_dict())

    def train(self, mode: bool = True) -> S2LDModule:
        """Set the mode; frozen modules and, where asked for, batch normalisations stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self.config.TRAIN.FREEZE_BATCHNORM:
            for module in self.matcher.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def training_step(self, batch: PairBatch | CandidateBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, NaN with a NaN gradient where it or the network's output is not finite."""
        terms: LossTerms | None
        if isinstance(batch, CandidateBatch):
            terms = candidate_losses(self._judge(batch), batch, self.config.LOSS, self.reduce_count)
        elif self.config.TRAIN.STAGE == "detector":
            terms = self._detector_terms(batch)
        else:
            terms = self.matcher_terms(batch, batch_idx)
        if terms is None:
            return self._broken_loss()
        if not bool(terms.total.isfinite()):
            self._why = f"the loss is not finite ({_pairs(batch)})"
            return self._broken_loss()
        for field in fields(terms):
            self._log(f"loss/{field.name}", getattr(terms, field.name).detach(), batch, field.name == "total")
        self._log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"], batch)
        return terms.total

    def reduce_count(self, count: Tensor) -> Tensor:
        """Return the mean of a count over the processes; one without a trainer is alone."""
        if self._trainer is None or self.trainer.world_size == 1:
            return count
        return cast("Tensor", self.trainer.strategy.reduce(count.clone(), reduce_op="mean"))

    def matcher_terms(self, batch: PairBatch, batch_idx: int) -> LossTerms | None:
        """Return the loss terms of a batch, None where an output of the network is not finite in any process."""
        encoded = self.matcher.encode(batch.view0.images, batch.view1.images)
        if self._is_broken(encoded, batch):
            return None
        targets = build_targets(encoded, batch, self.config.TARGETS)
        predicted, confidences = sparse_stage(self.matcher, encoded, targets, batch, self.config.LOSS)
        coarse = select_fine(predicted, targets, batch, self.config.TARGETS, self._generator(batch_idx))
        fine = self.matcher.refine(encoded, coarse)
        self._log_matches(predicted, coarse, fine, targets, batch)
        radius = self.matcher.window_radius_px
        terms = matching_losses(
            encoded, confidences, coarse, fine, targets, batch, self.config.LOSS, radius, self.reduce_count
        )
        terms = self.with_teacher(terms, encoded, batch)
        if not self._learns_consensus:
            return terms
        candidates = candidates_of(self.matcher, encoded, predicted, targets, batch, self.config.LOSS)
        judged = candidate_losses(self._judge(candidates), candidates, self.config.LOSS, self.reduce_count)
        return replace(terms, consensus=judged.consensus, total=terms.total + judged.total)

    def with_teacher(self, terms: LossTerms, encoded: EncodedPair, batch: PairBatch) -> LossTerms:
        """Return the terms with that of the teacher, if there is one."""
        if self.teacher is None:
            return terms
        losses = teacher_losses(self.teacher, encoded, batch)
        return with_teacher(terms, losses, self.config.TRAIN.TEACHER.WEIGHT, self.reduce_count)

    def _learning(self) -> list[nn.Parameter]:
        """Return all parameters that take a gradient, of the teacher's head too."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def _learns_consensus(self) -> bool:
        consensus = self.matcher.consensus
        return consensus is not None and consensus not in self._frozen

    def _judge(self, batch: CandidateBatch) -> Tensor:
        assert self.matcher.consensus is not None
        logits: Tensor = self.matcher.consensus(batch.candidates, batch.size)
        return logits

    def _detector_terms(self, batch: PairBatch) -> LossTerms | None:
        encoded = _detect(self.matcher, batch)
        if self._is_broken(encoded, batch):
            return None
        targets = build_targets(encoded, batch, self.config.TARGETS)
        return detector_losses(encoded, targets, batch, self.config.LOSS, self.reduce_count)

    def _is_broken(self, encoded: EncodedPair, batch: PairBatch) -> bool:
        """Whether an output is not finite in any process: all leave the step together, before they count matches.

        It must be asked for, since a loss over no valid keypoint is 0.
        """
        keypoints = encoded.keypoints0.points, encoded.keypoints1.points
        sums = [
            first.sum() + second.sum()
            for first, second in (keypoints, (encoded.coarse0.float(), encoded.coarse1.float()))
        ]
        finite = torch.stack(sums).isfinite().tolist()
        if not all(finite):
            self._why = f"a {'descriptor' if finite[0] else 'keypoint'} is not finite ({_pairs(batch)})"
        return bool(self.reduce_count(torch.tensor(float(not all(finite)), device=self.device)) > 0)

    def _broken_loss(self) -> Tensor:
        """Return NaN that hangs on every weight: its gradient reaches the other processes by DDP's own reduction."""
        return torch.stack([p.sum() for p in self._learning()]).sum() * torch.nan

    def _log_matches(
        self, predicted: CoarseMatches, coarse: CoarseMatches, fine: FineMatches, targets: Targets, batch: PairBatch
    ) -> None:
        """Log matches a pair and which share of the checkable predicted ones is right."""
        self._log("train/matches", len(predicted) / batch.size, batch)
        self._log("train/true_matches", len(targets.batch) / batch.size, batch)
        valid = (coarse.confidence > 0) & targets.valid0[coarse.batch, coarse.cell0]
        error = (fine.points1.detach() - targets.warped0[coarse.batch, coarse.cell0]).norm(dim=1)
        right = (valid & (error < RIGHT_PX)).sum()
        self._log("train/precision", right / valid.sum().clamp(min=1), batch)

    def _log(self, name: str, value: Any, batch: PairBatch | CandidateBatch, bar: bool = False) -> None:
        self.log(name, value, batch_size=batch.size, prog_bar=bar)

    def _generator(self, batch_idx: int) -> torch.Generator:
        """Return this micro-step's random numbers, a function of seed, step and process, the same after a resume."""
        accumulate = self.config.TRAIN.ACCUMULATE
        micro = self.global_step * accumulate + batch_idx % accumulate
        state = np.random.SeedSequence((self.config.TRAIN.SEED, micro, self.global_rank)).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))

    def on_train_start(self) -> None:
        """Remember the running statistics that the first step starts from."""
        self._good_buffers = [buffer.clone() for buffer in self.matcher.buffers()]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the norm of the gradient before it is clipped; drop a gradient that is not finite.

        The norm is taken after DDP's reduction: it is the same in all processes, and so is what follows from it.

        Raises:
            S2LDError: TRAIN.MAX_BAD_STEPS steps in a row were bad.
        """
        norm = nn.utils.get_total_norm([p.grad for p in self._learning() if p.grad is not None])
        self.log("train/gradient_norm", norm)
        if bool(norm.isfinite()):
            self._skipped_in_a_row = 0
        else:
            optimizer.zero_grad(set_to_none=True)  # AdamW passes over weights without one, moments and decay included
            self._count_skipped()
        self.log("train/skipped_steps", float(self.skipped_steps))

    def _count_skipped(self) -> None:
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        why, self._why = self._why or "the gradient is not finite", ""  # the process where it began knows more
        if self._skipped_in_a_row >= self.config.TRAIN.MAX_BAD_STEPS:
            raise S2LDError(
                f"step {self.global_step}: {why}, and so for {self._skipped_in_a_row} step(s) in a row; go on from the "
                "last checkpoint with a lower TRAIN.CANONICAL_LR or TRAIN.GRAD_CLIP, or with TRAIN.PRECISION 32-true"
            )
        logger.warning("step {} is skipped: {}", self.global_step, why)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the average follow; after a skipped step take back what it did to the statistics."""
        super().optimizer_step(*args, **kwargs)
        if self._skipped_in_a_row:
            _copy(self._good_buffers, self.matcher.buffers())
            return
        _copy(self.matcher.buffers(), self._good_buffers)
        if self.average is not None:
            self.average.update(self.matcher, self.global_step)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW and its schedule, stepped once an optimiser step."""
        train = self.config.TRAIN
        scale = self._scale or run_scale(self.config, self.trainer.world_size)
        learners = [module for module in (self.matcher, self.teacher) if module is not None]
        optimizer = build_optimizer(learners, scale.learning_rate, train.WEIGHT_DECAY)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": build_scheduler(optimizer, train, scale), "interval": "step"},
        }

    def on_validation_epoch_start(self) -> None:
        """Make room for one row a validation pair; take the first process's statistics, which checkpoints hold."""
        if self.trainer.world_size > 1:
            for buffer in self.averaged.buffers():
                torch.distributed.broadcast(buffer, 0)
        self._layout: list[tuple[str, int]] = self.trainer.datamodule.val_layout  # type: ignore[attr-defined]
        pairs = sum(count for _, count in self._layout)
        self._table = torch.zeros(pairs, len(COLUMNS), dtype=torch.float64, device=self.device)

    def validation_step(self, batch: PairBatch, batch_idx: int) -> dict[str, Prediction]:
        """Measure one pair with the averaged weights; returns the prediction, for figures (a detector makes none)."""
        row = batch_idx * self.trainer.world_size + self.global_rank
        if batch.skipped:  # another pair stands in for one that could not be read
            self._table[row] = NOTHING
            return {}
        if self.config.TRAIN.STAGE == "detector":
            encoded = _detect(self.averaged, batch)
            targets = build_targets(encoded, batch, self.config.TARGETS)
            self._table[row] = detector_row(encoded, targets, batch)
            return {}
        prediction: Prediction = self.averaged(batch.view0.images, batch.view1.images)
        targets = build_targets(prediction.encoded, batch, self.config.TARGETS)
        seed = self.config.EVAL.SEED
        self._table[row] = matcher_row(prediction, targets, batch, self._estimator, self._homography, seed)
        return {"prediction": prediction}

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of each source, and the mean of their scores by weight, ``val/score``: it chooses the best.

        What a score is, and so what enters, says `s2ld.training.validation`. Pairs that could not be read are left out,
        and counted in what is printed.
        """
        table = self._table
        if self.trainer.world_size > 1:
            table = cast("Tensor", self.trainer.strategy.reduce(table, reduce_op="sum"))
        scores: list[float | None] = []
        lines, first = [], 0
        for name, count in self._layout:
            rows = table[first : first + count]
            first += count
            rows = rows[~rows.isnan().all(dim=1)]
            missing = f" ({count - len(rows)} of {count} pairs could not be read)" if len(rows) < count else ""
            metrics = summarise(rows.cpu().numpy()) if len(rows) else {}
            scores.append(metrics.get("score"))
            lines.append(f"{name}{missing} " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()))
            self.log_dict({f"val_{name}/{key}": value for key, value in metrics.items()}, rank_zero_only=False)
        weights: list[float] = self.trainer.datamodule.val_weights  # type: ignore[attr-defined]
        self.log("val/score", weighted_score(scores, weights), prog_bar=True)
        logger.info(f"step {self.global_step}: {'; '.join(lines)}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the config and the number of skipped steps into the checkpoint."""
        checkpoint[CONFIG_KEY] = config_to_text(self.config)
        checkpoint["skipped_steps"] = self.skipped_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting skipped steps; checkpoints from before they were counted have none."""
        self.skipped_steps = int(checkpoint.get("skipped_steps", 0))


def _pairs(batch: PairBatch | CandidateBatch) -> str:
    """Return the pairs of a batch for people; generated ones have no name but that of their source."""
    named = zip(batch.sources, batch.names, strict=True)
    return "; ".join(f"{source} {' - '.join(filter(None, names))}".strip() for source, names in named)


def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _detect(matcher: S2LD, batch: PairBatch) -> EncodedPair:
    """Run backbone and detector only; what comes after them is empty."""
    keypoints0, keypoints1 = matcher.detect(batch.view0.images), matcher.detect(batch.view1.images)
    nothing = keypoints0.score.new_zeros(0)
    none = Features(nothing, nothing)
    return EncodedPair(none, none, keypoints0, keypoints1, nothing, nothing)
