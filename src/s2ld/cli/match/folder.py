"""`s2ld match-folder PHOTOS OUT`: the matches of a folder in hloc's files and in a COLMAP database."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.extras import need
from s2ld.log import logger
from s2ld.pretrained import DEFAULT, SHIPPED
from s2ld.processes.peers import MATCHING, follow_first

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    import pytorch_lightning as pl

    from s2ld.sfm.matching.identity import IdentitySettings
    from s2ld.sfm.matching.match_folder import FolderSettings, MatchedFolder


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "match-folder",
        "Match the photographs of a folder: keypoints with an identity, in hloc's files and in a COLMAP "
        "database. A run that was stopped goes on from there.",
        "my_photos out/matches --pairs retrieval",
        status="0 done; 1 some photographs were rejected (OUT/rejected.txt); 2 bad input; 3 another process of the run "
        "has ended; 130 Ctrl-C",
    )
    add_folders(parser)
    add_matching_options(parser)
    add_identity_options(parser)
    several = parser.add_argument_group("several processes, which share out the pairs")
    several.add_argument("--devices", default="1", help="processes on this machine, or auto: one a GPU (default: 1)")
    several.add_argument("--num-nodes", type=int, default=1, help="machines (default: 1)")
    several.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="default: auto")
    several.add_argument(
        "--shard", metavar="I/N", help="match the Ith of N shares only, in a job of its own; s2ld merge ends it"
    )
    return parser


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add the two folders."""
    parser.add_argument("photos", metavar="PHOTOS", type=Path, help="folder of photographs, searched deeper")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to")


def add_matching_options(parser: argparse.ArgumentParser) -> None:
    """Add which pairs are matched, how, and with which cameras."""
    parser.add_argument(
        "--pairs", default="auto", metavar="P",
        help="all | sequential (with the next ones by name) | retrieval (with those that look most alike) | a "
        "file with two names a line | auto: all of up to 100 photographs, else retrieval (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--neighbours", type=int, metavar="N",
        help="partners of a photograph (default: 20 by retrieval, 10 sequential)",
    )  # fmt: skip
    parser.add_argument(
        "--yes", action="store_true", help="begin even what takes more than a day, or more than the disk has"
    )
    parser.add_argument(
        "--weight", default=DEFAULT, metavar="W",
        help=f"{' | '.join(SHIPPED)}, a file, or hf://user/name@REVISION (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--resize", type=int, default=800, metavar="PX", help="longer side, -1: keep the size (default: %(default)s)"
    )
    parser.add_argument("--threshold", type=float, help="confidence a match must exceed (default: the weights' own)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="fp32",
        help="bf16: faster where the processor has bfloat16; auto: bf16 there, else fp32 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, on a CPU (default: %(default)s)")
    parser.add_argument(
        "--camera-per-photo", action="store_true",
        help="a camera for each photograph (default: one for those of equal size and EXIF entry)",
    )  # fmt: skip
    parser.add_argument(
        "--refit", action="store_true",
        help="make the tables of keypoints anew (default: photographs that were added add to them)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all random choices (default: %(default)s)")


def add_identity_options(parser: argparse.ArgumentParser) -> None:
    """Add how matches become keypoints."""
    identity = parser.add_argument_group("keypoint identity")
    identity.add_argument(
        "--merge-radius", type=float, metavar="PX",
        help="measurements this near are one keypoint, px of the resized images (default: 0.3)",
    )  # fmt: skip
    identity.add_argument(
        "--least-pairs", type=int, metavar="N", help="pairs in which a keypoint must be measured (default: 3)"
    )
    identity.add_argument(
        "--detections",
        type=int,
        metavar="N",
        help="keypoints of a photograph whose measurements are used (default: 700)",
    )
    switch = identity.add_mutually_exclusive_group()
    switch.add_argument("--no-identity", action="store_true", help="each match has keypoints of its own")
    switch.add_argument("--grid", type=float, metavar="PX", help="round to a grid instead, as semi-dense matchers do")


def folder_settings(args: argparse.Namespace, identity: IdentitySettings) -> FolderSettings:
    """Return what the options of `add_matching_options` say; raises `S2LDError` for those out of range."""
    from s2ld.devices import choose_device
    from s2ld.errors import S2LDError
    from s2ld.models.precision import resolve_precision
    from s2ld.sfm.matching.folder import MatcherSettings
    from s2ld.sfm.matching.match_folder import FolderSettings

    if args.jobs < 1:
        raise S2LDError(f"--jobs must be at least 1, not {args.jobs}")
    # what is written tells what was computed: another machine may choose otherwise
    precision = resolve_precision(args.precision, choose_device(args.device))
    matcher = MatcherSettings(args.weight, args.resize, args.threshold, precision, args.device)
    shared = not args.camera_per_photo
    return FolderSettings(
        args.pairs, args.neighbours, matcher, identity, shared, args.jobs, args.seed, agreed=args.yes, refit=args.refit
    )


def identity_settings(args: argparse.Namespace) -> IdentitySettings:
    """Return what the options of `add_identity_options` say; raises `S2LDError` for those out of range."""
    from s2ld.errors import S2LDError
    from s2ld.sfm.matching.identity import IdentitySettings

    own = {"radius": args.merge_radius, "least_pairs": args.least_pairs, "most": args.detections}
    given = {key: value for key, value in own.items() if value is not None}
    if not args.no_identity and args.grid is None:
        return IdentitySettings(**given)
    if given:
        raise S2LDError("--merge-radius, --least-pairs and --detections belong to identity; leave them out here")
    return IdentitySettings("none") if args.no_identity else IdentitySettings("grid", args.grid)


def main(argv: Sequence[str] | None = None) -> MatchedFolder | int | None:
    """Run the command, and return what was done: of a shard its pairs, of several processes nothing but in the first.

    Raises:
        S2LDError: as `s2ld.sfm.matching.match_folder.match_folder` does.
        Stopped: another process of the run has ended.
    """
    follow_first(MATCHING)
    args = build_parser().parse_args(argv)
    need("sfm")
    from s2ld.sfm.matching.match_folder import match_folder

    settings, trainer = folder_settings(args, identity_settings(args)), _trainer(args)
    if args.shard is not None:
        need("train")
        from s2ld.sfm.matching.shares import Share, match_shard

        return match_shard(args.photos, args.output, settings, Share.parse(args.shard))
    if trainer is not None:
        from s2ld.sfm.matching.shares import match_shared_out

        match_shared_out(trainer, args.photos, args.output, settings)
        if not trainer.is_global_zero:
            return None
    return match_folder(args.photos, args.output, settings)


def _trainer(args: argparse.Namespace) -> pl.Trainer | None:
    """Return Lightning's trainer of several processes, None of one."""
    from s2ld.errors import S2LDError

    if args.num_nodes < 1:
        raise S2LDError(f"--num-nodes {args.num_nodes}: give a number of machines from 1")
    if args.devices == "1" and args.num_nodes == 1:
        return None
    for name, usual in (("shard", None), ("jobs", 1), ("device", "auto")):
        if getattr(args, name) != usual:
            raise S2LDError(f"--{name} is of one process; leave it out, or --devices and --num-nodes")
    need("train")
    from s2ld.evaluation.predictions.shared_out import Hardware, build_trainer
    from s2ld.log import set_rank
    from s2ld.processes.ddp import check_slurm, device_count

    hardware = Hardware(args.accelerator, device_count(args.devices, args.accelerator), args.num_nodes)
    if hardware.processes == 1:
        return None
    check_slurm(hardware.devices, hardware.num_nodes)
    trainer = build_trainer(hardware, MATCHING)
    set_rank(trainer.global_rank)
    return trainer


def describe(done: MatchedFolder) -> str:
    """Return one line on what was matched."""
    matches = sum(len(found) for found in done.matches.pairs.values())
    keypoints = sum(len(points) for points in done.matches.keypoints)
    return (
        f"{len(done.folder.photos)} photographs, {len(done.rejected)} rejected; {len(done.matches.pairs)} pairs, "
        f"{keypoints:,} keypoints, {matches:,} matches"
    )


def format_rejected(rejected: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each photograph, or entry of a list, that cannot be used."""
    return [": ".join(filter(None, entry)) for entry in rejected]


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 1 where a photograph was rejected, else as `s2ld.cli.status` says."""

    def body() -> int:
        done = main(argv)
        if done is None:
            return 0
        if isinstance(done, int):
            print(f"{done:,} pairs of this share are matched; s2ld merge ends it when all shares are")
            return 0
        print(describe(done))
        for line in format_rejected(done.rejected):
            logger.warning("rejected {}", line)
        return 1 if done.rejected else 0

    return exit_status("s2ld match-folder", body)
