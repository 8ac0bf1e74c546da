"""Two processes with a pair each learn what one process with two pairs learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import write_tiny

from s2ld.cli.train import main

ROOT = Path(__file__).parents[2]
SETTINGS = [
    # nothing that depends on the batch but the loss: frozen statistics, all fine matches instead of a random part
    *("TRAIN.FREEZE_BATCHNORM", "True", "TARGETS.FINE_FRACTION", "1.0", "TARGETS.FINE_MIN_TRUE", "64"),
    *("TRAIN.MAX_STEPS", "3", "TRAIN.WARMUP_STEPS", "1", "TRAIN.VALIDATE_EVERY", "3", "TRAIN.EMA_DECAY", "0.5"),
    *("DATA.VAL_PAIRS", "3", "MODEL.MATCH.THRESHOLD", "0.01"),
]


def arguments(folder: Path, devices: int, batch_size: int) -> list[str]:
    output = str(folder / str(devices))
    hardware = ["--output", output, "--accelerator", "cpu", "--devices", str(devices)]
    return [str(write_tiny(folder)), *hardware, "DATA.BATCH_SIZE", str(batch_size), *SETTINGS]


def checkpoint(folder: Path, devices: int) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / str(devices) / "last.ckpt", weights_only=True)
    return loaded


def test_two_gloo_processes_agree_with_one(tmp_path: Path) -> None:
    one_result = main(arguments(tmp_path, 1, 2))
    command = [sys.executable, "train.py", *arguments(tmp_path, 2, 1)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es)" in done.stderr

    one, two = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    assert one["PairDataModule"] == two["PairDataModule"] == {"step": 3, "pairs": 6}
    (first,), (second,) = one["optimizer_states"], two["optimizer_states"]
    assert [group["lr"] for group in first["param_groups"]] == [group["lr"] for group in second["param_groups"]]
    # the mean gradient, not the weights: Adam turns the rounding of a gradient near 0 into a step of full length
    for name, state in first["state"].items():
        gradient, other = state["exp_avg"], second["state"][name]["exp_avg"]
        assert float((gradient - other).norm()) <= 1e-3 * float(gradient.norm()) + 1e-9, name
    assert max(float(state["exp_avg"].norm()) for state in first["state"].values()) > 1e-3
    assert (tmp_path / "2" / "s2ld.safetensors").exists()
    assert two["callbacks"]["Checkpoints"]["best"] == pytest.approx(one["callbacks"]["Checkpoints"]["best"], abs=1e-6)
    matches = one_result.metrics["val_homography/matches"]  # over an uneven split of the validation pairs
    assert matches > 0
    assert f"step 3: homography matches {matches:.4g}," in done.stderr
