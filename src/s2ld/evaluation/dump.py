"""Reading back what `test.py --dump DIR` has saved, and the images that it was measured on."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from s2ld.config import CN, config_from_text
from s2ld.data.images import UInt8Image
from s2ld.data.mixture import SubsetPairs
from s2ld.data.sample import PairSource
from s2ld.data.sources import build_source
from s2ld.errors import S2LDError
from s2ld.evaluation.cache import CACHE_NAME, CacheHeader, PairPrediction, read_cache, read_header
from s2ld.evaluation.pictures import draw_pair
from s2ld.evaluation.protocol import EvaluationProtocol
from s2ld.evaluation.report import POSE_ERROR, RESULTS_NAME, ROWS_NAME


@dataclass(frozen=True)
class Dump:
    """An evaluation as it lies in its folder; predictions are read from there when they are asked for."""

    folder: Path
    header: CacheHeader
    protocol: EvaluationProtocol
    numbers: dict[str, float]
    """As `s2ld.evaluation.evaluate.summarise` names them; NaN where one could not be measured."""
    pose_errors: dict[str, list[float]]
    """By estimator, of each pair: degrees, in the order of the source, infinite without a pose and NaN
    where the true one is not known; empty where it is known of no pair."""

    def predictions(self, indices: Sequence[int] | None = None) -> Iterator[PairPrediction]:
        """Yield the predictions of all pairs, or those of some `indices`."""
        return read_cache(self.folder / CACHE_NAME, indices)

    def source(self, root: str | Path = ".") -> PairSource:
        """Build the data source that the dump was made of, from the config in its header.

        Args:
            root: folder that relative paths of the config start from: where `test.py` ran.

        Raises:
            S2LDError: the config is of another version, or what the source says of its files.
        """
        origin = f"{self.folder / CACHE_NAME}, header"
        config = config_from_text("DATA:\n" + indent(self.header.data, "  "), origin)
        _start_paths_from(Path(root), config)
        source = build_source(self.header.source, config, "test")
        return source if len(source) <= self.header.pairs else SubsetPairs(source, self.header.pairs)  # --limit

    def draw(self, source: PairSource, indices: Sequence[int], estimator: str) -> Iterator[UInt8Image]:
        """Yield pictures of some pairs (`draw_pair`), whose titles give the pose error by `estimator`.

        Raises:
            S2LDError: the source has other pairs than the dump.
        """
        for index, prediction in zip(indices, self.predictions(indices), strict=True):
            yield draw_pair(prediction, source[index], self.pose_errors[estimator][index])


def read_dump(folder: str | Path) -> Dump:
    """Read the folder that `test.py --dump` has written.

    Raises:
        S2LDError: it holds no dump, a damaged one, or results of another number of pairs.
    """
    folder = Path(folder)
    header = read_header(folder / CACHE_NAME)
    if header is None:
        raise S2LDError(f"{folder}: no dump of test.py here ({CACHE_NAME}); make one with test.py ... --dump {folder}")
    try:
        content = json.loads((folder / RESULTS_NAME).read_text())
        protocol = EvaluationProtocol.of(content["protocol"])
        numbers = {name: math.nan if value is None else float(value) for name, value in content["scores"].items()}
        pose_errors = _read_pose_errors(folder / ROWS_NAME)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise S2LDError(f"{folder}: a damaged or unfinished dump ({reason}); run test.py again") from error
    if any(len(errors) != header.pairs for errors in pose_errors.values()):
        raise S2LDError(f"{folder}: {ROWS_NAME} is not of the {header.pairs} pairs in {CACHE_NAME}; run test.py again")
    return Dump(folder, header, protocol, numbers, pose_errors)


def _read_pose_errors(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in (rows[0] if rows else {}) if name.endswith(POSE_ERROR)]
    return {name.removesuffix(POSE_ERROR): [float(row[name] or "nan") for row in rows] for name in columns}


def _start_paths_from(root: Path, config: CN) -> None:
    data = config.DATA
    data.defrost()
    keys = [(data, "PHOTOS"), (data.POSED_PAIRS, "ROOT"), (data.HPATCHES, "ROOT")]
    keys += [(data.SCANNET, key) for key in ("ROOT", "INDEX")]
    keys += [(data.MEGADEPTH, key) for key in ("TEST_ROOT", "TEST_INDEX", "TEST_SCENES")]
    for node, key in keys:
        if node[key]:
            node[key] = str(root / node[key])
    data.freeze()
