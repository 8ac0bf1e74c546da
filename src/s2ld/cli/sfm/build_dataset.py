"""`s2ld build-dataset PHOTOS OUT [KEY VALUE ...]`: photographs to training data in MegaDepth's form."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.files import make_folder
from s2ld.locks import sole_writer
from s2ld.log import keep
from s2ld.sfm.dataset.settings import build_settings

TRAINING = ("s2ld_lite", "s2ld_lite_finetune")
"""Configs that train on what was made, after its own."""


@dataclass(frozen=True)
class BuildResult:
    """What was made."""

    scenes: list[str]
    rejected: list[tuple[str, str]]
    """What is not used, and why."""
    report: str


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "build-dataset",
        "Make training data of photographs: cameras by SfM, depth by plane sweeps, an index of pairs.",
        "my_photos data/mine MAX_SIDE 1200",
        "Run again after a kill, it goes on where it was. Keys and defaults: src/s2ld/sfm/dataset/settings.py",
    )
    parser.add_argument(
        "photos", metavar="PHOTOS", type=Path, help="folder with images: one scene; or with a folder for each scene"
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="folder to write to")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings, e.g. MAX_SIDE 640")
    parser.add_argument("--config", type=Path, metavar="YAML", help="settings in a file")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="COLMAP model of PHOTOS, text or binary (also hloc's), instead of structure from motion: one scene, "
        "unless it is a folder with a model for each folder of PHOTOS",
    )
    parser.add_argument("--one-scene", action="store_true", help="PHOTOS is one scene, whatever folders it has")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="threads (default: %(default)s, all cores)"
    )
    parser.add_argument(
        "--device", default="cpu", help="of the plane sweeps: cpu | cuda | cuda:N (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None, progress: bool = True) -> BuildResult:
    """Run the command.

    Raises:
        S2LDError: bad arguments, pycolmap is missing, OUT cannot be written or is written to by another process, or not
            one scene can be used.
    """
    arguments = build_parser().parse_intermixed_args(argv)
    photos, out = arguments.photos, arguments.output
    if arguments.jobs < 1:
        raise S2LDError(f"--jobs must be at least 1, not {arguments.jobs}")
    if out.resolve().is_relative_to(photos.resolve()):
        raise S2LDError(f"{out}: lies within {photos}, whose images would be mixed with its own; choose another OUT")
    config = build_settings([] if arguments.config is None else [arguments.config], arguments.overrides)
    need("sfm")
    from s2ld.sfm.dataset.build import build_scenes, find_sets
    from s2ld.sfm.dataset.files import REPORT, make_split, write_lists, write_rejected, write_report
    from s2ld.sfm.dataset.scene import Work
    from s2ld.sfm.mapping.colmap import load_pycolmap

    load_pycolmap()
    sets = find_sets(photos, arguments.one_scene, arguments.model)
    make_folder(out)
    with sole_writer(out):
        keep(out)
        built = build_scenes(sets, arguments.model, Work(out, config, arguments.device, arguments.jobs, progress))
        if not built.scenes:
            write_rejected(out, built)
            raise S2LDError(
                f"{photos}: no scene can be used; {': '.join(built.rejected[-1])} (all reasons: {out / REPORT})"
            )
        split = make_split(out, built, config)
        write_lists(out, built, split)
        report = write_report(out, built, split)
    return BuildResult([scene.name for scene in built.scenes], built.rejected, report)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        arguments = build_parser().parse_intermixed_args(argv)
        print(main(argv).report)
        from s2ld.sfm.dataset.files import CONFIG

        print("\ntrain with:", shlex.join(["s2ld", "train", str(arguments.output / CONFIG), *TRAINING]))
        return 0

    return exit_status("s2ld build-dataset", body)
