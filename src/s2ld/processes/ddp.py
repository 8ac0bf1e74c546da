"""The processes of a run: how many there are, what SLURM has to say to it, and what happens when one is lost."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from s2ld.errors import S2LDError
from s2ld.log import logger
from s2ld.processes.peers import FIRST, Run, watch_started

TIMEOUT = timedelta(minutes=10)
"""Longest wait for the other processes at a reduction: one of them may validate, write, or read a slow disk."""
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
        logger.info("no CUDA GPU here: computing on the CPU")
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
        raise S2LDError(f"--num-nodes {nodes}: SLURM gave {found} node(s); give --num-nodes {found}")


def slurm_plugins() -> list[SLURMEnvironment]:
    """Return what keeps Lightning from requeueing by itself: the scripts in scripts/slurm do, and signals are ours."""
    under_slurm = "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect() and SLURMEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if under_slurm else []


def quieten() -> None:
    """Drop what Lightning says of things that are meant so: averages in evaluation mode, few loaders, no sources."""
    for message in (
        "in eval mode at the start of training",
        "does not have many workers",
        "LeafSpec",
        "Total length of",
        "predict returned None",
    ):
        warnings.filterwarnings("ignore", f".*{message}.*")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.msg)


class Processes(DDPStrategy):
    """One process for each device; those of a machine end together (`s2ld.processes.peers`).

    Args:
        run: of which they are.
        timeout: longest wait for the others at a reduction.
    """

    def __init__(self, run: Run, timeout: timedelta = TIMEOUT) -> None:
        super().__init__(timeout=timeout)
        self._run = run

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
        self._launcher.run = self._run


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's, without its way to watch what it has started: that kills this process before it can say why."""

    run: Run

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[FIRST] = str(os.getpid())
            self._call_children_scripts()
            del os.environ[FIRST]
            watch_started(self.procs, self.run)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


def lost_peer(error: RuntimeError, run: Run) -> str | None:
    """Return what to say if a reduction failed, most likely since another process has gone; None for other errors.

    Gloo says so in plain RuntimeErrors; NCCL in errors of torch.distributed, of which the first line may tell more.
    """
    if isinstance(error, torch.distributed.DistError):
        return f"{run.lost} ({str(error).partition(chr(10))[0]})"
    text = str(error).lower()
    return run.lost if any(word in text for word in _LOST_WORDS) else None
