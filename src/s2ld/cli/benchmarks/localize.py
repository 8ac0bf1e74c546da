"""`s2ld benchmark localize OUT INDEX...`: photographs held out of a reconstruction, localised in it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2ld.cli.match.folder import add_matching_options, folder_settings
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.benchmarks.localisation import LocalisationErrors
    from s2ld.sfm.localize.localizer import Localised

METHODS = ("s2ld", "sift")
TABLE = "table.md"
HEAD = "| scene | method | localised | median error, degrees | median error, % of the scene |\n|---|---|---|---|---|\n"


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark localize",
        "Hold photographs out of scenes whose poses are known, reconstruct the others, and localise those held out: by "
        "our matches (s2ld) and by pycolmap's SIFT with the same pairs, mapper and estimator (sift). The model is "
        "moved onto the true camera centres; the scene's size is the largest distance of two. Writes OUT/table.md.",
        "out/localize data/mine/index/castle.npz --leave 5",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to; matches are kept in it")
    parser.add_argument("scenes", metavar="INDEX", type=Path, nargs="+", help="index files, ROOT/index/SCENE.npz")
    parser.add_argument("--leave", type=int, default=5, metavar="N", help="held out of each (default: %(default)s)")
    parser.add_argument("--partners", type=int, default=20, metavar="N", help="of each of these (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=-1, help="of SIFT and of the mapper (default: one a core)")
    add_matching_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> str:
    """Run the command and return its table.

    Raises:
        S2LDError: bad arguments, a scene that cannot be read or reconstructed, or a file cannot be written.
    """
    args = build_parser().parse_args(argv)
    if args.leave < 1:
        raise S2LDError(f"--leave must be at least 1, not {args.leave}")
    need("sfm")
    from s2ld.benchmarks.localisation import errors_of, hold_out
    from s2ld.data.index.files import read_index
    from s2ld.files import make_folder, whole_file
    from s2ld.locks import sole_writer

    table = HEAD
    make_folder(args.output)
    with sole_writer(args.output):
        print(HEAD, end="", flush=True)
        for path in args.scenes:
            scene = read_index(path)
            photos, held_out = hold_out(scene, path.resolve().parents[1], args.leave, args.output / scene.name)
            model, found = _by_matches(args, photos, held_out)
            ours = {one.photo.name: one.pose.matrix for one in found if one.pose is not None and one.model == 0}
            for method, (own, poses) in {"s2ld": (model, ours), "sift": _by_sift(args, photos, found)}.items():
                line = _line(scene.name, method, errors_of(own, scene, poses, len(held_out)))
                print(line, end="", flush=True)
                table += line
        with whole_file(args.output / TABLE) as part:
            part.write_text(table)
    return table


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark localize", body)


def _by_matches(args: argparse.Namespace, photos: Path, held_out: Sequence[Path]) -> tuple[Any, list[Localised]]:
    """Return the model of the others, and what was found of those held out."""
    from s2ld.sfm.localize.localizer import Localizer
    from s2ld.sfm.localize.mapped_folder import MappedFolder
    from s2ld.sfm.mapping.reconstruction import reconstruct
    from s2ld.sfm.matching.identity import IdentitySettings
    from s2ld.sfm.matching.match_folder import DATABASE, match_folder

    output = photos.parent / "s2ld"
    settings = folder_settings(args, IdentitySettings())
    done = match_folder(photos, output, settings)
    if not reconstruct(output / DATABASE, done.images, output, args.seed, args.threads, settings.progress):
        raise S2LDError(f"{photos}: no two photographs could be posed; choose another scene")
    place = MappedFolder(output)
    localizer = Localizer(place, output / "features.cache", args.partners, args.seed)
    return place.models[0], [localizer(query) for query in held_out]


def _by_sift(args: argparse.Namespace, photos: Path, found: Sequence[Localised]) -> tuple[Any, dict[str, Any]]:
    """Return the model of the others by SIFT, and the poses of those held out by name; with the pairs of ours."""
    from s2ld.benchmarks.localisation import localise_by_sift
    from s2ld.sfm.localize.localizer import MAX_ERROR
    from s2ld.sfm.mapping.reconstruction import reconstruct
    from s2ld.sfm.matching.identity import IdentitySettings
    from s2ld.sfm.matching.match_folder import DATABASE, match_folder_by_sift
    from s2ld.sfm.matching.storage.matches import JOURNAL

    output, settings = photos.parent / "sift", folder_settings(args, IdentitySettings())
    journal = photos.parent / "s2ld" / JOURNAL
    images = match_folder_by_sift(photos, output, settings, journal, args.threads)[1]
    models = reconstruct(output / DATABASE, images, output, args.seed, args.threads, settings.progress)
    if not models:
        raise S2LDError(f"{photos}: SIFT poses no two photographs; choose another scene")
    poses = {}
    for one in found:
        error = MAX_ERROR * (max(1.0, max(one.photo.size) / args.resize) if args.resize > 0 else 1.0)
        pose = localise_by_sift(one.photo.path, one.references, models[0], output / DATABASE, output / "query", error)
        if pose is not None:
            poses[one.photo.name] = pose
    return models[0], poses


def _line(scene: str, method: str, errors: LocalisationErrors) -> str:
    import numpy as np

    localised = f"{len(errors.degrees)} of {errors.held_out}"
    if not len(errors.degrees):
        return f"| {scene} | {method} | {localised} | | |\n"
    position = 100 * np.median(errors.position)
    return f"| {scene} | {method} | {localised} | {np.median(errors.degrees):.3f} | {position:.3f} |\n"
