"""Names of the config to sources of pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from s2ld.config import CN
from s2ld.data.homography_pairs import HomographyPairs
from s2ld.data.hpatches import HPatchesPairs
from s2ld.data.megadepth import megadepth_source
from s2ld.data.mixture import ENDLESS, MixturePairs, SubsetPairs
from s2ld.data.noise import with_noise
from s2ld.data.posed_pairs import PosedPairs
from s2ld.data.sample import PairSource
from s2ld.data.scannet import ScanNetPairs
from s2ld.data.synthetic.source import SyntheticPairs
from s2ld.data.teacher import TeacherFile
from s2ld.errors import S2LDError

Split = Literal["train", "val", "test"]


def split_seed(seed: int, split: Split) -> int:
    """Return the seed of a split: unlike for unlike (seed, split)."""
    splits = get_args(Split)
    return len(splits) * seed + splits.index(split)


def build_source(name: str, config: CN, split: Split, lanes: int = 1) -> PairSource:
    """Build one source of pairs.

    A generated source is endless for training and has DATA.VAL_PAIRS or DATA.TEST_PAIRS pairs else; a finite one is
    whole for training and cut to as many, evenly spread, else (DATA.TEST_PAIRS 0: whole).

    Args:
        name: synthetic | homography | megadepth | scannet | hpatches | posed_pairs.
        config: the whole config.
        split: train | val | test; the seeds of the splits differ.
        lanes: pairs that all processes of a training draw in a step (`SceneOrder`); megadepth is shared out to them.

    Raises:
        S2LDError: unknown name, a source that is not for this split, or what the source says of its files.
    """
    if name not in _BUILDERS:
        raise S2LDError(f"unknown data source {name!r}; DATA.*_SOURCES know {', '.join(_BUILDERS)}")
    if name == "megadepth":
        return _megadepth(config, split, lanes)
    return _BUILDERS[name](config, split)


def build_mixture(config: CN, lanes: int = 1) -> MixturePairs:
    """Build the endless training source of DATA.TRAIN_SOURCES and TRAIN_WEIGHTS, with the errors of DATA.NOISE."""
    data, seed = config.DATA, split_seed(config.DATA.SEED, "train")
    sources = [with_noise(build_source(name, config, "train", lanes), data, seed) for name in data.TRAIN_SOURCES]
    return MixturePairs(sources, data.TRAIN_WEIGHTS, seed)


def teacher_of(config: CN) -> TeacherFile | None:
    """Return the file of TRAIN.TEACHER, None where it is off.

    Raises:
        S2LDError: the file is missing or of another kind.
    """
    node = config.TRAIN.TEACHER
    return TeacherFile(node.FILE, int(node.POINTS)) if node.FILE else None


def _count(config: CN, split: Split) -> int:
    return {"train": ENDLESS, "val": int(config.DATA.VAL_PAIRS), "test": int(config.DATA.TEST_PAIRS)}[split]


def _generated_count(config: CN, split: Split) -> int:
    count = _count(config, split)
    if count < 1:
        raise S2LDError(f"DATA.{split.upper()}_PAIRS is {count}, but a generated source is endless; say how many pairs")
    return count


def _synthetic(config: CN, split: Split) -> PairSource:
    return SyntheticPairs(config.DATA, split_seed(config.DATA.SEED, split), _generated_count(config, split))


def _homography(config: CN, split: Split) -> PairSource:
    teacher = teacher_of(config) if split == "train" else None
    return HomographyPairs(config.DATA, split_seed(config.DATA.SEED, split), _generated_count(config, split), teacher)


def _cut(source: PairSource, config: CN, split: Split) -> PairSource:
    count = _count(config, split)
    return source if split == "train" or count == 0 or count >= len(source) else SubsetPairs(source, count)


def _megadepth(config: CN, split: Split, lanes: int = 1) -> PairSource:
    return _cut(megadepth_source(config.DATA, split, lanes), config, split)


def _scannet(config: CN, split: Split) -> PairSource:
    if split == "train":
        raise S2LDError("scannet are test pairs and cannot be trained on; take them out of DATA.TRAIN_SOURCES")
    return _cut(ScanNetPairs(config.DATA), config, split)


def _hpatches(config: CN, split: Split) -> PairSource:
    if split != "test":
        raise S2LDError(f"hpatches have no poses; take them out of DATA.{split.upper()}_SOURCES")
    return _cut(HPatchesPairs(config.DATA), config, split)


def _posed_pairs(config: CN, split: Split) -> PairSource:
    if split == "train":
        raise S2LDError("posed_pairs have no depth and cannot be trained on; take them out of DATA.TRAIN_SOURCES")
    return _cut(PosedPairs(config.DATA), config, split)


_BUILDERS: dict[str, Callable[[CN, Split], PairSource]] = {
    "synthetic": _synthetic,
    "homography": _homography,
    "megadepth": _megadepth,
    "scannet": _scannet,
    "hpatches": _hpatches,
    "posed_pairs": _posed_pairs,
}
