"""`s2ld export weights CKPT OUT`: a training's averaged weights in float16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError

MIB = 2**20


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "export weights",
        "Write the averaged weights of a checkpoint, as float16, with their config: a file to ship.",
        "logs/lite/best.ckpt lite.safetensors",
    )
    parser.add_argument("source", metavar="CKPT", type=Path, help="best.ckpt or last.ckpt of a run")
    parser.add_argument("output", metavar="OUT", type=Path, help="file to write, ends in .safetensors")
    return parser


def main(argv: Sequence[str] | None = None) -> Path:
    """Run the command and return the file that it wrote.

    Raises:
        S2LDError: CKPT is no checkpoint of a training, a weight does not fit float16, or OUT has another ending.
    """
    args = build_parser().parse_args(argv)
    if args.output.suffix != ".safetensors":
        raise S2LDError(f"{args.output}: must end in .safetensors")
    from s2ld.models.checkpoint import save_weights
    from s2ld.training.averaged import run_weights

    weights = run_weights(args.source)
    save_weights(args.output, weights.state, weights.config, weights.metadata, half=True)
    return Path(args.output)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        path = main(argv)
        print(f"{path}: {path.stat().st_size / MIB:.1f} MiB")
        return 0

    return exit_status("s2ld export weights", body)
