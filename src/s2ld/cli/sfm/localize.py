"""`s2ld localize OUT QUERY...`: where photographs were taken, in the model that `s2ld reconstruct` made."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.extras import need
from s2ld.log import logger

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.sfm.localize.localizer import Localised
    from s2ld.sfm.localize.mapped_folder import MappedFolder


@dataclass(frozen=True)
class LocalisedAll:
    """What was done."""

    found: Sequence[Localised]
    failed: int
    """Files that are no photographs that can be used."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "localize",
        "Pose photographs in the model that s2ld reconstruct made: each is matched with those most like it, and the "
        "model's points in its matches tell where it was taken. Writes poses.json, COLMAP's cameras.txt and images.txt "
        "for each model, and a picture of each photograph with the model's points in it.",
        "out/model query.jpg --output out/query",
        status="0 done; 1 a photograph does not belong there or cannot be used; 2 bad input; 130 Ctrl-C",
    )
    parser.add_argument("model", metavar="OUT", type=Path, help="output folder of s2ld reconstruct")
    parser.add_argument("queries", metavar="QUERY", type=Path, nargs="+", help="photographs, or folders of them")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to write to (default: OUT/localized)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="the model's photographs, where they have moved")
    parser.add_argument(
        "--partners", type=int, default=20, metavar="N",
        help="photographs with which each one is matched (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--intrinsics", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"),
        help="of all queries, px, pixel centres at integers (default: those of the model's photographs of this size "
        "and EXIF entry, else EXIF's focal length, else it is estimated)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> LocalisedAll:
    """Run the command.

    Raises:
        S2LDError: as `s2ld.sfm.localize.mapped_folder.MappedFolder`, no photograph, or a file cannot be written.
    """
    args = build_parser().parse_args(argv)
    need("sfm")
    from s2ld.cli.match.intrinsics import intrinsics_from_numbers
    from s2ld.errors import S2LDError
    from s2ld.files import make_folder, printable
    from s2ld.locks import sole_writer
    from s2ld.log import Progress
    from s2ld.sfm.localize.localizer import Localizer
    from s2ld.sfm.localize.mapped_folder import MappedFolder
    from s2ld.sfm.localize.poses import write_poses

    K = None if args.intrinsics is None else intrinsics_from_numbers(args.intrinsics)[0]
    queries = _files(args.queries)
    place = MappedFolder(args.model, args.photos)
    output = args.output or args.model / "localized"
    make_folder(output)
    found: list[Localised] = []
    with sole_writer(output):
        scratch = output / "features.cache"
        try:
            localizer = Localizer(place, scratch, args.partners, args.seed)
            for query in Progress(queries, "localize", unit="image", disable=len(queries) == 1):
                try:
                    found.append(localizer(query, K))
                except S2LDError as error:
                    logger.warning("{}", printable(str(error)))
                    continue
                logger.info("{}", found[-1].line)
                _draw(place, found[-1], output / f"{query.stem}.jpg")
                write_poses(found, output)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return LocalisedAll(found, len(queries) - len(found))


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, which its --help tells."""

    def body() -> int:
        args: argparse.Namespace = build_parser().parse_args(argv)
        done = main(argv)
        posed = sum(one.pose is not None for one in done.found)
        total = len(done.found) + done.failed
        print(f"{posed} of {total} photographs localised; see {args.output or args.model / 'localized'}")
        return 0 if posed == total else 1

    return exit_status("s2ld localize", body)


def _files(queries: Sequence[Path]) -> list[Path]:
    """Return the photographs that are named, and those in folders that are.

    Raises:
        S2LDError: a folder without any, or two of one name, whose results would have one.
    """
    from s2ld.data.images.photo_folders import list_photos
    from s2ld.errors import S2LDError

    files: list[Path] = []
    for query in queries:
        listing = list_photos(query) if query.is_dir() else None
        if listing is not None and not listing.photos:
            raise listing.nothing()
        files += [query] if listing is None else listing.photos
    by_stem: dict[str, Path] = {}
    for file in files:
        other = by_stem.setdefault(file.stem, file)
        if other != file:
            raise S2LDError(f"{file}: has the name of {other}, and so would its results; rename one")
    return files


def _draw(place: MappedFolder, one: Localised, path: Path) -> None:
    import numpy as np

    from s2ld.data.images.reading import read_image, write_image
    from s2ld.viz.localised import draw_localised

    agree = np.zeros(len(one.sightings.points), bool) if one.pose is None else one.pose.inliers
    projected = np.zeros((0, 2))
    if one.pose is not None:
        points = np.array([point.xyz for point in place.models[one.model].points3D.values()])
        local = points @ one.pose.matrix[:3, :3].T + one.pose.matrix[:3, 3]
        projected = one.pose.camera.img_from_cam(local[local[:, 2] > 0]) - 0.5
    text = f"{one.inliers:,} of {len(one.sightings.points):,} points agree" if one.pose is not None else "not here"
    write_image(draw_localised(read_image(one.photo.path), projected, one.sightings.points, agree, text), path)
