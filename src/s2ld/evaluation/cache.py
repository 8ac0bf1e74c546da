"""The cache of predictions: one HDF5 file, a group for each pair and a header that says what they were made with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.files import whole_file
from s2ld.types import FloatArray

CACHE_NAME = "predictions.h5"
"""Name of a cache in the folder of an evaluation."""
HEADER = "header"
ARRAYS = ("points0", "points1", "confidence", "score", "K0", "K1", "scale0", "scale1", "T_0to1")
TRUTH_ARRAYS = ("warped0", "known", "valid", "keypoint_distance")


@dataclass(frozen=True)
class CacheHeader:
    """What predictions depend on: two caches with equal headers hold the same predictions."""

    weights: str
    """Name of the weight file."""
    digest: str
    """SHA-256 of the weight file."""
    source: str
    """Name of the data source."""
    pairs: int
    """Number of pairs."""
    model: str
    """The MODEL node of the config, YAML."""
    data: str
    """The DATA node of the config, YAML."""
    depth_tolerance: float
    """Relative depth difference above which a warped point counts as hidden."""


@dataclass(frozen=True)
class PairTruth:
    """What depth says of a pair's predictions."""

    warped0: FloatArray
    """(M, 2) true places of `points0` in image 1, resized px; any number where the depth is not known."""
    known: NDArray[np.bool_]
    """(M,) the depth at `points0` is known."""
    valid: NDArray[np.bool_]
    """(M,) known, and the place is inside image 1 and not hidden there."""
    keypoint_distance: FloatArray
    """(Q,) of each keypoint 0 that is visible in image 1: from its true place there to the nearest keypoint 1, px."""


@dataclass(frozen=True)
class PairPrediction:
    """The matches of one pair and the truth that they are held against; arrays are float32 unless said otherwise."""

    names: tuple[str, str]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    """Width and height of both images, resized px."""
    points0: FloatArray
    """(M, 2) resized px."""
    points1: FloatArray
    """(M, 2) resized px."""
    confidence: FloatArray
    """(M,)."""
    score: FloatArray
    """(M,)."""
    K0: FloatArray
    """(3, 3) resized px."""
    K1: FloatArray
    """(3, 3) resized px."""
    scale0: FloatArray
    """(2,) image px per resized px, x and y."""
    scale1: FloatArray
    """(2,)."""
    T_0to1: FloatArray
    """(4, 4), all NaN where the pose is not known."""
    truth: PairTruth | None = None
    """None where the source has no depth."""
    homography: FloatArray | None = None
    """(3, 3) true one from resized px of image 0 to those of image 1, any scale; None unless the pair shows one plane.
    """
    source: str = ""
    """Data source that the pair comes from, e.g. hpatches/viewpoint; empty where it has no name."""


def write_cache(path: str | Path, header: CacheHeader, predictions: Iterable[PairPrediction]) -> None:
    """Write a cache, whole or not at all; `predictions` are consumed one by one."""
    with whole_file(path) as part, h5py.File(part, "w") as file:
        file.attrs[HEADER] = json.dumps(asdict(header))
        for number, prediction in enumerate(predictions):
            _write_pair(file.create_group(_group_name(number)), prediction)


def read_header(path: str | Path) -> CacheHeader | None:
    """Return the header of a cache, None where there is no cache of this form."""
    try:
        with h5py.File(path) as file:
            return CacheHeader(**json.loads(file.attrs[HEADER]))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def read_cache(path: str | Path, indices: Sequence[int] | None = None) -> Iterator[PairPrediction]:
    """Yield the predictions of a cache in the order of the source, or those of some `indices` of it.

    Raises:
        S2LDError: there is no cache, or it is damaged.
    """
    try:
        with h5py.File(path) as file:
            for name in sorted(file) if indices is None else map(_group_name, indices):
                yield _read_pair(file[name])
    except (OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise S2LDError(
            f"{path}: not a readable cache of predictions ({reason}); delete it and predict again"
        ) from error


def _group_name(index: int) -> str:
    return f"{index:08d}"


def _write_pair(group: Any, prediction: PairPrediction) -> None:
    group.attrs["names"] = list(prediction.names)
    group.attrs["sizes"] = prediction.sizes
    group.attrs["source"] = prediction.source
    for key in ARRAYS:
        group[key] = getattr(prediction, key)
    if prediction.truth is not None:
        for key in TRUTH_ARRAYS:
            group[f"truth/{key}"] = getattr(prediction.truth, key)
    if prediction.homography is not None:
        group["homography"] = prediction.homography


def _read_pair(group: Any) -> PairPrediction:
    truth = None
    if "truth" in group:
        truth = PairTruth(**{key: group[f"truth/{key}"][()] for key in TRUTH_ARRAYS})
    name0, name1 = (str(name) for name in group.attrs["names"])
    (width0, height0), (width1, height1) = group.attrs["sizes"].tolist()
    arrays = {key: group[key][()] for key in ARRAYS}
    homography = group["homography"][()] if "homography" in group else None
    sizes = ((width0, height0), (width1, height1))
    source = str(group.attrs.get("source", ""))
    return PairPrediction((name0, name1), sizes, **arrays, truth=truth, homography=homography, source=source)
