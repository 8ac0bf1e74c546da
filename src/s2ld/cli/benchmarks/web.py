"""`s2ld benchmark web`: many clients ask `s2ld web` to match the built-in pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need

if TYPE_CHECKING:  # it loads numpy, which --help need not wait for
    from s2ld.benchmarks.web_load import Load


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark web",
        "Clients ask `s2ld web`, in a process of its own on this machine, to match the built-in stereo pair: how many "
        "answers are lost, how many come a second, and what memory does.",
        "--requests 200 --clients 8",
        status="0 done, whatever is lost; 2 bad arguments; 130 Ctrl-C",
    )
    parser.add_argument("--requests", type=int, default=200, metavar="N", help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=8, metavar="N", help="at once (default: %(default)s)")
    parser.add_argument(
        "--resize", type=int, default=640, metavar="PX",
        help="longer side at which the pair is matched (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="fp32", help="as s2ld web's (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> Load:
    """Run the command, print what was measured and return it.

    Raises:
        S2LDError: bad arguments, or a package is missing.
    """
    args = build_parser().parse_args(argv)
    for name in ("requests", "clients"):
        if getattr(args, name) < 1:
            raise S2LDError(f"--{name} must be at least 1, not {getattr(args, name)}")
    need("web")
    need("demo", "skimage")
    from s2ld.benchmarks.timing import describe_cpu
    from s2ld.benchmarks.web_load import measure
    from s2ld.data.images.motorcycle import motorcycle_files

    options = ["--device", args.device, "--precision", args.precision]
    print(
        f"machine: {describe_cpu()}; {args.clients} clients on it; pair of 741x500 px at {args.resize} px, "
        f"{args.device}, {args.precision}",
        flush=True,
    )
    load = measure(motorcycle_files(), args.requests, args.clients, options, args.resize)
    print(*load.lines(), sep="\n")
    return load


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark web", body)
