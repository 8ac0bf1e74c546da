"""`s2ld benchmark folder OUT`: memory, time and disk of a matched folder's bookkeeping as folders grow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.benchmarks.folder_growth import Growth

PHOTOS = (100, 300, 1000, 2000)
TABLE, PICTURE = "table.md", "growth.png"
HEAD = "| photographs | pairs | matches | memory, MB | disk, MB | CPU s | of it |\n|---|---|---|---|---|---|---|\n"


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark folder",
        "What the bookkeeping of match-folder takes as folders grow, with synthetic matches and without a network: "
        "the journal read, tables of keypoints, hloc's files, COLMAP's database with verified pairs. A table, and "
        "OUT/growth.png.",
        "out/growth --photos 100 300 1000",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to, with room for the largest folder")
    parser.add_argument(
        "--photos", type=int, nargs="+", default=PHOTOS, metavar="N",
        help="sizes of folders (default: 100 300 1000 2000)",
    )  # fmt: skip
    parser.add_argument("--detections", type=int, default=1200, help="of an image in matches (default: %(default)s)")
    parser.add_argument("--partners", type=int, default=20, help="of an image (default: %(default)s)")
    parser.add_argument("--no-database", action="store_true", help="leave COLMAP's database and its verification out")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Growth]:
    """Run the command.

    Raises:
        S2LDError: bad arguments, or a file cannot be written.
    """
    args = build_parser().parse_args(argv)
    for name, least in (("detections", 100), ("partners", 2)):
        if getattr(args, name) < least:
            raise S2LDError(f"--{name} must be at least {least}, not {getattr(args, name)}")
    if min(args.photos) < 2:
        raise S2LDError(f"--photos must be at least 2, not {min(args.photos)}")
    need("sfm")
    from s2ld.benchmarks.folder_growth import Shape, growth_of
    from s2ld.files import make_folder, whole_file
    from s2ld.locks import sole_writer

    shape = Shape(args.detections, args.partners, not args.no_database)
    rows: list[Growth] = []
    make_folder(args.output)
    with sole_writer(args.output):
        print(HEAD, end="", flush=True)
        for count in sorted(set(args.photos)):
            rows.append(growth_of(count, shape, args.output))
            print(_line(rows[-1]), end="", flush=True)
        with whole_file(args.output / TABLE) as part:
            part.write_text(HEAD + "".join(map(_line, rows)))
        _draw(rows, args.output / PICTURE)
    return rows


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        args: argparse.Namespace = build_parser().parse_args(argv)
        main(argv)
        print(f"see {args.output / PICTURE}")
        return 0

    return exit_status("s2ld benchmark folder", body)


def _line(row: Growth) -> str:
    parts = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in row.seconds.items())
    peak = "-" if row.peak is None else f"{row.peak:.0f}"
    total = sum(row.seconds.values())
    return f"| {row.photos:,} | {row.pairs:,} | {row.matches:,} | {peak} | {row.disk:,.0f} | {total:.0f} | {parts} |\n"


def _draw(rows: Sequence[Growth], path: Path) -> None:
    from s2ld.files import whole_file
    from s2ld.viz.curves import draw_growth

    x = [float(row.photos) for row in rows]
    curves = {
        "memory, MB": (x, [row.peak or 1.0 for row in rows]),
        "disk, MB": (x, [row.disk for row in rows]),
        "CPU time, s": (x, [sum(row.seconds.values()) for row in rows]),
    }
    figure = draw_growth(curves, {value: f"{value:,.0f}" for value in x}, "photographs", "MB, s")
    with whole_file(path) as part:
        figure.savefig(part, format="png")
