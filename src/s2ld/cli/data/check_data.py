"""`s2ld check-data DATA_CONFIG [MAIN_CONFIG] [KEY VALUE ...]`: can all be read that a run would read?"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from s2ld.cli.items import add_items, split_items
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.files import whole_file

if TYPE_CHECKING:  # it loads torch, which --help need not wait for
    from s2ld.cli.data.check import SourceReport

Split = Literal["train", "val", "test"]


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "check-data",
        "Check every file that a run with these configs would read, and say what helps.",
        "megadepth_trainval_640 --split train",
        status="0 all is there; 1 something cannot be read; 2 bad input; 130 Ctrl-C",
        former={"--workers": "--jobs"},
    )
    add_items(parser)
    parser.add_argument("--split", choices=get_args(Split), help="this one only (default: all)")
    parser.add_argument("--fast", action="store_true", help="existence and headers only, nothing is decoded")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--write-clean-index", metavar="DIR", type=Path, help="write indices of what can be read to DIR"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report, all files named, to FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> list[SourceReport]:
    """Run the command and return a report of each source.

    Raises:
        S2LDError: bad arguments or configs, or an output that cannot be written.
    """
    arguments = build_parser().parse_intermixed_args(argv)
    if arguments.jobs < 0:
        raise S2LDError(f"--jobs must be at least 0, not {arguments.jobs}")
    files, overrides = split_items(arguments.items)
    config = build_config(files, overrides)
    need("train", "h5py", "pytorch_lightning")
    from s2ld.cli.data.check import check_sources
    from s2ld.data.sources.by_name import validation_set

    reports = check_sources(config, arguments, arguments.split)
    for file in config.DATA.VAL_SETS if arguments.split in (None, "val") else []:
        print(f"\n{file}")
        unclean = argparse.Namespace(**{**vars(arguments), "write_clean_index": None})  # it is for runs of its own
        reports += check_sources(validation_set(file, config), unclean, "test")
    if arguments.json is not None:
        with whole_file(arguments.json) as part:
            part.write_text(json.dumps([asdict(report) for report in reports], indent=1))
    return reports


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 1 where something is lost, else as `s2ld.cli.status` says."""

    def body() -> int:
        reports = main(argv)
        lost = [report.title for report in reports if not report.is_clean]
        print(f"\nnot all can be used: {'; '.join(lost)}" if lost else "\nall that a run reads is there")
        if any(report.errors or any(s.pairs_lost or s.error for s in report.scenes) for report in reports):
            print("a run skips what it cannot read; --write-clean-index DIR drops it beforehand")
        return 1 if lost else 0

    return exit_status("s2ld check-data", body)
