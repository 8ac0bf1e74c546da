"""`s2ld web`: a page in the browser that matches two photographs, and the same by HTTP."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import is_there, need
from s2ld.pretrained import HUB, available

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.web.limits import Limits
    from s2ld.web.service import Service


def build_parser() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(
        "web",
        "A page in the browser that matches two photographs, and the same by HTTP: POST /match, described at "
        "/docs.html and /openapi.json. Nothing that is sent is kept.",
        "--port 8000",
        status="0 SIGTERM; 2 bad input; 130 Ctrl-C",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: all that reach this machine (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free (default: %(default)s)")
    parser.add_argument(
        "--weight", action="append", metavar="W",
        help=f"{' | '.join(available())}, a file, or hf://user/name@REVISION; may be given again, and the page chooses "
        "(default: all that ship)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="fp32",
        help="bf16: faster where the processor has bfloat16; auto: bf16 there, else fp32 (default: %(default)s)",
    )  # fmt: skip
    bounds = parser.add_argument_group("what a request may ask for")
    bounds.add_argument(
        "--max-megabytes", type=float, default=20, metavar="MB", help="of a file (default: %(default)s)"
    )
    bounds.add_argument("--max-megapixels", type=float, default=50, metavar="MP", help="default: %(default)s")
    bounds.add_argument("--max-side", type=int, default=2048, metavar="PX", help="resolution (default: %(default)s)")
    bounds.add_argument("--max-requests", type=int, default=16, metavar="N", help="at once (default: %(default)s)")
    return parser


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""
    args = build_parser().parse_args(argv)
    return exit_status("s2ld web", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    need("web")
    from s2ld.web.app import build_app
    from s2ld.web.limits import Limits
    from s2ld.web.serve import listen, serve

    limits = Limits(args.max_megabytes, args.max_megapixels, args.max_side, args.max_requests)
    with listen(args.host, args.port) as listener:  # a port that is taken is told before weights are loaded
        service = _load(args, limits)
        serve(build_app(service, limits, _examples()), listener, lambda url: print(url, flush=True))
    return 0


def _load(args: argparse.Namespace, limits: Limits) -> Service:
    from s2ld.matcher import Matcher
    from s2ld.web.service import Service

    sources = args.weight or available()
    names = [source if source.startswith(HUB) else Path(source).stem for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise S2LDError(f"two weights are called {twice}; rename a file, or leave one out")
    matchers = {
        name: Matcher.from_pretrained(source, device=args.device, precision=args.precision)
        for name, source in zip(names, sources, strict=True)
    }
    return Service(matchers, limits)


def _examples() -> tuple[Path, Path] | None:
    """Return the files of the built-in stereo pair; None where scikit-image, which ships it, is missing."""
    from s2ld.data.images.motorcycle import motorcycle_files

    return motorcycle_files() if is_there("skimage") else None
