"""`s2ld convert-index IN OUT`: index files of either form into the plain one, which executes nothing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.files import whole_file


@dataclass(frozen=True)
class Conversion:
    """What was done."""

    written: list[Path]
    pairs: int
    lists: list[Path]
    """Copied lists of scenes."""
    refused: list[str]
    """One line for each index file that could not be converted."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "convert-index",
        "Convert a folder of MegaDepth index files to plain arrays, lists copied along.",
        "data/megadepth/index data/megadepth/plain",
        status="0 done; 1 a file could not be converted, the others are; 2 bad input; 130 Ctrl-C",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="folder of *.npz, searched deeper; it is not changed")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to, in the same order of folders")
    return parser


def main(argv: Sequence[str] | None = None) -> Conversion:
    """Run the command; a file that cannot be read does not stop the others.

    Raises:
        S2LDError: no index file in IN, OUT lies within it, or OUT cannot be written.
    """
    arguments = build_parser().parse_args(argv)
    from s2ld.data.index.files import read_index, write_index
    from s2ld.log import Progress

    source, output = arguments.source.resolve(), arguments.output.resolve()
    if output.is_relative_to(source):
        raise S2LDError(f"{arguments.output}: lies within {arguments.source}, which stays as it is; choose another OUT")
    files = sorted(source.rglob("*.npz"))
    if not files:
        raise S2LDError(f"{arguments.source}: no index file (*.npz) here or deeper; check the path")
    written, refused, pairs = [], [], 0
    for path in Progress(files, desc="convert", unit="file"):
        try:
            index = read_index(path)
        except S2LDError as error:
            refused.append(str(error))
            continue
        write_index(index, output / path.relative_to(source))
        written.append(output / path.relative_to(source))
        pairs += len(index)
    lists = [output / path.relative_to(source) for path in sorted(source.rglob("*.txt"))]
    for path in lists:
        with whole_file(path) as part:
            shutil.copyfile(source / path.relative_to(output), part)
    return Conversion(written, pairs, lists, refused)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 1 where a file was refused, else as `s2ld.cli.status` says."""

    def body() -> int:
        done = main(argv)
        print(
            f"converted {len(done.written)} index files of {done.pairs:,} pairs, copied {len(done.lists)} lists, "
            f"refused {len(done.refused)}"
        )
        for line in done.refused:
            print(f"s2ld convert-index: {line}", file=sys.stderr)
        return 1 if done.refused else 0

    return exit_status("s2ld convert-index", body)
