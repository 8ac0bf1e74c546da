"""Options by which a command takes any matcher."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.config import CN

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    import torch

    from s2ld.evaluation.matchers.interface import PairMatcher
    from s2ld.evaluation.matchers.recorded import RecordedMatches

RECORDED = ("npz", "h5", "hloc")
"""Those that read files of matches."""
MATCHERS = (
    *("sift", "xfeat", "xfeat-star", "xfeat-lighterglue"),
    *("kornia-loftr", "kornia-loftr-indoor-new", "kornia-xfeat", "kornia-xfeat-star"),
    *("kornia-disk-lightglue", "kornia-aliked-lightglue", "kornia-sift-lightglue"),
    *RECORDED,
)
"""`s2ld.evaluation.matchers.by_name.NAMES`, known before torch is loaded."""


def add_matcher_options(parser: argparse.ArgumentParser, several: bool) -> None:
    """Add --matcher (`several`: it may be given again), --points-in and --missing."""
    parser.add_argument(
        "--matcher",
        action="append" if several else "store",
        metavar="NAME[=PATH]",
        help=f"another matcher{', may be given again' if several else ' instead of our network'}: "
        f"{', '.join(MATCHERS)}. The path is of its weights (kornia-...: nothing is downloaded) or of files of matches "
        "(npz=FOLDER, h5=FILE, hloc=FEATURES,MATCHES)",
    )
    parser.add_argument(
        "--points-in",
        choices=("image", "resized"),
        help="px that the points in files of matches count: of the photographs, or of the images as DATA resizes them",
    )
    parser.add_argument(
        "--missing",
        choices=("error", "none"),
        default="error",
        help="a pair of which the files hold nothing is an error, or a pair without a match (default: %(default)s)",
    )


def matcher_name(text: str | None) -> list[str]:
    """Return the words by which the default folder of --matcher TEXT differs from that of our network."""
    name, _, path = (text or "").partition("=")
    return [name, *([Path(path).stem] if name in RECORDED else [])] if name else []


def build_from(text: str, args: argparse.Namespace, config: CN, device: torch.device) -> PairMatcher | RecordedMatches:
    """Build the matcher of a --matcher with the other options (`s2ld.evaluation.matchers.by_name.build_matcher`)."""
    from s2ld.evaluation.matchers.by_name import build_matcher

    return build_matcher(text, device, config.EVAL.PIXEL_FRAME, args.points_in, args.missing)
