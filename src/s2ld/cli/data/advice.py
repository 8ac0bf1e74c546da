"""What helps where MegaDepth's files are missing or damaged: the exact command or config key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from s2ld.config import CN
from s2ld.data.images.photo_files import PhotoFiles
from s2ld.data.index.layouts import LAYOUTS, depth_path, find_image, image_path, is_megadepth
from s2ld.data.preflight import CHECKS, NO_DEPTH, NOT_RIGID, Walk
from s2ld.data.sources.megadepth import MegaDepthFiles, as_list

SAMPLE = 200  # images that are looked for in other places

Split = Literal["train", "val", "test"]

_OTHERS = {
    "image undecodable": "fetch these images again: the files are damaged or cut short",
    "image of another shape": "take the images that the index was made with: these show another part of the scene",
    "depth undecodable": "fetch these depth maps again: the files are damaged or cut short",
    "depth of another size": "take images and depth maps of one download (DATA.MEGADEPTH.LAYOUT says which)",
    NO_DEPTH: "nothing is learnt from these maps: --write-clean-index DIR drops them",
    NOT_RIGID: "the index is wrong there: fetch it again, or drop these images by --write-clean-index DIR",
}


def advice(walked: Walk, where: MegaDepthFiles, split: Split, config: CN) -> list[str]:
    """Return what helps, a line each, nothing where all is well; `config` is the DATA node."""
    counts = {check: sum(scene.counts[check] for scene in walked.scenes) for check in CHECKS}
    lines = []
    for kind, missing in (("images", walked.missing_images), ("depths", walked.missing_depths)):
        if missing:
            lines += _elsewhere(kind, missing, where, split, config) or _to_fetch(kind, missing, where, split, config)
    lines += [text for check, text in _OTHERS.items() if counts[check]]
    if any(scene.error for scene in walked.scenes):
        lines.append("fetch the index files that cannot be read again, or list the others in DATA.MEGADEPTH.*SCENES")
    return list(dict.fromkeys(lines))


def index_advice(where: MegaDepthFiles, split: Split, config: CN) -> str:
    """Return what helps where there are no index files."""
    key = _key(split, "INDEX", config)
    return f"ln -s /path/to/megadepth_indices/* {where.index.absolute().parent}  (or set {key} to their folder)"


def _elsewhere(kind: str, missing: Sequence[PhotoFiles], where: MegaDepthFiles, split: Split, config: CN) -> list[str]:
    """Return the keys by which most of the missing files are found, if by any."""
    sample = missing[:: max(1, len(missing) // SAMPLE)]
    node = config.MEGADEPTH
    named = [root for key in (node.ROOT, node.VAL_ROOT, node.TEST_ROOT) for root in as_list(key) if root]
    roots = dict.fromkeys([where.root, *map(Path, named)])
    places = [(root, layout) for root in roots for layout in LAYOUTS if (root, layout) != (where.root, node.LAYOUT)]
    found = [sum(_is_there(kind, root, layout, *files.named) for files in sample) for root, layout in places]
    best = max(range(len(places)), key=lambda place: found[place])
    if 2 * found[best] < len(sample):
        return []
    (root, layout), keys = places[best], []
    if layout != node.LAYOUT:
        keys.append(f"DATA.MEGADEPTH.LAYOUT {layout}")
    if root != where.root:
        keys.append(f"{_key(split, 'ROOT', config)} {root}")
    return [f"{' '.join(keys)}  ({found[best]} of {len(sample)} missing {kind} that were looked for lie there)"]


def _is_there(kind: str, root: Path, layout: str, image: str, depth: str) -> bool:
    if kind == "images":
        return find_image(root / image_path(layout, image, depth)) is not None
    return depth != "" and (root / depth_path(layout, image, depth)).is_file()


def _to_fetch(kind: str, missing: Sequence[PhotoFiles], where: MegaDepthFiles, split: Split, config: CN) -> list[str]:
    """Return how to link or fetch files that are nowhere."""
    layout, key = config.MEGADEPTH.LAYOUT, _key(split, "ROOT", config)
    image, depth = missing[0].named
    path = image_path(layout, image, depth) if kind == "images" else depth_path(layout, image, depth)
    folder = path.split("/")[0]
    if not folder:
        return ["the index names no depth maps for these images: they cannot be trained on"]
    if (where.root / folder).exists():
        return [f"{where.root / folder} is there, but these {kind} are not in it: fetch them again"]
    if not is_megadepth(image):
        return [f"{key} must be the folder that holds {folder}/"]
    lines = [f"{_link(where.root, folder)}  (or set {key} to the folder that holds {folder}/)"]
    if kind == "images" and layout == "undistorted_sfm":
        lines.append(
            "D2-Net's Undistorted_SfM is not to be downloaded any more; with the images of MegaDepth_v1 instead: "
            f"{_link(where.root, 'phoenix')}  and  DATA.MEGADEPTH.LAYOUT megadepth_v1"
        )
    return lines


def _link(root: Path, folder: str) -> str:
    make = "" if root.is_dir() else f"mkdir -p {root.absolute()} && "
    force = "-sfn" if (root / folder).is_symlink() else "-s"  # a link that leads nowhere
    return f"{make}ln {force} /path/to/megadepth/{folder} {root.absolute()}"


def _key(split: Split, leaf: str, config: CN) -> str:
    """Return the key that a split's ROOT or INDEX comes from: validation falls back to that of training."""
    prefix = {"train": "", "val": "VAL_", "test": "TEST_"}[split]
    return f"DATA.MEGADEPTH.{prefix if config.MEGADEPTH[prefix + leaf] else ''}{leaf}"
