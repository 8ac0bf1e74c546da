"""`s2ld track VIDEO`: a picture followed through a video or a camera's frames."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.log import logger
from s2ld.pretrained import DEFAULT, SHIPPED

if TYPE_CHECKING:  # these load torch or OpenCV, which --help need not wait for
    from s2ld.matcher import Matcher
    from s2ld.video.follow import Following

NEVER = 1
"""Exit status: the reference was in no frame."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "track",
        "Follow a picture through a video: an .mp4 with its outline, or another picture in its place, and a .csv of "
        "homographies. Without --reference the first frame is followed, step by step from each frame to the next.",
        "film.mp4 --reference poster.jpg",
        "What was done is in the .mp4 and the .csv, however it ends.",
        f"0 done; {NEVER} the reference is in no frame; 2 bad input; 130 Ctrl-C",
    )
    parser.add_argument("video", metavar="VIDEO", help="a file, or the number of a camera: 0, 1, ...")
    parser.add_argument("--reference", type=Path, metavar="IMAGE", help="what is looked for, cut to its edges")
    parser.add_argument("--overlay", type=Path, metavar="IMAGE", help="drawn in its place, stretched to it")
    parser.add_argument("--output", type=Path, default=Path("out"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after so many (default: all; Ctrl-C stops too)")
    parser.add_argument(
        "--weight", default=DEFAULT, metavar="W",
        help=f"{' | '.join(SHIPPED)}, a file, or hf://user/name@REVISION (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--resize", type=int, default=480, metavar="PX",
        help="longer side at which images are matched, -1: keep the size (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--threshold", type=float, help="confidence a match must exceed (default: the weights' own)")
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="auto",
        help="bf16: faster where the processor has bfloat16; auto: bf16 there, else fp32 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="frames matched at a time (default: one a core, on a GPU one)"
    )
    parser.add_argument(
        "--smoothing", type=float, default=0.5, metavar="PX",
        help="how far the steadied corners may fall behind, px of the video; 0: off (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--inlier-threshold", type=float, default=2.0, metavar="PX",
        help="error of an inlier in px of the resized images (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--least-inliers", type=int, default=15, metavar="N",
        help="with fewer the frame is lost (default: %(default)s)",
    )  # fmt: skip
    return parser


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`), `NEVER` where the reference was never seen."""
    args = build_parser().parse_args(argv)
    return exit_status("s2ld track", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    _check(args)
    from s2ld.video.follow import Followed, follow_video
    from s2ld.video.reading import Video

    with Video(args.video) as video:
        stem = args.output / f"{f'camera{int(args.video)}' if video.camera else Path(args.video).stem}-track"
        following, done = _following(args), Followed()
        matcher = _matcher(args)
        following = _with_jobs(following, args.jobs, matcher)
        try:
            follow_video(video, matcher, following, stem, done)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{done}; see {stem}.mp4, .csv") from stop
        except S2LDError as error:
            if not done.frames:
                raise
            raise S2LDError(f"{error}; before it: {done}; see {stem}.mp4, .csv") from error
    print(f"{done}; see {stem}.mp4, .csv")
    if done.tracked:
        return 0
    logger.warning(
        "{} is in none of the frames; try --resize -1, or a reference cut to what the video shows", args.reference
    )
    return NEVER


def _check(args: argparse.Namespace) -> None:
    for name in ("frames", "jobs", "least_inliers"):
        value, least = getattr(args, name), 4 if name == "least_inliers" else 1
        if value is not None and value < least:
            raise S2LDError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    if not 0 <= args.smoothing < math.inf:
        raise S2LDError(f"--smoothing must be 0 or more px, not {args.smoothing}")
    if not 0 < args.inlier_threshold < math.inf:
        raise S2LDError(f"--inlier-threshold must be positive, not {args.inlier_threshold}")


def _following(args: argparse.Namespace) -> Following:
    from s2ld.data.images.reading import read_image
    from s2ld.video.follow import Following
    from s2ld.video.sightings import Finding
    from s2ld.video.tracker import Smoothing

    reference, overlay = (None if path is None else read_image(path) for path in (args.reference, args.overlay))
    finding = Finding(args.inlier_threshold, args.least_inliers)
    return Following(reference, overlay, finding, Smoothing(args.smoothing), frames=args.frames)


def _matcher(args: argparse.Namespace) -> Matcher:
    from s2ld.video.sightings import frame_matcher

    return frame_matcher(args.weight, args.threshold, args.resize, args.device, args.precision)


def _with_jobs(following: Following, jobs: int | None, matcher: Matcher) -> Following:
    from dataclasses import replace

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return replace(following, jobs=jobs or (cores if matcher.device.type == "cpu" else 1))
