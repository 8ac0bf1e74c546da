"""Several processes learn what one learns, also when some of them have nothing to learn from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import content
from tiny_runs import tiny_config, write_tiny
from unlucky_run import starved

from s2ld.cli.train.train import main
from s2ld.data.sample import collate
from s2ld.data.sources.by_name import build_source
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.models.network import S2LD
from s2ld.training.losses.targets import build_targets

ROOT = Path(__file__).parents[3]
SETTINGS = [
    # nothing that depends on the batch but the loss: frozen statistics, all fine matches instead of a random part
    *("TRAIN.FREEZE_BATCHNORM", "True", "TARGETS.FINE_FRACTION", "1.0", "TARGETS.FINE_MIN_TRUE", "64"),
    *("TRAIN.MAX_STEPS", "2", "TRAIN.WARMUP_STEPS", "1", "TRAIN.VALIDATE_EVERY", "2", "TRAIN.EMA_DECAY", "0.5"),
    *("DATA.VAL_PAIRS", "5", "MODEL.MATCH.THRESHOLD", "0.01"),
]


def arguments(folder: Path, devices: int, batch_size: int, *settings: str) -> list[str]:
    """Return a command line of `devices` processes on the CPU that write to `folder`/`devices`."""
    output = str(folder / str(devices))
    hardware = ["--output", output, "--accelerator", "cpu", "--devices", str(devices)]
    return [str(write_tiny(folder)), *hardware, "DATA.BATCH_SIZE", str(batch_size), *settings]


def run_unlucky(mishaps: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run train.py with the mishaps of `unlucky_run` in processes of its own, for five minutes at most."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "UNLUCKY": mishaps}
    script = [sys.executable, str(ROOT / "tests/support/unlucky_run.py"), *command]
    options = {"capture_output": True, "text": True, "timeout": 300, "start_new_session": True}
    return subprocess.run(script, env=environment, check=False, **options)


@pytest.mark.parametrize(("processes", "mishaps"), [(2, ""), (4, "starved")])
def test_gloo_processes_agree_with_one(
    tmp_path: Path, processes: int, mishaps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mishaps:  # with one pair each, every second process never sees a match
        monkeypatch.setattr(HomographyPairs, "__getitem__", starved)
    one_result = main(arguments(tmp_path, 1, processes, *SETTINGS))
    done = run_unlucky(mishaps, arguments(tmp_path, processes, 1, *SETTINGS))
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{processes} process(es)" in done.stderr

    one, many = content(tmp_path / "1/last.ckpt"), content(tmp_path / str(processes) / "last.ckpt")
    assert one["PairDataModule"] == many["PairDataModule"] == {"step": 2, "pairs": 2 * processes}
    assert one["skipped_steps"] == many["skipped_steps"] == 0
    (first,), (second,) = one["optimizer_states"], many["optimizer_states"]
    assert [group["lr"] for group in first["param_groups"]] == [group["lr"] for group in second["param_groups"]]
    # the mean gradient, not the weights: Adam turns the rounding of a gradient near 0 into a step of full length
    for name, state in first["state"].items():
        gradient, other = state["exp_avg"], second["state"][name]["exp_avg"]
        # in float32 the queries of the fine stage round by 5e-3, and Adam's first step carries that everywhere
        assert float((gradient - other).norm()) <= 1e-2 * float(gradient.norm()) + 1e-9, name
    assert max(float(state["exp_avg"].norm()) for state in first["state"].values()) > 1e-3
    assert (tmp_path / str(processes) / "s2ld.safetensors").exists()
    assert best(many) == pytest.approx(best(one), abs=1e-6)
    matches = one_result.metrics["val_homography/matches"]  # over an uneven split of the validation pairs
    assert matches > 0
    assert f"step 2: homography matches {matches:.4g}," in done.stderr


def best(checkpoint: dict[str, Any]) -> float:
    return float(checkpoint["callbacks"]["Checkpoints"]["best"])


def test_a_starved_pair_has_nothing_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HomographyPairs, "__getitem__", starved)
    config = tiny_config(tmp_path)
    batch = collate([build_source("homography", config, "train")[1]])
    with torch.no_grad():
        targets = build_targets(
            S2LD(config.MODEL).encode(batch.view0.images, batch.view1.images), batch, config.TARGETS
        )
    assert len(targets.batch) == 0
    assert not targets.valid0.any()
    assert not targets.valid1.any()
