"""`s2ld benchmark speed [options]`: speed and memory in sections, each number beside its target."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2ld.benchmarks.sections import pair
from s2ld.benchmarks.sections.run import PAIR, SECTIONS, outcome_table, run
from s2ld.cli.benchmarks.matchers import describe_machine, set_threads
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.files import make_folder, whole_file
from s2ld.log import logger

PICTURES = (".png", ".svg", ".pdf")


def build_parser() -> Parser:
    """Return the parser of the command's arguments."""
    lines = [f"{key}: {section.title}, about {section.minutes:g} min" for key, section in SECTIONS.items()]
    parser = Parser(
        "benchmark speed",
        "Time and memory of our networks, in sections, against their targets. Nothing is downloaded: "
        "weights are random where none ship.",
        "--sections pair,large --json speed.json",
        f"Sections: {'; '.join(lines)}.",
        "0 done, whatever holds; 1 a section could not be run, the others are done; 2 bad arguments; 130 Ctrl-C",
    )
    parser.add_argument(
        "--sections",
        default=",".join(SECTIONS),
        metavar="A,B",
        help="what to measure (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="timed runs (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write protocols and numbers, after each section")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="section large: draw time over size")
    pair.add_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> tuple[dict[str, Any], int]:
    """Run the command; return what it says, as in the file of --json, and how many sections could not be run.

    Raises:
        S2LDError: bad arguments, or a file that cannot be written.
    """
    args = build_parser().parse_args(argv)
    for name in ("rounds", "threads"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise S2LDError(f"--{name} must be at least 1, not {getattr(args, name)}")
    wanted = args.sections.split(",")
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        raise S2LDError(f"--sections: there is no section {unknown[0]!r}; use some of {','.join(SECTIONS)}")
    pair.check(args)
    if args.picture is not None:
        if args.picture.suffix not in PICTURES:
            raise S2LDError(f"--picture {args.picture}: the name must end in {', '.join(PICTURES)}")
        make_folder(args.picture.parent)
    threads = set_threads(args.threads)
    machine = _machine(threads)
    print(f"machine: {machine}", flush=True)
    content: dict[str, Any] = {"machine": machine}
    left_out = 0
    for key in (key for key in SECTIONS if key in wanted):
        print(f"\n## {key}: {SECTIONS[key].title}\n", flush=True)
        try:
            content[key] = _measure(key, args, threads)
        except S2LDError as error:  # what is measured already stays
            logger.warning("left out: {}", error)
            content[key] = {"left_out": str(error)}
            left_out += 1
        if args.json is not None:
            _write(args.json, content)
    return content, left_out


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""
    return exit_status("s2ld benchmark speed", lambda: min(1, main(argv)[1]))


def _machine(threads: int) -> str:
    import torch

    from s2ld.benchmarks.timing import describe_cpu

    gpu = f"; {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else ""
    return f"{describe_cpu()}; {describe_machine(torch.device('cpu'), threads)}{gpu}"


def _measure(key: str, args: argparse.Namespace, threads: int) -> dict[str, Any]:
    if key == PAIR:
        lines, rows = pair.run(args, threads)
        return {"protocol": lines, "rows": [row.content() for row in rows]}
    rounds = min(args.rounds, SECTIONS[key].most_rounds or args.rounds)
    report = run(SECTIONS[key], {"threads": threads, "rounds": rounds, "picture": args.picture})
    print("\n".join(f"  {line}" for line in report.protocol), outcome_table(report.outcomes), sep="\n\n", flush=True)
    return report.content()


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
