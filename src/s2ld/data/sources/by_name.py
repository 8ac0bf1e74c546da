"""Names of the config to sources of pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from s2ld.config import CN, build_config
from s2ld.data.given import inherit
from s2ld.data.noise import with_noise
from s2ld.data.sample import PairSource
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.sources.hpatches import HPatchesPairs
from s2ld.data.sources.light_pairs import LightPairs
from s2ld.data.sources.megadepth import megadepth_source
from s2ld.data.sources.mixture import ENDLESS, MixturePairs, SubsetPairs
from s2ld.data.sources.posed_pairs import PosedPairs
from s2ld.data.sources.scannet import ScanNetPairs
from s2ld.data.synthetic.source import SyntheticPairs
from s2ld.data.teacher import TeacherFile
from s2ld.errors import S2LDError

Split = Literal["train", "val", "test"]
PHOTOGRAPHED = ("synthetic", "homography")
"""Sources that show the photographs of DATA.PHOTOS."""


def split_seed(seed: int, split: Split) -> int:
    """Return the seed of a split: unlike for unlike (seed, split)."""
    splits = get_args(Split)
    return len(splits) * seed + splits.index(split)


def build_source(name: str, config: CN, split: Split, lanes: int = 1) -> PairSource:
    """Build one source of pairs.

    A generated source is endless for training and has DATA.VAL_PAIRS or DATA.TEST_PAIRS pairs else; a finite one is
    whole for training and cut to as many, evenly spread, else (DATA.TEST_PAIRS 0: whole).

    Args:
        name: synthetic | homography | light | megadepth | scannet | hpatches | posed_pairs.
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


def build_validation(config: CN) -> dict[str, PairSource]:
    """Build the validation sources: DATA.VAL_SOURCES, then DATA.VAL_SETS by the names of their files.

    Raises:
        S2LDError: two have one name, the number of DATA.VAL_WEIGHTS is another, or what `build_source` and
            `validation_set` say.
    """
    data = config.DATA
    sources = {name: build_source(name, config, "val") for name in data.VAL_SOURCES}
    for file in data.VAL_SETS:
        name = Path(file).stem
        if name in sources:
            raise S2LDError(f"DATA.VAL_SETS: {file}: there is a validation source {name!r} already; rename the file")
        own = validation_set(file, config)
        sources[name] = build_source(own.DATA.TEST_SOURCE, own, "test")
    validation_weights(data, len(sources))
    return sources


def validation_set(file: str, config: CN) -> CN:
    """Return the config of one of DATA.VAL_SETS, as test.py reads it, with DATA.VAL_PAIRS pairs to test.

    Folders that the set leaves open are those of the run.

    Raises:
        S2LDError: the file is no config, or it shows photographs that the run trains on.
    """
    data = config.DATA
    own = inherit(build_config([file]), config)
    share = own.DATA.PHOTOS_HELD_OUT
    if own.DATA.TEST_SOURCE in PHOTOGRAPHED and own.DATA.PHOTOS == data.PHOTOS and share > data.PHOTOS_HELD_OUT:
        raise S2LDError(
            f"DATA.VAL_SETS: {file} shows a share of {share:g} of the photographs, of which this run holds out "
            f"{data.PHOTOS_HELD_OUT:g}; set DATA.PHOTOS_HELD_OUT {share:g}"
        )
    return build_config(overrides=["DATA.TEST_PAIRS", str(data.VAL_PAIRS or own.DATA.TEST_PAIRS)], base=own)


def validation_weights(config: CN, count: int) -> list[float]:
    """Return the weights of `count` validation sources, from the DATA node of a config.

    Raises:
        S2LDError: DATA.VAL_WEIGHTS has neither one value nor `count`, or all are 0.
    """
    weights = list(config.VAL_WEIGHTS)
    if len(weights) == 1:
        weights *= count
    if len(weights) != count or (count and not sum(weights)):
        raise S2LDError(
            f"DATA.VAL_WEIGHTS is {list(config.VAL_WEIGHTS)}; give one weight above 0 for all, or one for each of the "
            f"{count} of DATA.VAL_SOURCES and DATA.VAL_SETS"
        )
    return weights


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
    count = _generated_count(config, split)
    train = split == "train"
    return SyntheticPairs(config.DATA, split_seed(config.DATA.SEED, split), count, train, unseen=not train)


def _homography(config: CN, split: Split) -> PairSource:
    count = _generated_count(config, split)
    train = split == "train"
    seed = split_seed(config.DATA.SEED, split)
    return HomographyPairs(config.DATA, seed, count, train, not train, teacher_of(config) if train else None)


def _light(config: CN, split: Split) -> PairSource:
    count = _generated_count(config, split)
    teacher = teacher_of(config) if split == "train" else None
    return LightPairs(config.DATA, split, split_seed(config.DATA.SEED, split), count, teacher)


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
    "light": _light,
    "megadepth": _megadepth,
    "scannet": _scannet,
    "hpatches": _hpatches,
    "posed_pairs": _posed_pairs,
}
