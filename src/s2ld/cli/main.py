"""The command `s2ld`: one table of what there is; a module is imported for its own command alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from s2ld import __version__
from s2ld.cli.status import BAD_INPUT

HELP = ("-h", "--help")


@dataclass(frozen=True)
class Command:
    """One command."""

    module: str
    """Below `s2ld.cli`; its function `script` takes the arguments and returns the exit status."""
    what: str


COMMANDS: Mapping[str, Command] = {
    "match": Command("match.demo", "match image pairs: pictures and files of matches"),
    "match-folder": Command("match.folder", "match the photographs of a folder, for hloc and COLMAP"),
    "web": Command("match.web", "a page in the browser that matches two photographs, and the same by HTTP"),
    "track": Command("match.track", "follow a picture through a video or a camera's frames"),
    "merge": Command("match.merge", "end a matched folder whose pairs were matched in shares"),
    "reconstruct": Command("sfm.reconstruct", "cameras and points from the photographs of a folder"),
    "localize": Command("sfm.localize", "where photographs were taken, in such a model"),
    "train": Command("train.train", "train a network"),
    "test": Command("evaluate.test", "evaluate a matcher on posed pairs or homographies"),
    "ablate": Command("train.ablate", "train variants of a configuration alike and compare them"),
    "learning-curves": Command("train.learning_curves", "draw what a training has logged"),
    "teacher-descriptors": Command("train.teacher_descriptors", "describe photographs by a network to learn from"),
    "build-dataset": Command("sfm.build_dataset", "make training data of your photographs"),
    "compare-scenes": Command("sfm.compare_scenes", "compare two reconstructions of the same photographs"),
    "check-data": Command("data.check_data", "check every file that a run would read"),
    "convert-index": Command("data.convert_index", "convert MegaDepth's index files to plain arrays"),
    "write-synthetic": Command("data.write_synthetic", "write rendered scenes in MegaDepth's form"),
    "export onnx": Command("export.onnx", "write an ONNX file, checked beside torch"),
    "export weights": Command("export.weights", "write the averaged weights of a checkpoint, in float16"),
    "benchmark speed": Command("benchmarks.speed", "time and memory of our networks, in sections"),
    "benchmark matchers": Command("benchmarks.matchers", "accuracy and time of our matcher beside others"),
    "benchmark ladder": Command("benchmarks.ladder", "the same on every validation set: the model card's tables"),
    "benchmark track": Command("benchmarks.track", "frames a second in a video, and the corner error"),
    "benchmark web": Command("benchmarks.web", "many clients of the page at once"),
    "benchmark sfm": Command("benchmarks.sfm", "SIFT and our matches by the same mapper"),
    "benchmark retrieval": Command("benchmarks.retrieval", "which overlapping pairs a choice of partners finds"),
    "benchmark localize": Command("benchmarks.localize", "photographs held out of reconstructions, localised"),
    "benchmark folder": Command("benchmarks.folder", "memory and time of matched folders as they grow"),
    "benchmark depth": Command("benchmarks.depth", "our depth maps beside those that a scene has"),
    "benchmark data": Command("benchmarks.data", "training data's speed beside the trainer's"),
    "benchmark index": Command("benchmarks.index", "host memory of a large index"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `s2ld ARGUMENTS` and return its exit status (`s2ld.cli.status`); 2 for a command that does not exist."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in HELP:
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"s2ld {__version__}")
        return 0
    for count in (2, 1):
        command = COMMANDS.get(" ".join(words[:count]).replace("_", "-"))
        if command is not None:
            status: int = import_module(f"s2ld.cli.{command.module}").script(words[count:])
            return status
    group = words[0] if any(name.startswith(f"{words[0]} ") for name in COMMANDS) else ""
    if group and (len(words) == 1 or words[1] in HELP):
        print(overview(group))
        return 0
    return _unknown(" ".join(words[: 2 if group else 1]))


def overview(group: str = "") -> str:
    """Return the help of `s2ld`, or of a group of commands such as `export`."""
    shown = {name: command.what for name, command in COMMANDS.items() if name.startswith(group)}
    width = max(map(len, shown))
    usage = f"s2ld {group} COMMAND ..." if group else "s2ld COMMAND ... | --version | --help"
    return "\n".join(
        [
            f"usage: {usage}\n",
            *(f"  {name.ljust(width)}  {what}" for name, what in shown.items()),
            "\n`s2ld COMMAND --help` tells its arguments and exit statuses, of which 2 is bad input in every command.",
            f"Example: s2ld {f'{next(iter(shown))} --help' if group else 'match a.jpg b.jpg'}",
        ]
    )


def _unknown(name: str) -> int:
    near = get_close_matches(name, COMMANDS, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "s2ld --help lists all"
    print(f"s2ld: there is no command {name!r}; {hint}", file=sys.stderr)
    return BAD_INPUT
