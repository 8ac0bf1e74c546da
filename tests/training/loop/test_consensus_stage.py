"""TRAIN.STAGE consensus from the command line, and the consensus as one term of the whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_consensus_cache import CONSENSUS, tiny
from test_ddp import run_unlucky
from test_module import fit, parameters
from test_resume import content, differing, stop_after_two_steps
from tiny_runs import write_tiny

from s2ld.cli.train.train import main
from s2ld.data.sample import collate
from s2ld.data.sources.by_name import build_source
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import load_model, read_weights, save_weights
from s2ld.models.network import S2LD
from s2ld.training.loop.module import S2LDModule
from s2ld.training.loop.run import TrainResult

pytestmark = pytest.mark.filterwarnings("ignore:.*(in eval mode|LeafSpec|across ranks is zero)")


def trained(folder: Path) -> Path:
    """Write the weights of a network without a consensus."""
    path = folder / "trained.safetensors"
    if not path.exists():
        torch.manual_seed(1)
        config = tiny(folder, "MODEL.CONSENSUS.ENABLED", "False")
        save_weights(path, S2LD(config.MODEL), config)
    return path


def command(folder: Path, output: str, *arguments: str) -> list[str]:
    stage = ["TRAIN.STAGE", "consensus", "TRAIN.INIT_WEIGHTS", str(trained(folder)), "TRAIN.INIT_STRICT", "False"]
    steps = ["TRAIN.MAX_STEPS", "4", "TRAIN.WARMUP_STEPS", "1", "TRAIN.VALIDATE_EVERY", "2", "DATA.VAL_PAIRS", "2"]
    where = [str(write_tiny(folder)), "--accelerator", "cpu", "--output", str(folder / output)]
    return [*where, *CONSENSUS, *stage, *steps, *arguments]


def run(folder: Path, output: str, *arguments: str) -> TrainResult:
    return main(command(folder, output, *arguments))


def test_only_the_consensus_learns_and_all_is_exported(tmp_path: Path) -> None:
    result = run(tmp_path, "run")
    assert result.steps == 4
    assert result.weights is not None
    before, after = read_weights(trained(tmp_path)).state, read_weights(result.weights).state
    assert all(torch.equal(before[name], after[name]) for name in before)
    own = {name for name in after if name.startswith("consensus.")}
    assert own == after.keys() - before.keys()
    assert load_model(result.weights)[0].consensus is not None
    state = content(tmp_path / "run/last.ckpt")["state_dict"]
    assert all(torch.equal(state[f"matcher.{name}"], before[name]) for name in before)
    metrics = {name for name in result.metrics if name.startswith("val_candidates/")}
    assert {"val_candidates/average_precision", "val_candidates/precision_at_80"} <= metrics
    assert all(math.isfinite(result.metrics[name]) for name in metrics)
    assert 0 <= result.metrics["val/score"] <= 1
    assert (tmp_path / "run/candidates.h5").exists()


def test_two_and_two_steps_are_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ["TRAIN.CANDIDATES.CACHE", str(tmp_path / "common.h5")]
    whole = run(tmp_path, "whole", *cache)
    monkeypatch.setattr("s2ld.training.loop.callbacks.TimeLimit.on_train_batch_end", stop_after_two_steps)
    assert run(tmp_path, "halves", "--max-time", "1", *cache).steps == 2
    rest = run(tmp_path, "halves", "--resume", "auto", *cache)
    a, b = content(tmp_path / "whole/last.ckpt"), content(tmp_path / "halves/last.ckpt")
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "PairDataModule", "global_step"):
        assert differing(a[part], b[part]) == []
    assert whole.metrics["loss/consensus"] == rest.metrics["loss/consensus"] > 0


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    short = ["TRAIN.EMA_DECAY", "0.5", "TRAIN.MAX_STEPS", "2"]
    main(command(tmp_path, "1", *short, "DATA.BATCH_SIZE", "2"))
    two = run_unlucky("", command(tmp_path, "2", "--devices", "2", *short, "DATA.BATCH_SIZE", "1"))
    assert two.returncode == 0, two.stderr[-3000:]
    one, many = content(tmp_path / "1/last.ckpt"), content(tmp_path / "2/last.ckpt")
    assert one["PairDataModule"] == many["PairDataModule"] == {"step": 2, "pairs": 4}
    (first,), (second,) = one["optimizer_states"], many["optimizer_states"]
    assert first["state"].keys() == second["state"].keys() != set()
    for name, state in first["state"].items():
        gradient, other = state["exp_avg"], second["state"][name]["exp_avg"]
        assert float((gradient - other).norm()) <= 1e-3 * float(gradient.norm()) + 1e-9, name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.CONSENSUS.ENABLED", "False"), r"set MODEL\.CONSENSUS\.ENABLED True"),
        (("TRAIN.INIT_WEIGHTS", ""), r"set TRAIN\.INIT_WEIGHTS"),
        (("DATA.OVERFIT_PAIRS", "1"), r"no DATA\.OVERFIT_PAIRS"),
    ],
)
def test_what_does_not_fit_the_stage_is_refused(tmp_path: Path, overrides: tuple[str, str], message: str) -> None:
    with pytest.raises(S2LDError, match=message):
        run(tmp_path, "run", *overrides)


@pytest.mark.parametrize("fine", ["transformer", "correlation"])
def test_the_consensus_learns_with_the_matcher(tmp_path: Path, fine: str) -> None:
    config = tiny(tmp_path, "MODEL.FINE.TYPE", fine, "TRAIN.MAX_STEPS", "2", "TRAIN.WARMUP_STEPS", "1")
    module = S2LDModule(config)
    before = parameters(module.matcher)
    trainer = fit(module, config, train=build_source("homography", config, "train"))
    moved = {name for name, value in module.matcher.named_parameters() if not torch.equal(value, before[name])}
    assert {name for name in before if name.startswith("consensus.")} <= moved
    assert any(name.startswith("backbone") for name in moved)
    assert float(trainer.callback_metrics["loss/consensus"]) > 0


def test_its_term_changes_no_gradient_but_its_own(tmp_path: Path) -> None:
    gradients: dict[str, dict[str, Any]] = {}
    for weight in ("0.0", "3.0"):
        config = tiny(tmp_path, "LOSS.CONSENSUS_WEIGHT", weight)
        torch.manual_seed(0)
        module = S2LDModule(config)
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        module._generator = lambda _: torch.Generator().manual_seed(0)  # type: ignore[method-assign]
        source = build_source("homography", config, "train")
        terms = module.matcher_terms(collate([source[0], source[1]]), 0)
        assert terms is not None
        terms.total.backward()
        gradients[weight] = {name: parameter.grad for name, parameter in module.matcher.named_parameters()}
    for name, gradient in gradients["0.0"].items():
        other = gradients["3.0"][name]
        if name.startswith("consensus."):
            assert float(gradient.abs().max()) == 0
            assert float(other.abs().max()) > 0
        else:
            assert torch.equal(gradient, other), name


def test_a_frozen_consensus_costs_nothing(tmp_path: Path) -> None:
    config = tiny(tmp_path, "TRAIN.FREEZE", "['consensus']", "TRAIN.MAX_STEPS", "1")
    module = S2LDModule(config)
    trainer = fit(module, config, train=build_source("homography", config, "train"))
    assert float(trainer.callback_metrics["loss/consensus"]) == 0
