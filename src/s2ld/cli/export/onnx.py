"""`s2ld export onnx`: weights to an ONNX file, checked against torch."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.pretrained import DEFAULT, available

if TYPE_CHECKING:
    from torch import Tensor

    from s2ld.config import CN
    from s2ld.models.onnx import Agreement

SIZE = (640, 480)
MATCHES = 2000
LEFT_OUT = {"REFINEMENT": "photometric_refinement", "DENSIFY": "densification"}
"""Parts of the network that files do not hold: keys under MODEL, and names in the metadata."""
OPSETS = range(18, 24)
"""What torch's exporter writes."""
CUT = 16
"""px that image 1 is cut by, in width, to check a file for any size with images of unlike ones."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    bytes: int
    checked: list[tuple[str, Agreement]]
    """Sizes of the images of each check and how the file and torch agree there."""
    left_out: tuple[str, ...]
    """Parts of the network that are enabled and not in the file, by their keys."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "export onnx",
        "Export weights to ONNX: two grey images (1, 1, H, W) in [0, 1] to K rows of matches.",
        "--size 640 480 --output s2ld-lite.onnx",
    )
    parser.add_argument(
        "--weight", default=DEFAULT, metavar="W",
        help=f"{' | '.join(available())}, a file, or hf://user/name@REVISION (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--size", nargs=2, type=int, default=SIZE, metavar=("W", "H"),
        help="width and height of both images, px, multiples of 8; with --dynamic of the check (default: 640 480)",
    )  # fmt: skip
    parser.add_argument("--dynamic", action="store_true", help="take images of any size, in multiples of 8 px")
    parser.add_argument(
        "--matches", type=int, default=MATCHES, metavar="K", help="rows of the outputs (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: the weights' name with .onnx, here")
    parser.add_argument(
        "--check", action=argparse.BooleanOptionalAction, default=True,
        help="run the file by onnxruntime beside torch before it is written (default)",
    )  # fmt: skip
    parser.add_argument(
        "--opset", type=int, choices=OPSETS, default=OPSETS[0], help="version of the operators (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> Exported:
    """Run the command.

    Raises:
        S2LDError: bad arguments or weights, a missing package, a file that disagrees with torch or cannot be written.
    """
    args = build_parser().parse_args(argv)
    from s2ld.files import whole_file
    from s2ld.log import Progress
    from s2ld.models.checkpoint import load_model
    from s2ld.models.onnx import FixedMatches, check_size, compare, export_onnx
    from s2ld.pretrained import resolve

    width, height = args.size
    check_size(width, height)
    need("onnx", "onnx", "onnxscript", *(["onnxruntime"] if args.check else []))
    weight = resolve(args.weight)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # each run would say that torchvision is missing
    network, config = load_model(weight)
    model = FixedMatches(network, args.matches)
    path = args.output or Path(f"{weight.stem}.onnx")
    pairs = _pairs(width, height, args.dynamic) if args.check else []
    bar = Progress(total=1 + len(pairs), desc="export, check", unit="step", disable=None)
    with whole_file(path) as part, bar:
        size = None if args.dynamic else (width, height)
        content = export_onnx(model, size, _metadata(weight, config, args.matches), args.opset)
        checked = []
        for images in pairs:
            bar.update()
            sizes = " and ".join(f"{image.shape[3]} x {image.shape[2]}" for image in images)
            agreement = compare(content, model, *images)
            checked.append((sizes, agreement))
            if not agreement.good:
                raise S2LDError(f"not written, since file and torch disagree at {sizes}: {_line(agreement)}")
        bar.update()
        part.write_bytes(content)
    return Exported(path, len(content), checked, tuple(f"MODEL.{part}" for part in LEFT_OUT if _enabled(config, part)))


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        done = main(argv)
        for sizes, agreement in done.checked:
            print(f"{sizes}: {_line(agreement)}")
        without = f", without {' and '.join(done.left_out)}: left out of ONNX files" if done.left_out else ""
        print(f"wrote {done.path}, {done.bytes / 1e6:.1f} MB{without}")
        return 0

    return exit_status("s2ld export onnx", body)


def _metadata(weight: Path, config: CN, matches: int) -> dict[str, str]:
    import hashlib

    from s2ld import __version__
    from s2ld.config import config_to_text
    from s2ld.models.checkpoint import CONFIG_KEY

    return {
        CONFIG_KEY: config_to_text(config),
        "s2ld_version": __version__,
        "weights": weight.name,
        "weights_sha256": hashlib.sha256(weight.read_bytes()).hexdigest(),
        "threshold": str(config.MODEL.MATCH.THRESHOLD),
        "matches": str(matches),
        **{name: "left out" if _enabled(config, part) else "none" for part, name in LEFT_OUT.items()},
    }


def _enabled(config: CN, part: str) -> bool:
    return bool(config.MODEL[part].ENABLED)


def _pairs(width: int, height: int, dynamic: bool) -> list[tuple[Tensor, Tensor]]:
    """Return synthetic pairs of images (1, 1, H, W): one, and for any size one of unlike sizes and one on its side."""
    from s2ld.config import build_config
    from s2ld.data.sources.homography_pairs import HomographyPairs

    pairs = []
    for w, h in ((width, height), (height, width)) if dynamic else ((width, height),):
        config = build_config(overrides=["DATA.IMAGE_SIZE", f"[{w}, {h}]"])
        pair = HomographyPairs(config.DATA, seed=0, length=1)[0]
        image0, image1 = pair.view0.image[None], pair.view1.image[None]
        pairs.append((image0, image1[..., : w - CUT] if dynamic and w > 2 * CUT else image1))
    return pairs


def _line(a: Agreement) -> str:
    from s2ld.models.onnx import TOLERANCE_CONFIDENCE, TOLERANCE_PX

    return (
        f"{a.torch} matches in torch, {a.onnx} in onnxruntime, {a.same} the same within {TOLERANCE_PX} px and "
        f"{TOLERANCE_CONFIDENCE} of confidence; these differ by up to {a.points:.1g} px and {a.confidence:.1g}"
    )
