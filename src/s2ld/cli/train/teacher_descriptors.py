"""`s2ld teacher-descriptors PHOTOS OUT.h5`: descriptors of another network, for TRAIN.TEACHER."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need

TEACHERS = ("aliked", "xfeat")
"""Keys of `s2ld.evaluation.matchers.teachers.TEACHERS`, known before torch is loaded."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "teacher-descriptors",
        "Describe clean photographs by another network, once, for TRAIN.TEACHER; goes on where it stopped.",
        "my_photos teacher.h5 --teacher aliked",
        former={"--weights": "--weight"},
    )
    parser.add_argument("photos", metavar="PHOTOS", type=Path, help="folder of photographs, searched to its depths")
    parser.add_argument("output", metavar="OUT.h5", type=Path, help="file to write, or to go on with")
    parser.add_argument("--teacher", choices=TEACHERS, default="aliked", help="the network (default: %(default)s)")
    parser.add_argument("--weight", type=Path, help="its weights (default: those of its installed package)")
    parser.add_argument("--points", type=int, default=512, help="most points a photograph (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> tuple[int, int]:
    """Run the command; return how many photographs the folder has, and how many of them were described now.

    Raises:
        S2LDError: bad arguments, weights, photographs or output.
    """
    arguments = build_parser().parse_args(argv)
    need("train", "h5py", "kornia")
    import torch

    from s2ld.data.images.photo_folders import list_photos
    from s2ld.data.images.reading import read_image
    from s2ld.data.teacher import MOST_POINTS, TeacherWriter
    from s2ld.evaluation.matchers.teachers import Teacher
    from s2ld.log import Progress

    if not 1 <= arguments.points <= MOST_POINTS or arguments.threads < 1:
        raise S2LDError(f"--points must be within 1 and {MOST_POINTS}, --threads at least 1")
    folder: Path = arguments.photos
    listing = list_photos(folder)
    photos = listing.photos
    if not photos:
        raise listing.nothing()
    torch.set_num_threads(arguments.threads)
    teacher = Teacher(arguments.teacher, arguments.points, arguments.weight)
    writer = TeacherWriter(arguments.output, teacher.info)
    try:
        todo = [path for path in photos if path.relative_to(folder).as_posix() not in writer]
        for path in Progress(todo, arguments.teacher, unit="photo"):
            photo = read_image(path)
            points, descriptors = teacher(photo)
            writer.write(path.relative_to(folder).as_posix(), (photo.shape[1], photo.shape[0]), points, descriptors)
    finally:
        writer.close()
    return len(photos), len(todo)


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        photos, new = main(argv)
        print(f"{photos} photographs, {new} of them described now; give the file to TRAIN.TEACHER.FILE")
        return 0

    return exit_status("s2ld teacher-descriptors", body)
