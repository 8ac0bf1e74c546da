"""Two processes with a pair each learn what one process with two pairs learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from tiny_runs import write_tiny

from s2ld.models.checkpoint import read_weights

ROOT = Path(__file__).parents[2]
SETTINGS = [
    # nothing that depends on the batch but the loss: frozen statistics, all fine matches instead of a random part
    *("TRAIN.FREEZE_BATCHNORM", "True", "TARGETS.FINE_FRACTION", "1.0", "TARGETS.FINE_MIN_TRUE", "64"),
    *("TRAIN.MAX_STEPS", "3", "TRAIN.WARMUP_STEPS", "1", "TRAIN.VALIDATE_EVERY", "3", "TRAIN.EMA_DECAY", "0.5"),
    *("DATA.VAL_PAIRS", "3", "MODEL.MATCH.THRESHOLD", "0.01", "TRAIN.CANONICAL_LR", "3e-4"),
]


def train(folder: Path, devices: int, batch_size: int) -> Path:
    """Train as a user would, in processes of its own."""
    output = folder / f"{devices}x{batch_size}"
    command = [sys.executable, "train.py", str(write_tiny(folder)), "--output", str(output), "--accelerator", "cpu"]
    command += ["--devices", str(devices), "DATA.BATCH_SIZE", str(batch_size), *SETTINGS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def test_two_gloo_processes_agree_with_one(tmp_path: Path) -> None:
    one, two = train(tmp_path, 1, 2), train(tmp_path, 2, 1)
    checkpoints = [torch.load(path / "last.ckpt", weights_only=True) for path in (one, two)]
    assert [c["PairDataModule"] for c in checkpoints] == [{"step": 3, "pairs": 6}] * 2
    assert [c["optimizer_states"][0]["param_groups"][0]["lr"] for c in checkpoints] == [
        checkpoints[0]["optimizer_states"][0]["param_groups"][0]["lr"]
    ] * 2
    a, b = (read_weights(path / "s2ld.safetensors") for path in (one, two))
    for name, value in a.state.items():
        torch.testing.assert_close(b.state[name], value, rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert a.metadata["score"] == b.metadata["score"]
    start = torch.load(one / "last.ckpt", weights_only=True)["state_dict"]
    moved = (start["matcher.s2ld_coarse.layers.0.q_proj.weight"] - a.state["s2ld_coarse.layers.0.q_proj.weight"]).abs()
    assert float(moved.max()) > 1e-5  # the average trails the weights: both have moved, by more than the tolerance
