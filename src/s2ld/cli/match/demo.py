"""`s2ld match`, also `demo_match.py`: image pairs in, pictures and files of matches out."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.arguments import parse_arguments
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import install, is_there, need
from s2ld.files import printable
from s2ld.log import logger
from s2ld.pretrained import DEFAULT, available

if TYPE_CHECKING:  # these load torch, matplotlib or OpenCV, which --help need not wait for
    from s2ld.data.images.reading import UInt8Image
    from s2ld.geometry.two_view import TwoView
    from s2ld.matcher import Matcher
    from s2ld.pair_matching import PairMatching, PathPair
    from s2ld.types import FloatArray, Matches
    from s2ld.viz.matches import Panel

    Cameras = tuple[FloatArray, FloatArray]

TRUTH_SIDE = 640  # px: longer side of the images at which errors against the true disparity are told
KINDS = {"homography": "homography", "fundamental": "fundamental matrix", "essential": "essential matrix"}
TRUTH_LIMITS = (1, 3, 5)  # px


def build_parser() -> Parser:
    """Return the parser of the demo's arguments."""
    parser = Parser(
        "match",
        "Match image pairs; without images: a real stereo pair, checked against its true disparity.",
        "a.jpg b.jpg --estimate homography",
        status="0 done; 1 some pairs of many failed, the others are done; 2 bad input; 130 Ctrl-C",
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="two images")
    parser.add_argument("--image-dir", type=Path, metavar="DIR", help="folder of images, each matched with each")
    parser.add_argument("--image-dir0", type=Path, metavar="DIR", help="folder of first images")
    parser.add_argument("--image-dir1", type=Path, metavar="DIR", help="folder of second images, paired by file name")
    parser.add_argument("--pairs", type=Path, metavar="LIST", help="text file, two image paths a line")
    parser.add_argument(
        "--weight", default=DEFAULT, metavar="W",
        help=f"{' | '.join(available())}, a file, or hf://user/name@REVISION (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--resize", nargs="+", type=int, metavar="PX",
        help="one number: longer side; two: width and height; -1: keep the size (default: 640)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: %(default)s)")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"), default="fp32",
        help="bf16: faster where the processor has bfloat16; auto: bf16 there, else fp32 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--fast",
        action="store_true",
        help="with --resize W H: compile for this size first, for a thousand pairs or more",
    )
    parser.add_argument(
        "--rotation", choices=("none", "auto"), default="none",
        help="auto: try quarter turns of image 1, for about a third more time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--threshold", type=float, help="confidence a match must exceed (default: the weights' own)")
    parser.add_argument("--output", type=Path, default=Path("out"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--estimate", choices=("homography", "fundamental", "essential"),
        help="fit a model and mark its inliers",
    )  # fmt: skip
    parser.add_argument(
        "--intrinsics", nargs="+", type=float, metavar="F",
        help="fx fy cx cy in px of the images, once for both or once for each (needed by --estimate essential)",
    )  # fmt: skip
    parser.add_argument(
        "--inlier-threshold", type=float, default=2.0, metavar="PX",
        help="error of an inlier in px of the resized images (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--lines", type=int, default=200, metavar="N",
        help="lines in a picture, of all matches evenly; 0: points alone (default: %(default)s)",
    )  # fmt: skip
    return parser


def script(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status; bad input ends in one line on standard error and status 2."""
    args = parse_arguments(build_parser(), argv)
    return exit_status("s2ld match", lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    _check(args)
    if not is_there("matplotlib"):
        logger.warning("no pictures are drawn, since matplotlib is missing: {}", install("demo"))
    if args.estimate == "essential":
        need("demo", "poselib")
    if not (args.images or args.pairs or args.image_dir or args.image_dir0):
        return _match_motorcycle(args)
    from s2ld.cli.match.intrinsics import intrinsics_from_numbers

    cameras = intrinsics_from_numbers(args.intrinsics) if args.intrinsics else None
    pairs, alone = _list_pairs(args)
    matcher = _build_matcher(args)
    for line in alone:
        logger.warning("skipped {}", printable(line))
    return _match_files(args, matcher, pairs, cameras, len(alone))


def _check(args: argparse.Namespace) -> None:
    sources = [bool(x) for x in (args.images, args.pairs, args.image_dir, args.image_dir0 or args.image_dir1)]
    if sum(sources) > 1:
        raise S2LDError(
            "two images, --pairs, --image-dir and --image-dir0/--image-dir1 exclude each other; give one of them"
        )
    if len(args.images) not in (0, 2):
        raise S2LDError(f"give two images, or none for the built-in pair, not {len(args.images)}")
    if bool(args.image_dir0) != bool(args.image_dir1):
        raise S2LDError("--image-dir0 and --image-dir1 belong together; give both")
    if args.resize and len(args.resize) > 2:
        raise S2LDError(f"--resize takes one or two numbers, not {len(args.resize)}")
    if not 0 < args.inlier_threshold < math.inf:
        raise S2LDError(f"--inlier-threshold must be positive, not {args.inlier_threshold}")
    if args.lines < 0:
        raise S2LDError(f"--lines must be at least 0, not {args.lines}")
    if args.intrinsics and args.estimate != "essential":
        raise S2LDError("--intrinsics is only used by --estimate essential; add that, or leave it out")
    if args.estimate == "essential" and not args.intrinsics and any(sources):
        raise S2LDError("--estimate essential needs --intrinsics fx fy cx cy (px of the images)")


def _list_pairs(args: argparse.Namespace) -> tuple[list[PathPair], list[str]]:
    from s2ld.cli.match.pairs import all_pairs, pairs_from_folders, pairs_from_list, unread_pictures

    if args.pairs:
        return pairs_from_list(args.pairs), []
    if args.image_dir:
        return all_pairs(args.image_dir), unread_pictures(args.image_dir)
    if args.image_dir0:
        return pairs_from_folders(args.image_dir0, args.image_dir1)
    return [(args.images[0], args.images[1])], []


def _build_matcher(args: argparse.Namespace) -> Matcher:
    from s2ld.files import make_folder
    from s2ld.matcher import Matcher

    one = args.resize[0] if args.resize and len(args.resize) == 1 else None
    two = (args.resize[0], args.resize[1]) if args.resize and len(args.resize) == 2 else None
    matcher = Matcher.from_pretrained(
        args.weight, args.threshold, one, args.device, two, args.precision, args.fast, args.rotation
    )
    make_folder(args.output)
    return matcher


def _match_files(
    args: argparse.Namespace, matcher: Matcher, pairs: Sequence[PathPair], cameras: Cameras | None, failed: int
) -> int:
    from s2ld.cli.match.pairs import unique_names
    from s2ld.log import Progress, logger
    from s2ld.pair_matching import PairMatching

    several, done = len(pairs) > 1 or failed > 0, 0
    matching = PairMatching(matcher, pairs)
    progress = Progress(
        zip(pairs, unique_names(pairs), strict=True), total=len(pairs), unit="pair", disable=not several
    )
    for paths, name in progress:
        try:
            progress.write(printable(_match_pair(args, matching, paths, cameras, args.output / name)))
            done += 1
        except S2LDError as error:
            if not several:
                raise
            failed += 1
            logger.warning("skipped {}", printable(error))
        except KeyboardInterrupt as stop:
            progress.close()
            raise KeyboardInterrupt(f"{done} of {len(pairs)} pairs are done, see {args.output}") from stop
    if several:
        print(f"{len(pairs)} pairs, {failed} images or pairs skipped")
    return 1 if failed else 0


def _match_pair(
    args: argparse.Namespace, matching: PairMatching, paths: PathPair, cameras: Cameras | None, stem: Path
) -> str:
    from s2ld.data.images.reading import read_image

    image0, image1 = read_image(paths[0]), read_image(paths[1])
    matches = matching(paths, image0, image1)
    model = _estimate(args, matching.matcher, matches, image1, cameras)
    names = f"{paths[0].name} - {paths[1].name}"
    _write(args, stem, image0, image1, matches, model, [_panel(matches, model, names)])
    return f"{_line(matches, model, names)}; see {_files(stem)}"


def _match_motorcycle(args: argparse.Namespace) -> int:
    from s2ld.data.images.motorcycle import load_motorcycle

    stereo = load_motorcycle()
    matcher = _build_matcher(args)
    matches = matcher(stereo.left, stereo.right)
    model = _estimate(args, matcher, matches, stereo.right, (stereo.K0, stereo.K1))
    errors = stereo.errors(matches.points0, matches.points1) * (TRUTH_SIDE / max(stereo.disparity.shape))
    names = "Middlebury motorcycle, left - right"
    panels = [_panel(matches, model, names), _error_panel(matches, errors)]
    stem = args.output / "motorcycle"
    _write(args, stem, stereo.left, stereo.right, matches, model, panels)
    print(_line(matches, model, names))
    print(f"{_agreement(errors)}; px at {TRUTH_SIDE} px long side")
    print(f"see {_files(stem)}")
    return 0


def _agreement(errors: FloatArray) -> str:
    """One line on errors (M,) in px at 640 px long side; NaN where the truth is unknown."""
    import numpy as np

    known = errors[np.isfinite(errors)]
    if not len(known):
        return "no match lies where the true disparity is known"
    counts = [(limit, int((known <= limit).sum())) for limit in TRUTH_LIMITS]
    shares = ", ".join(f"{limit} px: {count} ({100 * count / len(known):.1f} %)" for limit, count in counts)
    return f"{len(known)} matches have a known true disparity; right within {shares}"


def _estimate(
    args: argparse.Namespace,
    matcher: Matcher,
    matches: Matches,
    image1: UInt8Image,
    cameras: Cameras | None,
) -> TwoView | None:
    if args.estimate is None:
        return None
    height, width = image1.shape[:2]
    threshold = args.inlier_threshold * width / matcher.resized_size(width, height)[0]
    K0, K1 = cameras or (None, None)
    return matches.estimate(args.estimate, threshold, K0, K1)


def _line(matches: Matches, model: TwoView | None, names: str) -> str:
    title = f"{names}: {len(matches)} matches"
    if model is None:
        return title
    if model.matrix is None:
        return f"{title}, no {KINDS[model.kind]} found"
    return f"{title}, {int(model.inliers.sum())} inliers of the {KINDS[model.kind]}"


def _panel(matches: Matches, model: TwoView | None, names: str) -> Panel:
    from s2ld.viz.matches import Panel

    points = (matches.points0, matches.points1)
    if model is None or model.matrix is None:
        return Panel(*points, matches.confidence, _line(matches, model, names))
    title, classes = _line(matches, None, names), ("outliers", f"inliers of the {KINDS[model.kind]}")
    return Panel(*points, model.inliers.astype(float), title, classes)


def _error_panel(matches: Matches, errors: FloatArray) -> Panel:
    from s2ld.viz.matches import Panel

    label = f"error (px at {TRUTH_SIDE} px long side)"
    limits = (0.0, float(TRUTH_LIMITS[-1]))
    return Panel(matches.points0, matches.points1, errors, _agreement(errors), None, label, limits, "viridis_r")


def _write(
    args: argparse.Namespace,
    stem: Path,
    image0: UInt8Image,
    image1: UInt8Image,
    matches: Matches,
    model: TwoView | None,
    panels: Sequence[Panel],
) -> None:
    from s2ld.cli.match.output import write_matches
    from s2ld.viz.matches import draw_panels

    write_matches(stem, matches, model)
    if is_there("matplotlib"):
        draw_panels(image0, image1, panels, stem.parent / f"{stem.name}.jpg", args.lines)


def _files(stem: Path) -> str:
    return f"{stem}{'.jpg, .npz' if is_there('matplotlib') else '.npz'}, .csv"
