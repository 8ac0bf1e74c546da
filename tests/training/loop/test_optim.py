"""The scaling rule, the schedule and the parameter groups against values computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from s2ld.config import CN, build_config
from s2ld.errors import S2LDError
from s2ld.training.loop.optim import (
    Place,
    RunScale,
    StepSchedule,
    build_optimizer,
    build_scheduler,
    run_scale,
    schedule_factor,
)

ROOT = Path(__file__).parents[3]
SCALE = RunScale(64, 64, 0.5, warmup_steps=10, total_steps=100)


def train_node(*overrides: str) -> CN:
    return build_config(overrides=overrides).TRAIN


def test_rate_and_warm_up_follow_the_true_batch_and_are_printed() -> None:
    keys = ["DATA.BATCH_SIZE", "2", "TRAIN.ACCUMULATE", "4", "TRAIN.CANONICAL_LR", "8e-3", "TRAIN.WARMUP_STEPS", "50"]
    scale = run_scale(build_config(overrides=keys), world=2)
    assert scale.batch == 16
    assert scale.learning_rate == pytest.approx(8e-3 * 16 / 64)
    assert scale.warmup_steps * 16 == 50 * 64  # the same number of pairs
    assert scale.total_steps == 30000
    assert str(scale) == (
        "true batch 16 pairs, learning rate 0.002 (TRAIN.CANONICAL_LR x 16/64), "
        "warm-up 200 steps (TRAIN.WARMUP_STEPS x 64/16, or a fifth of the run), 30000 steps in all"
    )
    assert run_scale(build_config(overrides=[*keys, "TRAIN.MAX_STEPS", "900"]), world=2).warmup_steps == 180


def test_the_lineages_recipe_on_megadepth() -> None:
    files = [ROOT / "configs/data/megadepth_trainval_640.yaml", ROOT / "configs/s2ld/outdoor/s2ld_kp_ds_dense.yaml"]
    config = build_config(files)
    scale = run_scale(config, world=2, epoch_pairs=36_800)  # 368 scenes
    assert (scale.batch, scale.total_steps) == (2, 30 * 18_400)
    assert scale.warmup_steps == pytest.approx(3 * 18_400, rel=0.1)
    factor = schedule_factor(config.TRAIN, scale)
    assert factor(0) == pytest.approx(0.1)
    halved = [6, 10, 14, 18, 22, 26]
    for number, epoch in enumerate(halved):
        before, after = (factor(round(epoch * 18_400 + shift)) for shift in (-10, 10))
        assert (before, after) == pytest.approx((0.5**number, 0.5 ** (number + 1)))
    train = config.TRAIN
    assert (train.WEIGHT_DECAY, train.CANONICAL_LR, train.CANONICAL_BATCH, train.GRAD_CLIP) == (0.1, 8e-3, 64, 0.5)


def test_epochs_need_a_source_that_has_them() -> None:
    config = build_config(overrides=["TRAIN.EPOCHS", "2", "TRAIN.WARMUP_STEPS", "0", "DATA.BATCH_SIZE", "3"])
    assert run_scale(config, 1, 100).total_steps == 67  # the last batch reaches into the third epoch
    with pytest.raises(S2LDError, match=r"TRAIN.EPOCHS 2: .*synthetic.* have no epochs; set TRAIN.EPOCHS 0"):
        run_scale(config, 1)


def test_epochs_are_counted_in_pairs_when_the_number_of_processes_changes() -> None:
    config = build_config(overrides=["TRAIN.EPOCHS", "10", "TRAIN.WARMUP_STEPS", "1", "TRAIN.CANONICAL_BATCH", "8"])
    alone, two = run_scale(config, 1, 100), run_scale(config, 2, 100, Place(600, 600))
    assert (alone.total_steps, two.total_steps) == (1000, 600 + 200)
    before, after = schedule_factor(config.TRAIN, alone), schedule_factor(config.TRAIN, two)
    assert [after(600 + k) for k in (0, 50, 200)] == pytest.approx([before(600 + 2 * k) for k in (0, 50, 200)])
    assert two.learning_rate == 2 * alone.learning_rate
    later = run_scale(config, 2, 100, Place(650, 700))  # resumed once more, as it was
    assert (later.total_steps, later.ahead) == (two.total_steps, two.ahead)
    steps = build_config(overrides=["TRAIN.MAX_STEPS", "1000"])
    assert run_scale(steps, 2, place=Place(600, 600)).total_steps == 1000


def test_cosine_schedule_by_hand() -> None:
    factor = schedule_factor(train_node("TRAIN.WARMUP_RATIO", "0.1", "TRAIN.FINAL_LR_RATIO", "0.01"), SCALE)
    assert factor(0) == pytest.approx(0.1)
    assert factor(5) == pytest.approx(0.55)
    assert factor(10) == pytest.approx(1.0)
    assert factor(55) == pytest.approx(0.505)  # half way: the mean of 1 and 0.01
    assert factor(100) == pytest.approx(0.01)
    assert factor(1000) == pytest.approx(0.01)


def test_multistep_schedule_by_hand() -> None:
    factor = schedule_factor(train_node("TRAIN.SCHEDULE", "multistep", "TRAIN.MILESTONES", "[0.2,0.5]"), SCALE)
    assert [factor(step) for step in (10, 19, 20, 49, 50, 99)] == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])


def test_no_warm_up_starts_at_full_rate() -> None:
    assert schedule_factor(train_node(), RunScale(64, 64, 0.5, 0, 100))(0) == pytest.approx(1.0)


def test_a_bad_schedule_is_refused() -> None:
    with pytest.raises(S2LDError, match="SCHEDULE 'linear'"):
        schedule_factor(train_node("TRAIN.SCHEDULE", "linear"), SCALE)


def test_norms_biases_and_frozen_parameters_do_not_decay() -> None:
    frozen = nn.Linear(3, 3).requires_grad_(False)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm(4), frozen)
    decayed, kept = build_optimizer([model], 0.5, 0.1).param_groups
    assert [p is model[0].weight for p in decayed["params"]] == [True]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(kept["params"]) == 5
    assert all(p.ndim == 1 for p in kept["params"])


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(S2LDError, match="FREEZE"):
        build_optimizer([nn.Linear(2, 2).requires_grad_(False)], 0.1, 0.1)


def test_after_a_resume_the_rate_is_a_function_of_the_step_and_of_this_runs_batch() -> None:
    config = train_node()

    def start(rate: float) -> tuple[torch.optim.Optimizer, StepSchedule]:
        optimizer = build_optimizer([nn.Linear(2, 2)], rate, 0.1)
        return optimizer, build_scheduler(optimizer, config, SCALE)

    optimizer, scheduler = start(0.5)
    for _ in range(30):
        optimizer.step()
        scheduler.step()
    state = scheduler.state_dict(), optimizer.state_dict()
    for rate in (0.5, 0.125):  # as many processes, and a quarter of them
        resumed_optimizer, resumed = start(rate)
        resumed_optimizer.load_state_dict(state[1])
        resumed.load_state_dict(state[0])
        rates = [resumed_optimizer.param_groups[0]["lr"]]
        resumed_optimizer.step()
        resumed.step()
        rates.append(resumed_optimizer.param_groups[0]["lr"])
        assert rates == [rate * schedule_factor(config, SCALE)(step) for step in (30, 31)]
