"""`s2ld write-synthetic CONFIG OUT [KEY VALUE ...]`: synthetic scenes as files in MegaDepth's form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.config import build_config
from s2ld.extras import need


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "write-synthetic",
        "Write synthetic scenes as photos, depth maps and index files.",
        "synthetic data/synthetic --scenes 4 --views 6",
    )
    parser.add_argument("config", help="file or name; its DATA node says what scenes look like")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys to change")
    parser.add_argument("--scenes", type=int, default=10, help="number of scenes (default: 10)")
    parser.add_argument("--views", type=int, default=8, help="photos a scene (default: 8)")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Path]:
    """Run the command and return the index files that it wrote.

    Raises:
        S2LDError: bad arguments or config, or a folder that cannot be written.
    """
    args = build_parser().parse_intermixed_args(argv)
    data = build_config([args.config], args.overrides).DATA
    need("train", "h5py")
    from s2ld.data.synthetic.export import write_megadepth

    return write_megadepth(args.output, data, data.SEED, args.scenes, args.views)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        written = main(argv)
        index = written[0].parent
        print(f"wrote {len(written)} scenes; set DATA.MEGADEPTH.INDEX to {index} and ROOT to the folder above")
        return 0

    return exit_status("s2ld write-synthetic", body)
