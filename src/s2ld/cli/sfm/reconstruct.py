"""`s2ld reconstruct PHOTOS OUT`: cameras, points and a picture from the photographs of a folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from s2ld.cli.match.folder import (
    add_folders,
    add_identity_options,
    add_matching_options,
    describe,
    folder_settings,
    format_rejected,
    identity_settings,
)
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.extras import need
from s2ld.log import logger

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.sfm.mapping.reconstruction import ModelFigures
    from s2ld.sfm.matching.match_folder import FolderSettings


@dataclass(frozen=True)
class Reconstructed:
    """What was done."""

    photos: int
    """Usable photographs."""
    models: Sequence[ModelFigures]
    """The largest first; two places that have nothing in common are two models."""
    lines: Sequence[str]
    """For the user."""
    rejected: Sequence[str]
    """A line for each photograph that cannot be used."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "reconstruct",
        "Match the photographs of a folder (as match-folder does) and reconstruct cameras and points by "
        "pycolmap's mapper: OUT/sparse/0 and so on, points.ply in each, OUT/model-0.png from 3 sides, and "
        "OUT/model-0.html to turn the model in a browser.",
        "my_photos out/model",
        status="0 done; 1 photographs were rejected or have no pose; 2 bad input; 130 Ctrl-C",
    )
    add_folders(parser)
    add_matching_options(parser)
    add_identity_options(parser)
    parser.add_argument(
        "--matcher", choices=("s2ld", "sift"), default="s2ld",
        help="sift: pycolmap's, on the same pairs, to compare with (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--mapper", choices=("incremental", "global"), default="incremental",
        help="global: all cameras at once, faster for many photographs (default: %(default)s)",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> Reconstructed:
    """Run the command.

    Raises:
        S2LDError: as `s2ld.sfm.matching.match_folder.match_folder`, or no two photographs could be posed.
    """
    args = build_parser().parse_args(argv)
    need("sfm")
    settings = folder_settings(args, identity_settings(args))
    start = perf_counter()
    photos, images, rejected, line = _match(args, settings)
    matched = perf_counter()
    models = _map(args, images, photos, settings)
    lines = [line, *(_describe(number, model, photos) for number, model in enumerate(models))]
    lines.append(f"matched in {matched - start:.0f} s, mapped in {perf_counter() - matched:.0f} s; see {args.output}")
    return Reconstructed(photos, models, lines, rejected)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, which its --help tells."""

    def body() -> int:
        done = main(argv)
        print("\n".join(done.lines))
        for line in done.rejected:
            logger.warning("rejected {}", line)
        return 1 if done.rejected or sum(model.registered for model in done.models) < done.photos else 0

    return exit_status("s2ld reconstruct", body)


def _match(args: argparse.Namespace, settings: FolderSettings) -> tuple[int, Path, list[str], str]:
    """Return the number of usable photographs, the folder of upright ones, what was rejected, and a line."""
    from s2ld.sfm.matching.match_folder import match_folder, match_folder_by_sift

    if args.matcher == "sift":
        folder, images, pairs, rejected = match_folder_by_sift(args.photos, args.output, settings)
        line = f"{len(folder.photos)} photographs, {len(rejected)} rejected; {pairs} pairs matched by SIFT"
        return len(folder.photos), images, format_rejected(rejected), line
    done = match_folder(args.photos, args.output, settings)
    return len(done.folder.photos), done.images, format_rejected(done.rejected), describe(done)


def _map(args: argparse.Namespace, images: Path, photos: int, settings: FolderSettings) -> list[ModelFigures]:
    from s2ld.errors import S2LDError
    from s2ld.sfm.mapping.reconstruction import coloured, figures, reconstruct
    from s2ld.sfm.matching.match_folder import DATABASE
    from s2ld.viz.model_page import write_model_page
    from s2ld.viz.reconstruction import draw_model

    output: Path = args.output
    models = reconstruct(
        output / DATABASE, images, output, settings.seed, progress=settings.progress, mapper=args.mapper
    )
    if not models:
        raise S2LDError(
            f"{output}: no two of {photos} photographs could be posed; the matches are kept; add photographs between"
        )
    found = [figures(model) for model in models]
    for stale in (*output.glob("model-*.png"), *output.glob("model-*.html")):
        stale.unlink()
    for number, model in enumerate(models):
        drawn, line = coloured(model), _describe(number, found[number], photos)
        draw_model(drawn, line, output / f"model-{number}.png")
        write_model_page(drawn, line, output / f"model-{number}.html")
    return found


def _describe(number: int, model: ModelFigures, photos: int) -> str:
    return (
        f"model {number}: {model.registered} of {photos} photographs, {model.points:,} points, mean track "
        f"{model.track_length:.2f}, mean reprojection error {model.error:.2f} px"
    )
