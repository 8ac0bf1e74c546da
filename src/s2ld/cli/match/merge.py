"""`s2ld merge PHOTOS OUT`: the files of a folder whose pairs were matched in shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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

if TYPE_CHECKING:  # this loads torch, which --help need not wait for
    from s2ld.sfm.matching.match_folder import MatchedFolder


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "merge",
        "Make keypoints, hloc's files and a COLMAP database of the pairs that match-folder --shard I/N has matched; "
        "give the options of the shards. Nothing is matched: pairs that are missing are told.",
        "my_photos out/matches --pairs retrieval",
        status="0 done; 1 some photographs were rejected (OUT/rejected.txt); 2 bad input, or pairs are missing; "
        "130 Ctrl-C",
    )
    add_folders(parser)
    add_matching_options(parser)
    add_identity_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> MatchedFolder:
    """Run the command; raises `S2LDError` as `s2ld.sfm.matching.match_folder.match_folder` does."""
    args = build_parser().parse_args(argv)
    need("sfm")
    from s2ld.sfm.matching.match_folder import match_folder

    settings = folder_settings(args, identity_settings(args))
    return match_folder(args.photos, args.output, replace(settings, merge=True))


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, which its --help tells."""

    def body() -> int:
        done = main(argv)
        print(describe(done))
        for line in format_rejected(done.rejected):
            logger.warning("rejected {}", line)
        return 1 if done.rejected else 0

    return exit_status("s2ld merge", body)
