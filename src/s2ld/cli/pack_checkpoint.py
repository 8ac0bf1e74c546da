"""`scripts/pack_checkpoint.py weights|state|split|join ...`: carry a run's results through a narrow way."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.files import whole_file
from s2ld.parts import MIB, join_file, split_file

PART_SIZE = 15.75  # MiB: a little below 16


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        "pack_checkpoint.py",
        description="Reduce a training's files to 16 bits, split them, put them together again.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="weights | state | split | join")
    weights = verbs.add_parser("weights", help="averaged weights of a checkpoint as float16 .safetensors, to ship")
    weights.add_argument("source", metavar="CKPT", type=Path, help="best.ckpt or last.ckpt of a run")
    weights.add_argument("output", metavar="OUT", type=Path, help="file to write, ends in .safetensors")
    state = verbs.add_parser("state", help="a checkpoint in 16 bits, for train.py --resume")
    state.add_argument("source", metavar="CKPT", type=Path, help="last.ckpt of a run")
    state.add_argument("output", metavar="OUT", type=Path, help="file to write, ends in .ckpt")
    state.add_argument("--without_moments", action="store_true", help="drop AdamW's moments too: half as large again")
    split = verbs.add_parser("split", help="a file into parts, with a list of their hashes")
    split.add_argument("source", metavar="FILE", type=Path)
    split.add_argument("output", metavar="FOLDER", type=Path)
    split.add_argument("--size", type=float, default=PART_SIZE, help="MiB a part at most (default: %(default)g)")
    join = verbs.add_parser("join", help="the parts into the file, checked")
    join.add_argument("source", metavar="LIST", type=Path, help="FILE.parts.json, beside the parts")
    join.add_argument("output", metavar="OUT", type=Path, nargs="?", help="file to write (default: beside the list)")
    return parser


def main(argv: Sequence[str] | None = None) -> Path:
    """Run the command and return the file that it wrote.

    Raises:
        S2LDError: bad arguments or files.
    """
    args = build_parser().parse_args(argv)
    if args.verb == "split":
        return split_file(args.source, args.output, int(args.size * MIB))
    if args.verb == "join":
        return join_file(args.source, args.output)
    suffix = ".safetensors" if args.verb == "weights" else ".ckpt"
    if args.output.suffix != suffix:
        raise S2LDError(f"{args.output}: must end in {suffix}")
    if args.verb == "weights":
        _write_weights(args.source, args.output)
    else:
        _write_state(args.source, args.output, not args.without_moments)
    return Path(args.output)


def _write_weights(source: Path, output: Path) -> None:
    from s2ld.models.checkpoint import save_weights
    from s2ld.training.slim import run_weights

    weights = run_weights(source)
    save_weights(output, weights.state, weights.config, weights.metadata, half=True)


def _write_state(source: Path, output: Path, moments: bool) -> None:
    import torch

    from s2ld.training.slim import slim_state

    content = slim_state(source, moments)
    with whole_file(output) as part:
        torch.save(content, part)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        path = main(argv)
        size = path.stat().st_size / MIB
        print(f"{path}: {f'{size:.1f} MiB' if size > 1 else 'the list of the parts beside it'}")
        return 0

    return exit_status("pack_checkpoint.py", body)
