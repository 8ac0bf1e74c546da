"""The processes of a run: how many there are, what SLURM has to say to it, and what happens when one is lost."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.utilities import rank_zero_info

from s2ld.errors import S2LDError

TIMEOUT = timedelta(minutes=10)
"""Longest wait for the other processes at a reduction: one of them may validate, write, or read a slow disk."""
LOST = "another process of this run has ended; go on from the last checkpoint with --resume auto"

_POLL = 5.0  # seconds
_LOST_WORDS = ("gloo", "connection closed by peer", "connection reset by peer", "broken pipe")


def device_count(devices: str, accelerator: str) -> int:
    """Return the number of processes on this machine, from the command line's words.

    Args:
        devices: a number from 1, or auto (all GPUs; one process without any).
        accelerator: auto | cpu | gpu.

    Raises:
        S2LDError: neither, or no GPU where one is asked for.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise S2LDError(
            "--accelerator gpu: this machine or this PyTorch has no CUDA GPU; use --accelerator cpu or auto"
        )
    if not uses_cuda(accelerator) and accelerator == "auto":
        rank_zero_info("no CUDA GPU here: training on the CPU")
    if devices == "auto":
        return torch.cuda.device_count() if uses_cuda(accelerator) else 1
    if not devices.isdecimal() or int(devices) < 1:
        raise S2LDError(f"--devices {devices}: give a number of processes from 1, or auto")
    return int(devices)


def uses_cuda(accelerator: str) -> bool:
    """Whether a run with this --accelerator is on GPUs."""
    return accelerator != "cpu" and torch.cuda.is_available()


def check_slurm(devices: int, nodes: int, environment: Mapping[str, str] = os.environ) -> None:
    """Check that SLURM has started as many tasks and nodes as the command line says; without SLURM nothing.

    Lightning takes rank and number of processes from SLURM wherever srun has started it: other numbers would hang.

    Raises:
        S2LDError: they differ, or the tasks a node are not said.
    """
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")  # Lightning's rule: no SLURM then
    if "SLURM_NTASKS" not in environment or interactive or TorchElasticEnvironment.detect():
        return
    tasks = environment.get("SLURM_NTASKS_PER_NODE", "1" if environment["SLURM_NTASKS"] == "1" else None)
    if tasks is None:
        raise S2LDError(
            f"--devices {devices}: SLURM does not say its tasks a node; use srun --ntasks-per-node={devices}"
        )
    if int(tasks) != devices:
        raise S2LDError(
            f"--devices {devices}: SLURM starts {tasks} task(s) a node; give --devices {tasks}, or "
            f"--ntasks-per-node={devices} to SLURM"
        )
    found = int(environment.get("SLURM_NNODES", nodes))
    if found != nodes:
        raise S2LDError(f"--num_nodes {nodes}: SLURM gave {found} node(s); give --num_nodes {found}")


def slurm_plugins() -> list[SLURMEnvironment]:
    """Return what keeps Lightning from requeueing by itself: scripts/slurm/train.sbatch does, and signals are ours."""
    under_slurm = "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect() and SLURMEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if under_slurm else []


def follow_parent() -> None:
    """Let a process that Lightning has started for one more GPU end soon after the process that started it.

    The reverse is Lightning's: the starting process watches those it has started. Without this, a rank whose first
    process was killed would wait for it at the next reduction until `TIMEOUT`, and hold its GPU.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        time.sleep(_POLL)  # the broken connection may have ended it already, in good order
        print(f"train.py: {LOST}", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="follow-parent").start()


def lost_peer(error: RuntimeError) -> str | None:
    """Return what to say if a reduction failed, most likely since another process has gone; None for other errors.

    Gloo says so in plain RuntimeErrors; NCCL in errors of torch.distributed, of which the first line may tell more.
    """
    if isinstance(error, torch.distributed.DistError):
        return f"{LOST} ({str(error).partition(chr(10))[0]})"
    text = str(error).lower()
    return LOST if any(word in text for word in _LOST_WORDS) else None
