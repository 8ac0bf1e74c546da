"""`s2ld train DATA_CONFIG MAIN_CONFIG [options] [KEY VALUE ...]`, also `train.py`: train a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.items import add_items, split_items
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.processes.peers import TRAINING, follow_first

if TYPE_CHECKING:  # it loads torch and Lightning, which --help need not wait for
    from s2ld.training.loop.run import TrainResult


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "train",
        "Train S2LD.",
        "synthetic s2ld_lite --output logs/lite --max-time 30 TRAIN.MAX_STEPS 2000",
        status="0 done; 2 bad input; 3 another process of the run has ended; 130 Ctrl-C, 143 SIGTERM or SIGUSR1: the "
        "step that ran is saved",
    )
    add_items(parser)
    parser.add_argument("--output", type=Path, help="folder to write to (default: logs/ and the main config's name)")
    parser.add_argument("--resume", help="a checkpoint to go on from, or auto: last.ckpt of the output folder if there")
    parser.add_argument("--max-time", help="stop after this time: minutes, or DD:HH:MM:SS")
    parser.add_argument("--devices", default="1", help="processes on this machine, or auto (default: 1)")
    parser.add_argument("--num-nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="default: auto")
    parser.add_argument("--fast-dev-run", action="store_true", help="one training and one validation batch, no files")
    return parser


def main(argv: Sequence[str] | None = None) -> TrainResult:
    """Run the command.

    Raises:
        S2LDError: bad arguments, configs or files; a loss that is not finite for many steps; another process that
            writes to the output folder.
        KeyboardInterrupt: Ctrl-C, after the step that ran has been saved.
        Stopped: status 143 after SIGTERM or SIGUSR1, when the step that ran has been saved; 3 when another process of
            the run has ended.
    """
    follow_first(TRAINING)  # training takes seconds to import
    arguments = build_parser().parse_intermixed_args(argv)
    files, overrides = split_items(arguments.items)
    config = build_config(files, overrides)
    output: Path = arguments.output or Path("logs") / files[-1].stem
    max_seconds = seconds(arguments.max_time) if arguments.max_time else None
    need("train")
    from s2ld.training.loop.run import RunOptions, checkpoint_of, train

    checkpoint = checkpoint_of(arguments.resume, output, config)
    options = RunOptions(
        arguments.accelerator, arguments.devices, arguments.num_nodes, max_seconds, arguments.fast_dev_run
    )
    return train(config, output, checkpoint, options)


def seconds(text: str) -> float:
    """Return the seconds of ``DD:HH:MM:SS`` (leading parts may be left out) or of a number of minutes.

    Raises:
        S2LDError: neither.
    """
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 4 or not all(0 <= part < math.inf for part in parts):
        raise S2LDError(f"--max-time {text}: give minutes, or DD:HH:MM:SS")
    if len(parts) == 1:
        return 60 * parts[0]
    return sum(part * unit for part, unit in zip(reversed(parts), (1, 60, 3600, 86400), strict=False))


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld train", body)
