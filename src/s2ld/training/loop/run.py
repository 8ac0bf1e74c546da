"""A whole training: from a config to checkpoints, logs and weights."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities import rank_zero_only

from s2ld.config import CN, value_of
from s2ld.data.datamodule import PairDataModule
from s2ld.data.scene_geometry import odd_scenes
from s2ld.errors import LOST_PROCESS, TERMINATED, S2LDError, Stopped, as_one_line
from s2ld.files import make_folder
from s2ld.locks import sole_writer
from s2ld.log import keep, logger, set_rank
from s2ld.models.checkpoint import load_fitting, load_strict, read_weights, save_weights
from s2ld.processes.ddp import Processes, check_slurm, device_count, lost_peer, quieten, slurm_plugins, uses_cuda
from s2ld.processes.peers import TRAINING
from s2ld.training.consensus.held_out import HeldOutCandidates
from s2ld.training.consensus.making import candidate_data
from s2ld.training.consensus.source import CachedCandidates, cache_path
from s2ld.training.loop.callbacks import MatchFigures, StepProgressBar, StopOnSignal, Throughput, TimeLimit
from s2ld.training.loop.checkpoints import BEST, LAST, Checkpoints, WholeFileIO, check_resumable, resume_place
from s2ld.training.loop.module import S2LDModule
from s2ld.training.loop.optim import Place, RunScale, run_scale
from s2ld.training.loop.precision import run_precision
from s2ld.training.loop.restoring import check_restorable
from s2ld.training.loop.skipped import SkippedPairs
from s2ld.training.loop.stages import DETECTOR_MODULES

WEIGHTS = "s2ld.safetensors"
"""Name of the exported weights in the output folder."""


@dataclass(frozen=True)
class TrainResult:
    """What a training did."""

    output: Path
    """Folder of checkpoints, logs and weights."""
    steps: int
    """Optimiser steps since the run's beginning, before a resume too."""
    metrics: dict[str, float]
    """The last logged value of everything, e.g. ``loss/total``, ``val/score``."""
    weights: Path | None
    """Averaged weights; None after a quick run, and in all processes but the first."""


@dataclass(frozen=True)
class RunOptions:
    """On what a training runs, and for how long."""

    accelerator: str = "auto"
    """auto | cpu | gpu."""
    devices: str = "1"
    """Processes on each machine, or auto."""
    num_nodes: int = 1
    """Machines."""
    max_seconds: float | None = None
    """Time after which it stops."""
    fast_dev_run: bool = False
    """One training and one validation batch, no files."""


def train(config: CN, output: Path, checkpoint: Path | None, options: RunOptions) -> TrainResult:
    """Train with a whole config, from a checkpoint or from the beginning, and write to the folder `output`.

    Raises:
        S2LDError: bad options or files; a loss that is not finite for many steps.
        KeyboardInterrupt: Ctrl-C, after the step that ran has been saved.
        Stopped: status 143 after SIGTERM or SIGUSR1, when the step that ran has been saved; 3 when another process of
            the run has ended.
    """
    devices = _devices(options)
    world = devices * options.num_nodes
    pl.seed_everything(config.TRAIN.SEED, verbose=False)
    candidates = CachedCandidates(cache_path(config, output), config) if config.TRAIN.STAGE == "consensus" else None
    data = PairDataModule(config) if candidates is None else candidate_data(candidates, config)
    if checkpoint is None:
        _say_conventions(config)
    place = Place() if checkpoint is None else resume_place(checkpoint)
    scale = run_scale(config, world, _epoch_pairs(data), place)
    module = S2LDModule(config, scale)
    initialise(module, config)
    trainer = build_trainer(config, scale, output, options, devices)
    set_rank(trainer.global_rank)
    if candidates is not None:
        trainer.callbacks.append(HeldOutCandidates(candidates))  # type: ignore[attr-defined]
    _, precision = run_precision(config.TRAIN.PRECISION, options.accelerator)
    where = f"{world} process(es) on {trainer.accelerator.__class__.__name__}"
    logger.info(f"{scale}; {where}; {precision}; to {output}")
    if checkpoint is not None:
        check_resumable(checkpoint, module)
        check_restorable(checkpoint, module, trainer, data)
        _say_place(place, scale)
    writes = trainer.is_global_zero and not options.fast_dev_run
    with sole_writer(output) if writes else nullcontext():
        if not options.fast_dev_run:
            keep(output)
        _fit(trainer, module, data, checkpoint)
        return _finish(trainer, module, output)


def _fit(trainer: pl.Trainer, module: S2LDModule, data: PairDataModule, checkpoint: Path | None) -> None:
    """Run the trainer, and say in a line what ends it where that is no defect."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except S2LDError as error:
        raise as_one_line(error) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            raise S2LDError(
                "a loader process was killed, by the system if memory ran out; lower DATA.WORKERS or "
                "DATA.MEGADEPTH.CACHE_MB, then --resume auto"
            ) from error
        line = lost_peer(error, TRAINING) if trainer.world_size > 1 else None
        if line is None:
            raise
        raise Stopped(LOST_PROCESS, line) from error


def _finish(trainer: pl.Trainer, module: S2LDModule, output: Path) -> TrainResult:
    """Write the weights, and end as the signal says that stopped the run, if one did."""
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    weights = None
    if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        weights = output / WEIGHTS
        metadata = {"steps": str(trainer.global_step), "score": f"{metrics.get('val/score', float('nan')):.4f}"}
        save_weights(weights, module.averaged.state_dict(), module.config, metadata)
    trainer.strategy.barrier("weights")
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    stopped = next((callback.stopped for callback in callbacks if isinstance(callback, StopOnSignal)), None)
    # a process that Lightning started must end well: else Lightning kills the one that started it before it has ended
    if stopped is not None and trainer.local_rank == 0:
        line = f"step {trainer.global_step} is saved in {output}; go on with --resume auto"
        raise KeyboardInterrupt(line) if stopped == signal.SIGINT else Stopped(TERMINATED, f"{stopped.name}; {line}")
    return TrainResult(output, trainer.global_step, metrics, weights)


def _epoch_pairs(data: PairDataModule) -> int | None:
    """Return the pairs of an epoch of the training source, None where it has no epochs."""
    if not data.config.TRAIN.EPOCHS:
        return None
    data.setup("fit")
    return data.epoch_pairs


@rank_zero_only
def _say_conventions(config: CN) -> None:
    for line in odd_scenes(config.DATA):
        logger.warning("{}", line)


def _say_place(place: Place, scale: RunScale) -> None:
    line = f"going on after step {place.step}, {place.pairs} pairs"
    if place.pairs != place.step * scale.batch:
        line += (
            f", not all in batches of {scale.batch}: the order goes on after as many pairs, at the rate of this batch"
        )
    logger.info(line)


def initialise(module: S2LDModule, config: CN) -> None:
    """Take starting weights from TRAIN.INIT_WEIGHTS (the whole matcher) or INIT_DETECTOR (backbone and detector).

    Raises:
        S2LDError: the file does not fit the network; both keys are given.
    """
    whole, detector = config.TRAIN.INIT_WEIGHTS, config.TRAIN.INIT_DETECTOR
    if whole and detector:
        raise S2LDError("TRAIN.INIT_WEIGHTS and TRAIN.INIT_DETECTOR exclude each other; empty one of them")
    if whole and config.TRAIN.INIT_STRICT:
        load_strict(module.matcher, read_weights(whole).state, whole)
    elif whole:
        anew = load_fitting(module.matcher, read_weights(whole).state, whole)
        logger.info(f"{whole}: start anew: {', '.join(anew) or 'nothing'}")
    for name in DETECTOR_MODULES if detector else ():
        state = read_weights(detector).state
        part = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        load_strict(module.matcher.get_submodule(name), part, detector)
    module.restart_average()


def build_trainer(config: CN, scale: RunScale, output: Path, options: RunOptions, devices: int) -> pl.Trainer:
    """Return Lightning's trainer for a config, its scale and the hardware, `devices` on each machine."""
    train_config = config.TRAIN
    distributed = devices * options.num_nodes > 1
    quick = options.fast_dev_run
    if not quick:
        make_folder(output)
    quieten()
    length: dict[str, Any] = {"fast_dev_run": True} if quick else {"max_steps": scale.total_steps, "max_epochs": -1}
    strategy: Strategy | str = Processes(TRAINING) if distributed else "auto"
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=devices,
        num_nodes=options.num_nodes,
        strategy=strategy,
        # PyTorch has it for GPUs only; on CPUs each process normalises by its own batch, and the first one's running
        # statistics are what DDP hands to all at each step, what is validated and what is saved
        sync_batchnorm=distributed and uses_cuda(options.accelerator) and not train_config.FREEZE_BATCHNORM,
        precision=run_precision(train_config.PRECISION, options.accelerator)[0],  # type: ignore[arg-type]
        accumulate_grad_batches=train_config.ACCUMULATE,
        gradient_clip_val=train_config.GRAD_CLIP,
        val_check_interval=train_config.VALIDATE_EVERY * train_config.ACCUMULATE,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=train_config.LOG_EVERY,
        enable_model_summary=False,
        enable_checkpointing=not quick,
        logger=False if quick else TensorBoardLogger(output, name="tensorboard", version=""),
        callbacks=_callbacks(train_config, output, options),
        plugins=[WholeFileIO(), *slurm_plugins()],
        default_root_dir=output,
        **length,
    )


def _callbacks(config: CN, output: Path, options: RunOptions) -> list[pl.Callback]:
    """Return the callbacks of a run with a TRAIN node."""
    callbacks: list[pl.Callback] = [
        StopOnSignal(),
        StepProgressBar(),
        SkippedPairs(),
        Throughput(config.LOG_EVERY),
        MatchFigures(config.FIGURES),
    ]
    if options.max_seconds is not None:
        callbacks.append(TimeLimit(options.max_seconds))
    if not options.fast_dev_run:
        callbacks.append(Checkpoints(output, config.CHECKPOINT_EVERY, config.VALIDATE_EVERY))
    return callbacks


def _devices(options: RunOptions) -> int:
    """Return the number of processes on each machine."""
    devices = device_count(options.devices, options.accelerator)
    if options.num_nodes < 1:
        raise S2LDError(f"--num-nodes {options.num_nodes}: give a number of machines from 1")
    check_slurm(devices, options.num_nodes)
    return devices


def checkpoint_of(resume: str | None, output: Path, config: CN) -> Path | None:
    """Return the checkpoint to go on from, if it fits; refuse to write over a run that is there."""
    last = output / LAST
    if resume is None:
        if last.exists():
            raise S2LDError(f"{last}: this folder holds a run already; add --resume auto, or choose another --output")
        return None
    if resume == "auto" and not last.exists():
        return None
    path = last if resume == "auto" else Path(resume)
    try:
        own = read_weights(path).config  # refuses what is no plain checkpoint, before Lightning opens it
    except S2LDError as error:
        best = output / BEST
        raise S2LDError(f"{error}{f'; or go on with --resume {best}' if best.exists() else ''}") from error
    if own is None or path.suffix == ".safetensors":
        raise S2LDError(f"{path}: this is no checkpoint of train.py; start from its weights by TRAIN.INIT_WEIGHTS")
    for name in ("MODEL", "TRAIN.STAGE", "TRAIN.FREEZE"):
        if value_of(own, name) != value_of(config, name):
            raise S2LDError(f"{path}: was trained with another {name}; resume with the configs that it was made with")
    return path
