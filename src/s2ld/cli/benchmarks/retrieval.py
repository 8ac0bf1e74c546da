"""`s2ld benchmark retrieval OUT`: which share of the pairs worth matching a choice of partners finds."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.match.folder import add_matching_options, folder_settings
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.benchmarks.retrieval_shares import TruePairs
    from s2ld.sfm.photos.usable import PhotoFolder

METHODS = ("s2ld", "tree", "name")
TABLE = "table.md"
Names = set[tuple[str, str]]


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark retrieval",
        "Throw scenes whose overlaps are known, and other photographs, into one folder, and tell which share of the "
        "overlapping pairs each way to choose partners finds: ours (s2ld), pycolmap's vocabulary tree made of the same "
        "photographs (tree), the next ones by name (name). Writes OUT/table.md.",
        "out/retrieval --scenes data/photo_scenes --resize 640",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to; features are kept in it")
    parser.add_argument(
        "--scenes", type=Path, nargs="+", required=True, metavar="ROOT",
        help="folders in MegaDepth's form, as `s2ld build-dataset` writes them",
    )  # fmt: skip
    parser.add_argument(
        "--others",
        type=Path,
        nargs="*",
        default=(),
        metavar="PHOTOS",
        help="photographs of other places, to be in the way",
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    parser.add_argument(
        "--overlap", type=float, default=0.3, help="above which a pair is worth matching (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=-1, help="of the vocabulary tree (default: one a core)")
    add_matching_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> str:
    """Run the command and return its table.

    Raises:
        S2LDError: bad arguments, a photograph or an index is missing, or a file cannot be written.
    """
    args = build_parser().parse_args(argv)
    if not 0 <= args.overlap < 1:
        raise S2LDError(f"--overlap must be in [0, 1), not {args.overlap}")
    need("sfm")
    from s2ld.benchmarks.retrieval_shares import join_scenes, most_overlapping, share_found
    from s2ld.files import make_folder, whole_file
    from s2ld.locks import sole_writer
    from s2ld.sfm.photos.usable import find_photos

    make_folder(args.output)
    with sole_writer(args.output):
        scenes = [
            true for true in join_scenes(args.scenes, args.others, args.output / "photos", args.overlap) if true.overlap
        ]
        folder = find_photos(args.output / "photos")
        chosen = {method: _named(folder, _chooser(method)(args, folder)) for method in args.methods}
        partners = args.neighbours or 20
        chosen["most overlapping"] = {pair for true in scenes for pair in most_overlapping(true, partners)}
        shares = [[share_found(pairs, true) for pairs in chosen.values()] for true in scenes]
        table = _table(list(chosen), scenes, shares)
        print(f"{len(folder.photos):,} photographs, {partners} partners each, overlap > {args.overlap:g}\n")
        print(table, end="")
        with whole_file(args.output / TABLE) as part:
            part.write_text(table)
    return table


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark retrieval", body)


def _chooser(method: str) -> Callable[[argparse.Namespace, PhotoFolder], list[tuple[int, int]]]:
    return {"s2ld": _by_features, "tree": _by_tree, "name": _by_name}[method]


def _by_features(args: argparse.Namespace, folder: PhotoFolder) -> list[tuple[int, int]]:
    from dataclasses import replace

    from s2ld.sfm.matching.identity import IdentitySettings
    from s2ld.sfm.matching.match_folder import choose_pairs
    from s2ld.sfm.matching.storage.matches import JOURNAL, MatchJournal

    settings = replace(folder_settings(args, IdentitySettings()), pairs="retrieval").of(len(folder.photos))
    journal = MatchJournal(args.output / JOURNAL, settings.matcher.title(), folder)
    return choose_pairs(folder, settings, settings.matching(args.output), lambda: journal)[0]


def _by_tree(args: argparse.Namespace, folder: PhotoFolder) -> list[tuple[int, int]]:
    from s2ld.benchmarks.retrieval_shares import tree_pairs

    return tree_pairs(folder, args.output, args.neighbours or 20, args.seed, args.threads)


def _by_name(args: argparse.Namespace, folder: PhotoFolder) -> list[tuple[int, int]]:
    from s2ld.sfm.matching.pairs import sequential_pairs

    return sequential_pairs(len(folder.photos), -(-(args.neighbours or 20) // 2))  # as many before it


def _named(folder: PhotoFolder, pairs: Sequence[tuple[int, int]]) -> Names:
    names = [photo.name for photo in folder.photos]
    return {(min(names[i], names[j]), max(names[i], names[j])) for i, j in pairs}


def _table(methods: Sequence[str], scenes: Sequence[TruePairs], shares: Sequence[Sequence[float]]) -> str:
    head = ["scene", "overlapping pairs", *methods]
    rows = [
        [true.scene, f"{len(true.overlap):,}", *(f"{100 * share:.0f} %" for share in row)]
        for true, row in zip(scenes, shares, strict=True)
    ]
    total = sum(len(true.overlap) for true in scenes)
    mean = [f"{100 * sum(column) / len(column):.0f} %" for column in zip(*shares, strict=True)]
    lines = [head, ["---"] * len(head), *rows, ["mean of the scenes", f"{total:,}", *mean]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
