"""Learning rate, schedule and parameter groups against values computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from s2ld.config import CN, build_config
from s2ld.errors import S2LDError
from s2ld.training.optim import build_optimizer, build_scheduler, run_scale, schedule_factor


def train_node(*overrides: str) -> CN:
    return build_config(overrides=["TRAIN.MAX_STEPS", "100", "TRAIN.WARMUP_STEPS", "10", *overrides]).TRAIN


def test_learning_rate_grows_with_the_true_batch() -> None:
    config = build_config(overrides=["DATA.BATCH_SIZE", "2", "TRAIN.ACCUMULATE", "4", "TRAIN.CANONICAL_LR", "8e-3"])
    scale = run_scale(config, world=2)
    assert scale.batch == 16
    assert scale.learning_rate == pytest.approx(8e-3 * 16 / 64)
    assert "16 pairs" in str(scale)
    assert "0.002" in str(scale)


def test_cosine_schedule_by_hand() -> None:
    factor = schedule_factor(train_node("TRAIN.WARMUP_RATIO", "0.1", "TRAIN.FINAL_LR_RATIO", "0.01"))
    assert factor(0) == pytest.approx(0.1)
    assert factor(5) == pytest.approx(0.55)
    assert factor(10) == pytest.approx(1.0)
    assert factor(55) == pytest.approx(0.505)  # half way: the mean of 1 and 0.01
    assert factor(100) == pytest.approx(0.01)
    assert factor(1000) == pytest.approx(0.01)


def test_multistep_schedule_by_hand() -> None:
    factor = schedule_factor(train_node("TRAIN.SCHEDULE", "multistep", "TRAIN.MILESTONES", "[0.2,0.5]"))
    assert [factor(step) for step in (10, 19, 20, 49, 50, 99)] == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])


def test_no_warm_up_starts_at_full_rate() -> None:
    assert schedule_factor(train_node("TRAIN.WARMUP_STEPS", "0"))(0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(("TRAIN.SCHEDULE", "linear"), "SCHEDULE 'linear'"), (("TRAIN.WARMUP_STEPS", "100"), "WARMUP_STEPS 100")],
)
def test_bad_schedule_is_refused(overrides: tuple[str, str], message: str) -> None:
    with pytest.raises(S2LDError, match=message):
        schedule_factor(train_node(*overrides))


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


def test_schedule_is_a_function_of_the_step_after_a_resume() -> None:
    config = train_node()

    def start() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        optimizer = build_optimizer([nn.Linear(2, 2)], 0.5, 0.1)
        return optimizer, build_scheduler(optimizer, config)

    optimizer, scheduler = start()
    for _ in range(30):
        optimizer.step()
        scheduler.step()
    state = scheduler.state_dict(), optimizer.state_dict()
    resumed_optimizer, resumed = start()
    resumed.load_state_dict(state[0])
    resumed_optimizer.load_state_dict(state[1])
    resumed_optimizer.step()
    resumed.step()
    assert resumed_optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * schedule_factor(config)(31))
