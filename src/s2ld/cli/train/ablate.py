"""`s2ld ablate DATA_CONFIG MAIN_CONFIG [options] [KEY VALUE ...]`: train variants alike and compare them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from s2ld.cli.items import add_items, split_items
from s2ld.cli.parser import Parser
from s2ld.cli.status import BAD_INPUT, INTERRUPTED, exit_status
from s2ld.cli.train.ablation_tables import Result, write_tables
from s2ld.cli.train.train import seconds
from s2ld.cli.train.variants import VARIANTS, choose, variant_configs
from s2ld.config import CN, build_config, config_to_text
from s2ld.errors import S2LDError, as_one_line
from s2ld.extras import need
from s2ld.files import make_folder, whole_file
from s2ld.log import logger

SETTINGS, LOG, RESULT = "config.yaml", "train.log", "result.json"
"""Names in a variant's folder: what it is trained with, what the training said, what was measured."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "ablate",
        "Train variants of a configuration with one seed, one order of the data and as many steps each, "
        "validate them on the same held-out pairs of all training sources, and write a table.",
        "mixture s2ld_lite --steps 200 --variants baseline,no_corner_loss",
        "Called again, it keeps what is finished and goes on with the rest.",
        former={"--size": "--resize"},
    )
    add_items(parser)
    parser.add_argument("--variants", default="", metavar="A,B", help=f"of {', '.join(VARIANTS)} (default: all)")
    parser.add_argument("--output", type=Path, default=Path("logs/ablations"), help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps a variant (default: %(default)s)")
    parser.add_argument(
        "--resize", type=int, nargs=2, default=(192, 144), metavar=("W", "H"), help="images, px (default: 192 144)"
    )
    parser.add_argument("--max-time", help="of a variant, for this call: minutes, or DD:HH:MM:SS")
    parser.add_argument("--devices", default="1", help="processes of a training, or auto (default: 1)")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="default: auto")
    return parser


@dataclass(frozen=True)
class Job:
    """One variant to train."""

    name: str
    config: CN
    folder: Path

    @property
    def steps(self) -> int:
        """Optimiser steps that its weights have seen; 0 without weights."""
        from s2ld.models.checkpoint import read_weights
        from s2ld.training.loop.run import WEIGHTS

        weights = self.folder / WEIGHTS
        return int(read_weights(weights).metadata["steps"]) if weights.exists() else 0

    @property
    def result(self) -> Result | None:
        """What was measured of the weights that are there now; None if nothing."""
        path = self.folder / RESULT
        if not path.exists():
            return None
        try:
            result = Result(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise S2LDError(f"{path}: cannot read this result; delete it, and it is measured anew") from error
        return result if result.steps == self.steps else None


def main(argv: Sequence[str] | None) -> dict[str, Result]:
    """Run the command and return the results that the output folder has then.

    Raises:
        S2LDError: bad arguments, configs or files, a folder with variants of other settings, a training that fails.
        KeyboardInterrupt: Ctrl-C, after the training that ran has saved its step.
    """
    arguments = build_parser().parse_intermixed_args(argv)
    if arguments.max_time:
        seconds(arguments.max_time)
    need("train")
    names = choose([name for name in arguments.variants.split(",") if name])
    base = base_config(arguments)
    output: Path = arguments.output
    there = [name for name in VARIANTS if (output / name / SETTINGS).exists()]  # of earlier calls: for the table
    jobs = [
        Job(name, config, output / name) for name, config in variant_configs(choose([*names, *there]), base).items()
    ]
    for job in jobs:
        _claim(job, arguments.devices)
    for number, job in enumerate(chosen := [job for job in jobs if job.name in names], 1):
        logger.info("[{}/{}] {}", number, len(chosen), job.name)
        run(job, arguments)
        write_tables(output, _results(jobs), _caption(base, arguments.devices))
    return _results(jobs)


def base_config(arguments: argparse.Namespace) -> CN:
    """Return what all variants share: the configs, small images, a short schedule, held-out pairs of every source.

    Raises:
        S2LDError: what `build_config` says, a warm-up that is longer than the training, a source without its files.
    """
    from s2ld.data.datamodule import PairDataModule
    from s2ld.processes.ddp import device_count
    from s2ld.training.loop.optim import run_scale, schedule_factor

    files, overrides = split_items(arguments.items)
    given = build_config(files, overrides)
    steps = arguments.steps
    # measured at the end, by this command: a training that stops before its time is measured too
    own = ["TRAIN.MAX_STEPS", str(steps), "TRAIN.EPOCHS", "0", "TRAIN.VALIDATE_EVERY", str(steps + 1)]
    own += ["DATA.IMAGE_SIZE", str(list(arguments.resize)), "DATA.VAL_SOURCES", str(list(given.DATA.TRAIN_SOURCES))]
    config = build_config(overrides=own, base=given)
    schedule_factor(config.TRAIN, run_scale(config, device_count(arguments.devices, arguments.accelerator)))
    PairDataModule(config).setup("validate")  # what is missing is said now and not after the first training
    return config


def run(job: Job, arguments: argparse.Namespace) -> Result:
    """Train and measure a variant, as far as that is not done yet.

    Raises:
        S2LDError: the training or the validation fails.
        KeyboardInterrupt: Ctrl-C.
    """
    if job.steps < job.config.TRAIN.MAX_STEPS:
        _train(job, arguments)
    result = job.result
    if result is None:
        result = Result(job.steps, job.config.TRAIN.MAX_STEPS, validate(job, arguments.accelerator))
        with whole_file(job.folder / RESULT) as part:
            part.write_text(json.dumps(asdict(result), indent=1))
    print(f"{job.name}: {result.summary}", flush=True)
    return result


def validate(job: Job, accelerator: str) -> dict[str, float]:
    """Return the metrics of a variant's averaged weights, ``val_SOURCE/METRIC`` and ``val/score``, in float32.

    Raises:
        S2LDError: the weights or the validation pairs cannot be read.
    """
    import pytorch_lightning as pl

    from s2ld.data.datamodule import PairDataModule
    from s2ld.models.checkpoint import load_strict, read_weights
    from s2ld.training.loop.callbacks import StepProgressBar
    from s2ld.training.loop.module import S2LDModule
    from s2ld.training.loop.quiet import quiet_lightning
    from s2ld.training.loop.run import WEIGHTS

    module = S2LDModule(job.config)
    weights = job.folder / WEIGHTS
    load_strict(module.matcher, read_weights(weights).state, weights)
    module.restart_average()
    whole = build_config(overrides=["DATA.ON_BAD_PAIR", "stop"], base=job.config)  # numbers that compare: of all pairs
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[StepProgressBar(job.config.TRAIN.LOG_EVERY)],
        )
        try:
            trainer.validate(module, datamodule=PairDataModule(whole), verbose=False)
        except S2LDError as error:
            raise as_one_line(error) from error
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld ablate", body)


def _results(jobs: Sequence[Job]) -> dict[str, Result]:
    return {job.name: result for job in jobs if (result := job.result) is not None}


def _claim(job: Job, devices: str) -> None:
    """Write what a variant is trained with to its folder, or check that the folder was made with the same.

    The number of processes is part of it, since it scales the true batch.
    """
    make_folder(job.folder)
    text = f"# trained with --devices {devices}\n{config_to_text(job.config)}"
    path = job.folder / SETTINGS
    if not path.exists():
        with whole_file(path) as part:
            part.write_text(text)
    elif path.read_text() != text:
        raise S2LDError(f"{path}: this variant was begun with other settings; choose another --output or delete it")


def _train(job: Job, arguments: argparse.Namespace) -> None:
    """Run `s2ld train` in a process of its own, or in several; its bar is shown, what else it says is logged."""
    log = job.folder / LOG
    options = ["--output", str(job.folder), "--resume", "auto", "--accelerator", arguments.accelerator]
    options += ["--devices", arguments.devices, *(["--max-time", arguments.max_time] if arguments.max_time else [])]
    command = [sys.executable, "-m", "s2ld", "train", str(job.folder / SETTINGS), *options]
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # which has reached it too: it saves its step
            process.wait()
            status = INTERRUPTED
    print(flush=True)  # below the bar
    if status == INTERRUPTED:
        raise KeyboardInterrupt(f"the same command goes on with {job.name}")
    if status:
        said = [line.partition("s2ld train: ")[2] for line in log.read_text().splitlines() if "s2ld train: " in line]
        why = said[-1] if status == BAD_INPUT and said else f"s2ld train ended with status {status}; see {log}"
        raise S2LDError(f"{job.name}: {why}")


def _caption(config: CN, devices: str) -> Mapping[str, str]:
    """Return what all variants have in common, for the head of the table."""
    data, train = config.DATA, config.TRAIN
    return {
        "image size": "x".join(map(str, data.IMAGE_SIZE)),
        "pairs a step": f"{data.BATCH_SIZE * train.ACCUMULATE} x {devices} process(es)",
        "seeds": f"{train.SEED} (training), {data.SEED} (data)",
        "starting weights": train.INIT_WEIGHTS or train.INIT_DETECTOR or "none",
        "held-out pairs of each source": f"at most {data.VAL_PAIRS}",
    }
