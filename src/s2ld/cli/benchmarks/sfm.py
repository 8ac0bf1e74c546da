"""`s2ld benchmark sfm OUT PHOTOS...`: SIFT, our matches, and these without keypoint identity, one mapper."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2ld.cli.arguments import parse_arguments
from s2ld.cli.match.folder import add_matching_options, folder_settings
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.extras import need

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.sfm.mapping.reconstruction import ModelFigures
    from s2ld.sfm.matching.identity import IdentitySettings

METHODS = ("sift", "s2ld", "grid", "none")
TABLE = "table.md"
HEAD = (
    "| folder | method | registered | models | points | mean track | error, px | match, CPU s | map, CPU s |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Row:
    """One method on one folder; figures are those of the largest model."""

    folder: str
    method: str
    photos: int
    pairs: int
    models: Sequence[ModelFigures]
    """The largest first; none where the mapper finds no two images to begin with."""
    match_seconds: float | None
    """CPU time; None where matches of an earlier run were used."""
    map_seconds: float
    """CPU time."""

    def line(self) -> str:
        """Return the row of the table."""
        matched = "-" if self.match_seconds is None else f"{self.match_seconds:.0f}"
        times = f"{matched} | {self.map_seconds:.0f}"
        if not self.models:
            return f"| {self.folder} | {self.method} | 0 of {self.photos} | 0 | | | | {times} |\n"
        best = self.models[0]
        return (
            f"| {self.folder} | {self.method} | {best.registered} of {self.photos} | {len(self.models)} | "
            f"{best.points:,} | {best.track_length:.2f} | {best.error:.3f} | {times} |\n"
        )


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark sfm",
        "Reconstruct folders by pycolmap's SIFT (sift), by our matches (s2ld), and by the same matches "
        "without keypoint identity: rounded to a grid (grid), and each with keypoints of its own (none). Same images, "
        "pairs, cameras, verification and mapper. Writes OUT/table.md.",
        "out/sfm my_photos --methods sift s2ld",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to; finished rows are kept")
    parser.add_argument("photos", metavar="PHOTOS", type=Path, nargs="+", help="folders of photographs")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    parser.add_argument(
        "--grid", type=float, default=1.0, metavar="PX", help="side of the grid, px of the resized images (default: 1)"
    )
    parser.add_argument("--threads", type=int, default=-1, help="of SIFT and of the mapper (default: one a core)")
    add_matching_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the command.

    Raises:
        S2LDError: as `s2ld.sfm.matching.match_folder.match_folder`.
    """
    args = parse_arguments(build_parser(), argv)
    need("sfm")
    from s2ld.files import make_folder, whole_file
    from s2ld.locks import sole_writer

    rows: list[Row] = []
    make_folder(args.output)
    with sole_writer(args.output):
        for photos, method in product(args.photos, args.methods):
            rows.append(_run(args, photos, method))
            print(rows[-1].line(), end="", flush=True)
            with whole_file(args.output / TABLE) as part:
                part.write_text(HEAD + "".join(row.line() for row in rows))
    return rows


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see `s2ld.cli.status`."""

    def body() -> int:
        args = parse_arguments(build_parser(), argv)
        main(argv)
        print(f"see {args.output / TABLE}")
        return 0

    return exit_status("s2ld benchmark sfm", body)


def _run(args: argparse.Namespace, photos: Path, method: str) -> Row:
    """Do one row, or read it where it is done."""
    from s2ld.files import whole_file
    from s2ld.sfm.mapping.reconstruction import figures, reconstruct
    from s2ld.sfm.matching.match_folder import DATABASE, match_folder, match_folder_by_sift
    from s2ld.sfm.matching.storage.matches import JOURNAL

    name = photos.resolve().parent.name if photos.resolve().name == "images" else photos.resolve().name
    output = args.output / name / method
    done = output / "row.json"
    settings = folder_settings(args, _identity(args, method))
    title = json.loads(json.dumps({"settings": asdict(settings), "photos": str(photos.resolve()), "method": method}))
    if done.is_file() and (kept := json.loads(done.read_text()))["title"] == title:
        return _read_row(kept["row"])
    journal = args.output / name / JOURNAL
    start, fresh = _cpu_seconds(), method == "sift" or not journal.exists()
    if method == "sift":
        folder, images, pairs, _ = match_folder_by_sift(photos, output, settings, journal, args.threads)
    else:
        matched_folder = match_folder(photos, output, settings, journal)
        folder, images, pairs = matched_folder.folder, matched_folder.images, len(matched_folder.raw.pairs)
    matched = _cpu_seconds()
    models = [
        figures(model)
        for model in reconstruct(output / DATABASE, images, output, args.seed, args.threads, settings.progress)
    ]
    row = Row(
        name, method, len(folder.photos), pairs, models, matched - start if fresh else None, _cpu_seconds() - matched
    )
    with whole_file(done) as part:
        part.write_text(json.dumps({"title": title, "row": asdict(row)}))
    return row


def _read_row(values: dict[str, Any]) -> Row:
    from s2ld.sfm.mapping.reconstruction import ModelFigures

    return Row(**{**values, "models": [ModelFigures(**model) for model in values["models"]]})


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def _identity(args: argparse.Namespace, method: str) -> IdentitySettings:
    from s2ld.sfm.matching.identity import IdentitySettings

    if method == "grid":
        return IdentitySettings("grid", args.grid)
    return IdentitySettings("none" if method == "none" else "identity")
