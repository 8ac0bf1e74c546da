"""What `s2ld check-data` does: walk what a run would read, and say what helps."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s2ld.cli.data.advice import advice, index_advice
from s2ld.cli.data.check_data import Split
from s2ld.config import CN
from s2ld.data.given import given
from s2ld.data.images.textures import TextureBank
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.data.preflight import CHECKS, SceneReport, spread, walk
from s2ld.data.sources.by_name import build_source
from s2ld.data.sources.light_pairs import LightPairs
from s2ld.data.sources.megadepth import MegaDepthFiles, megadepth_files
from s2ld.errors import S2LDError
from s2ld.files import whole_file

EXAMPLES = 3  # files named for each kind of problem
PHOTOGRAPHS = "photographs"  # stands for the sources below
GENERATED = ("synthetic", "homography")  # sources that read nothing but DATA.PHOTOS
INDEX_KEYS = {"train": "", "val": "VAL_", "test": "TEST_"}  # beginnings of INDEX and SCENES


@dataclass(frozen=True)
class SourceReport:
    """What was found in one source of a run."""

    title: str
    """The splits and the name of the source."""
    scenes: list[SceneReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """One line for whatever cannot be read beside the files of scenes."""
    help: list[str] = field(default_factory=list)
    """What helps, a command or a key each."""

    @property
    def is_clean(self) -> bool:
        """Whether everything can be read, and is of the right convention."""
        return not self.errors and not any(s.pairs_lost or s.error or s.convention for s in self.scenes)


def check_sources(config: CN, arguments: argparse.Namespace, split: Split | None) -> list[SourceReport]:
    """Check and print the sources of a split of a config, or of all."""
    reports = []
    for name, splits in sources_of(config.DATA, split):
        if name != "megadepth":
            for each in splits[:1] if name == PHOTOGRAPHS else splits:
                reports.append(check_other(name, each, config, arguments))
                print_report(reports[-1])
            continue
        try:
            groups = groups_of(config.DATA, splits)
        except S2LDError as error:
            reports.append(SourceReport(f"megadepth, {' and '.join(splits)}", errors=[str(error)]))
            print_report(reports[-1])
            continue
        for number, (where, its_splits) in enumerate(groups.items(), 1):
            several = len(megadepth_files(config.DATA, its_splits[0])) > 1
            folder = f"{its_splits[0]}_{number}" if several else its_splits[0]
            reports.append(check_megadepth(where, its_splits, config.DATA, arguments, folder))
    return reports


def sources_of(config: CN, split: Split | None) -> list[tuple[str, list[Split]]]:
    """Return the sources that the DATA node names, each with the splits (or the one asked for) that use it."""
    names: dict[Split, list[str]] = {
        "train": list(config.TRAIN_SOURCES),
        "val": list(config.VAL_SOURCES),
        "test": [config.TEST_SOURCE],
    }
    users: dict[str, list[Split]] = {}
    for each in names if split is None else [split]:
        for name in dict.fromkeys(names[each]):
            users.setdefault(PHOTOGRAPHS if name in GENERATED else name, []).append(each)
    return list(users.items())


def groups_of(config: CN, splits: Sequence[Split]) -> dict[MegaDepthFiles, list[Split]]:
    """Return the splits by the MegaDepth files that they read: a validation may read those of the training."""
    groups: dict[MegaDepthFiles, list[Split]] = {}
    for split in splits:
        for files in megadepth_files(config, split):
            groups.setdefault(files, []).append(split)
    return groups


def check_megadepth(
    where: MegaDepthFiles, splits: Sequence[Split], config: CN, arguments: argparse.Namespace, folder: str
) -> SourceReport:
    """Walk, print and, where asked for, clean what splits read of MegaDepth.

    Args:
        where: one set of files.
        splits: that read it.
        config: the DATA node.
        arguments: of the command.
        folder: name for clean indices.
    """
    title = f"megadepth, {' and '.join(splits)}"
    node, key = config.MEGADEPTH, INDEX_KEYS[splits[0]]
    print(f"\n{title}: index {where.scenes or where.index}, files below {where.root}, layout {node.LAYOUT}", flush=True)
    try:
        walked = walk(where, node, arguments.fast, arguments.jobs)
    except S2LDError as error:
        report = SourceReport(title, errors=[str(error)], help=[index_advice(where, splits[0], config)])
        print_report(report)
        return report
    report = SourceReport(title, walked.scenes, help=advice(walked, where, splits[0], config))
    print_report(report)
    if arguments.write_clean_index is not None:
        print(write_clean(walked.clean, arguments.write_clean_index, folder, key))
    return report


def write_clean(clean: Sequence[SceneIndex], folder: Path, split: str, key: str) -> str:
    """Write indices to `folder`/`split` and their list, and return the line that tells how to use them."""
    if not clean:
        return f"no pair of {split} can be read: no clean index is written"
    for index in clean:
        write_index(index, folder / split / f"{index.name}.npz")
    names = folder / f"{split}.txt"
    with whole_file(names) as part:
        part.write_text("".join(f"{index.name}\n" for index in clean))
    pairs = sum(len(index) for index in clean)
    keys = f"DATA.MEGADEPTH.{key}INDEX {folder / split} DATA.MEGADEPTH.{key}SCENES {names}"
    return f"wrote {len(clean)} clean indices of {pairs:,} pairs; use them by\n  {keys}"


def check_other(name: str, split: Split, config: CN, arguments: argparse.Namespace) -> SourceReport:
    """Read every pair of a finite source once, or every photograph of light and of DATA.PHOTOS."""
    title = f"{name}, {split}"
    try:
        if name == PHOTOGRAPHS:
            if not config.DATA.PHOTOS:
                return SourceReport(f"{title}: none, textures are drawn")
            bank = TextureBank(str(given(config.DATA.PHOTOS, "PHOTOS")), exclude=config.DATA.PHOTOS_EXCLUDE)
            attempt, count = _Attempt(bank.get), len(bank)
        else:
            source = build_source(name, config, split)
            attempt, count = _Attempt(source.__getitem__), len(source)
            if isinstance(source, LightPairs):  # endless in training, of a few photographs
                attempt, count = _Attempt(source.bank.get), len(source.bank)
    except S2LDError as error:
        return SourceReport(title, errors=[str(error)])
    tasks = [] if arguments.fast else list(range(count))
    errors = [line for line in spread(attempt, tasks, arguments.jobs, name, "item") if line]
    return SourceReport(f"{title}: {count} items", errors=errors)


class _Attempt:
    """Reads an item and returns what went wrong, or ""."""

    def __init__(self, read: Callable[[int], object]) -> None:
        self.read = read

    def __call__(self, item: int) -> str:
        try:
            self.read(item)
        except S2LDError as error:
            return str(error)
        return ""


def print_report(report: SourceReport) -> None:
    """Print tables, examples and what helps."""
    if report.scenes:
        print(to_table(report.scenes))
        absent = [check for check in CHECKS if not any(scene.counts[check] for scene in report.scenes)]
        print(f"not found: {', '.join(absent) or '-'}")
        for check in CHECKS:
            lines = list(dict.fromkeys(line for scene in report.scenes for line in scene.lines.get(check, [])))
            for line in lines[:EXAMPLES]:
                print(f"  {check}: {line.split('; ')[0]}")
            if len(lines) > EXAMPLES:
                print(f"  {check}: and {len(lines) - EXAMPLES} more (--json FILE names all)")
    else:
        print(f"\n{report.title}{': clean' if report.is_clean else ''}")
    errors = [*report.errors, *(scene.error for scene in report.scenes if scene.error)]
    for line in errors[: 10 * EXAMPLES]:
        print(f"  cannot be read: {line}")
    if len(errors) > 10 * EXAMPLES:
        print(f"  and {len(errors) - 10 * EXAMPLES} more (--json FILE names all)")
    odd = [f"{scene.name}: {scene.convention}" for scene in report.scenes if scene.convention]
    for line in odd[: 10 * EXAMPLES]:
        print(f"  another convention: {line}")
    if len(odd) > 10 * EXAMPLES:
        print(f"  another convention: and {len(odd) - 10 * EXAMPLES} more (--json FILE names all)")
    for line in report.help:
        print(f"  -> {line}")


def to_table(scenes: Sequence[SceneReport]) -> str:
    """Return the scenes as a table, with the columns of what was found anywhere, and a total."""
    found = [check for check in CHECKS if any(scene.counts[check] for scene in scenes)]
    heads = ["scene", "images", "pairs", *found, "rescaled", "pairs lost"]
    numbers = [
        [scene.images, scene.pairs, *(scene.counts[check] for check in found), scene.rescaled, scene.pairs_lost]
        for scene in scenes
    ]
    total = [sum(column) for column in zip(*numbers, strict=True)]
    names = [scene.name if not scene.error else f"{scene.name} (no index)" for scene in scenes]
    rows = [[name, *map(str, row)] for name, row in zip([*names, "total"], [*numbers, total], strict=True)]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in [heads, *rows]
    )
