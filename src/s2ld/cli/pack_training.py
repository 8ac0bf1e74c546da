"""`scripts/pack_training.py CONFIG.yaml ... | --unpack LIST`: training data to another machine, in archives."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.parts import MIB


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        "pack_training.py",
        description="Write what a data config trains and validates on into archives, or unpack them beside a checkout.",
        epilog="Exit status of --unpack: 0 all archives are there; 1 some still have to come; 2 bad input.",
    )
    parser.add_argument("items", nargs="*", metavar="CONFIG.yaml ... [KEY VALUE ...]", help="configs, merged in order")
    parser.add_argument("--output", type=Path, default=Path(".packs"), help="folder to write to (default: %(default)s)")
    parser.add_argument("--size", type=float, default=56.0, help="MiB an archive at most (default: %(default)g)")
    parser.add_argument(
        "--long_side", type=int, default=640, help="px of photographs at most; 0: as they are (default: %(default)s)"
    )
    parser.add_argument("--quality", type=int, default=85, help="of recoded JPEG files (default: %(default)s)")
    parser.add_argument("--unpack", type=Path, metavar="LIST", help="training.parts.json, beside the archives")
    parser.add_argument("--root", type=Path, default=Path(".."), help="folder to unpack in (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> Path | list[str]:
    """Run the command; return the list of the archives that were written, or the names of those still to come.

    Raises:
        S2LDError: bad arguments, configs or files.
    """
    args = build_parser().parse_intermixed_args(argv)
    if (args.unpack is None) == (not args.items):
        raise S2LDError("give a data config to pack, or --unpack LIST")
    if args.size <= 0 or args.long_side < 0 or not 1 <= args.quality <= 100:
        raise S2LDError("--size must be positive, --long_side 0 or more, --quality 1 to 100")
    from s2ld.cli.train import split_items
    from s2ld.config import build_config
    from s2ld.data.packs import Recoding, pack, stage, unpack
    from s2ld.data.sources import validation_set
    from s2ld.files import make_folder

    if args.unpack is not None:
        return unpack(args.unpack, args.root)
    config = build_config(*split_items(args.items))
    make_folder(args.output)
    with tempfile.TemporaryDirectory(dir=args.output) as folder:
        sets = [validation_set(file, config).DATA for file in config.DATA.VAL_SETS]
        stage(config.DATA, Path(folder), Recoding(args.long_side, args.quality), sets)
        return pack(Path(folder), args.output, int(args.size * MIB))


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 1 where archives still have to come, else `s2ld.cli.status`."""

    def body() -> int:
        done = main(argv)
        if isinstance(done, Path):
            for path in sorted(done.parent.glob("*.tar")):
                print(f"{path}: {path.stat().st_size / MIB:.1f} MiB")
            print(f"{done}: the list of them")
            return 0
        print(f"still to come: {', '.join(done)}" if done else "all archives are unpacked", file=sys.stderr)
        return 1 if done else 0

    return exit_status("pack_training.py", body)
