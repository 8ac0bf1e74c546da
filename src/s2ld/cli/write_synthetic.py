"""`scripts/write_synthetic.py CONFIG OUT [KEY VALUE ...]`: synthetic scenes as files in MegaDepth's form."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from s2ld.config import build_config
from s2ld.data.synthetic.export import write_megadepth
from s2ld.errors import S2LDError


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        "write_synthetic.py", description="Write synthetic scenes as photos, depth maps and index files."
    )
    parser.add_argument("config", help="YAML config; its DATA node says what scenes look like")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys to change")
    parser.add_argument("--scenes", type=int, default=10, help="number of scenes (default: 10)")
    parser.add_argument("--views", type=int, default=8, help="photos a scene (default: 8)")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Run the command and return the index files that it wrote.

    Raises:
        S2LDError: bad arguments or config, or a folder that cannot be written.
    """
    args = build_parser().parse_intermixed_args(argv)
    data = build_config([args.config], args.overrides).DATA
    return write_megadepth(args.output, data, data.SEED, args.scenes, args.views)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: bad input ends in one line on standard error and status 2."""
    try:
        written = main(argv)
    except S2LDError as error:
        print(f"write_synthetic.py: {error}", file=sys.stderr)
        return 2
    print(f"wrote {len(written)} scenes; set DATA.MEGADEPTH.INDEX to {written[0].parent} and ROOT to the folder above")
    return 0
