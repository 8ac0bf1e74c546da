"""`s2ld compare-scenes INDEX REFERENCE`: poses and depth of a scene beside those of a reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.extras import need

if TYPE_CHECKING:  # loads numpy, which --help need not wait for
    from s2ld.sfm.dataset.compare import Comparison


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "compare-scenes",
        "Compare two reconstructions of the same photographs after a similarity alignment of the cameras.",
        "data/mine/index/place.npz reference/index/place.npz",
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="index file of a scene, e.g. OUT/index/place.npz")
    parser.add_argument("reference", metavar="REFERENCE", type=Path, help="index file that it is held against")
    return parser


def main(argv: Sequence[str] | None = None) -> Comparison:
    """Run the command and return the numbers.

    Raises:
        S2LDError: a file cannot be read, or too few images are in both.
    """
    arguments = build_parser().parse_args(argv)
    need("sfm", "h5py")
    from s2ld.sfm.dataset.compare import compare_scenes

    return compare_scenes(arguments.index, arguments.reference)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        import numpy as np

        found = main(argv)
        far = (found.depth > 0.05).mean() if len(found.depth) else 0.0
        depth = f"median {np.median(found.depth):.2%}" if len(found.depth) else "none in common"
        print(f"images in both: {found.common} of the reference's {found.images}")
        print(
            f"position, of the scene's size: median {np.median(found.position):.3%}, largest {found.position.max():.3%}"
        )
        print(f"rotation: median {np.median(found.rotation):.3f} degrees, largest {found.rotation.max():.3f}")
        print(f"depth: {depth}, worst image's median {found.by_image.max(initial=0.0):.2%}, {far:.2%} above 5 %")
        print(f"of the reference's known pixels both know: {found.both:.0%}")
        return 0

    return exit_status("s2ld compare-scenes", body)
