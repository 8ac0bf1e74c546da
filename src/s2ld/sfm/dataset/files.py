"""The lists and the config by which training reads a data set, and the report of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from yacs.config import CfgNode as CN

from s2ld.data.images.reading import network_size
from s2ld.data.index.files import read_index, write_index
from s2ld.data.index.splits import SPLITS, hold_out, split_places
from s2ld.errors import S2LDError
from s2ld.files import whole_file
from s2ld.sfm.dataset.build import Built
from s2ld.sfm.dataset.scene import INDEX, index_file

CONFIG, REPORT = "dataset.yaml", "report.txt"
LONG_SIDE = 640
"""px of training images, where the undistorted ones are not smaller."""


@dataclass(frozen=True)
class Split:
    """Which index files train, validate and test."""

    lists: Mapping[str, list[str]]
    """Names of index files, by split."""
    note: str
    """What the numbers of this split do not tell, one line."""


def make_split(out: Path, built: Built, config: CN) -> Split:
    """Divide the scenes by place; of one place hold images out, for which further index files are written.

    Raises:
        S2LDError: an index cannot be read or written, or the one place has too few pairs to hold any out.
    """
    if len(built.places) > 1:
        pairs = {scene.name: scene.pairs for scene in built.scenes}
        lists = split_places(built.places, pairs, config.SPLIT.VAL, config.SPLIT.TEST, config.SEED)
        note = "validation and test are the same place: there are two only" if lists["val"] == lists["test"] else ""
        return Split(lists, note or "no place is in two splits, as far as SIFT can see")
    train: list[str] = []
    val: list[str] = []
    for scene in built.scenes:
        parts = hold_out(read_index(index_file(out, scene.name)), config.SPLIT.HELD_OUT)
        if parts is None:
            train.append(scene.name)
            continue
        for part, names in zip(parts, (train, val), strict=True):
            write_index(part, index_file(out, part.name))
            names.append(part.name)
    if not val:
        raise S2LDError(
            f"{out}: too few pairs to hold one out for validation; take more photographs, or widen PAIRS.OVERLAP"
        )
    note = "validation and test show the SAME PLACE as training, from photographs that training does not see"
    return Split({"train": train, "val": val, "test": val}, note)


def write_lists(out: Path, built: Built, split: Split) -> None:
    """Write ``train.txt``, ``val.txt``, ``test.txt`` and the data config `CONFIG`, which names them by full paths."""
    for name in SPLITS:
        _write(out / f"{name}.txt", "".join(f"{scene}\n" for scene in split.lists[name]))
    root, index = str(out.resolve()), str(out.resolve() / INDEX)
    node = {f"{key}ROOT": root for key in ("", "VAL_", "TEST_")}
    node |= {f"{key}INDEX": index for key in ("", "VAL_", "TEST_")}
    names = zip(("", "VAL_", "TEST_"), SPLITS, strict=True)
    node |= {f"{key}SCENES": str(out.resolve() / f"{name}.txt") for key, name in names}
    width, height = max(built.scenes, key=lambda scene: scene.images).size
    side = min(LONG_SIDE, max(width, height))
    data = {
        "TRAIN_SOURCES": ["megadepth"],
        "TRAIN_WEIGHTS": [1.0],
        "VAL_SOURCES": ["megadepth"],
        "VAL_PAIRS": 64,
        "TEST_SOURCE": "megadepth",
        "TEST_PAIRS": 0,
        "IMAGE_SIZE": list(network_size(width, height, side)),
        "TEST_LONG_SIDE": side,
        "MEGADEPTH": {**node, "FILL": True},
    }
    tree = {"DATA": data, "EVAL": {"BENCHMARK": f"{out.resolve().name}: {split.note}"}}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    _write(out / CONFIG, f"# Written by s2ld build-dataset. {split.note[:1].upper()}{split.note[1:]}.\n{text}")


def write_report(out: Path, built: Built, split: Split) -> str:
    """Write `REPORT` and return it: the scenes, the splits and everything that is not used, with the reason."""
    images, pairs = (sum(getattr(scene, key) for scene in built.scenes) for key in ("images", "pairs"))
    lines = [f"{out}: {len(built.scenes)} scene(s), {images} images, {pairs} pairs", ""]
    width = max(len("scene"), *(len(scene.name) for scene in built.scenes))
    lines.append(f"{'scene':{width}}  images  pairs  depth known  depth against points (median)")
    lines += [
        f"{scene.name:{width}}  {scene.images:6d}  {scene.pairs:5d}  {scene.coverage:11.0%}  {scene.error:.2%}"
        for scene in built.scenes
    ]
    together = [" = ".join(place) for place in built.places if len(place) > 1]
    if together:
        lines.append(f"the same place: {'; '.join(together)}")
    lines.append("")
    lines += [f"{name}: {' '.join(split.lists[name]) or '(none)'}" for name in SPLITS]
    lines += [f"note: {split.note}", "", *_rejected(built)]
    text = "\n".join(lines)
    _write(out / REPORT, text + "\n")
    return text


def write_rejected(out: Path, built: Built) -> None:
    """Write `REPORT` where there is no scene."""
    _write(out / REPORT, "\n".join([f"{out}: no scene", "", *_rejected(built)]) + "\n")


def _rejected(built: Built) -> list[str]:
    return [f"not used: {len(built.rejected)}", *(f"  {name}: {reason}" for name, reason in built.rejected)]


def _write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text)
