"""`s2ld benchmark track`: frames a second of `s2ld track`, and its corner error, on a rendered video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need

if TYPE_CHECKING:  # it loads torch, which --help need not wait for
    from s2ld.benchmarks.outcome import Outcome


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark track",
        "Frames a second of `s2ld track` with Lite on the CPU, and its corners' distance from the truth, on a rendered "
        "video of 480x360 px.",
        "--frames 60 --jobs 2",
        status="0 done, whatever holds; 2 bad arguments; 130 Ctrl-C",
    )
    parser.add_argument("--frames", type=int, default=90, metavar="N", help="timed frames (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="matched at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--resize", type=int, default=480, metavar="PX",
        help="longer side at which images are matched (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="auto",
        help="as s2ld track's (default: %(default)s)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[Outcome]:
    """Run the command, print its table and return what was measured.

    Raises:
        S2LDError: bad arguments, or scikit-image, which ships the pictures, is not installed.
    """
    args = build_parser().parse_args(argv)
    for name in ("frames", "jobs", "threads"):
        if getattr(args, name) < 1:
            raise S2LDError(f"--{name} must be at least 1, not {getattr(args, name)}")
    need("demo", "skimage")
    import torch

    from s2ld.benchmarks.sections.run import outcome_table
    from s2ld.benchmarks.timing import describe_cpu
    from s2ld.benchmarks.tracking import measure
    from s2ld.cli.benchmarks.matchers import describe_machine, set_threads

    machine = describe_machine(torch.device("cpu"), set_threads(args.threads))
    print(f"machine: {describe_cpu()}; {machine}; {args.jobs} frame(s) at a time\n", flush=True)
    outcomes = measure(args.frames, args.jobs, args.threads, args.resize, args.precision)
    print(outcome_table(outcomes))
    return outcomes


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark track", body)
