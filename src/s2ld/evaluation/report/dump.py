"""Reading back what `test.py --output DIR` has saved, and the images that it was measured on."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from matplotlib.figure import Figure

from s2ld.config import CN, config_from_text
from s2ld.config.shipped import FOLDER
from s2ld.data.images.reading import UInt8Image
from s2ld.data.sample import PairSample, PairSource
from s2ld.data.sources.by_name import build_source
from s2ld.data.sources.mixture import SubsetPairs
from s2ld.errors import S2LDError, one_line
from s2ld.evaluation.predictions.cache import CACHE_NAME, CacheHeader, PairPrediction, read_cache, read_header
from s2ld.evaluation.protocol import EvaluationProtocol
from s2ld.evaluation.report.files import (
    CORNER_ERROR,
    POSE_ERROR,
    RESULTS_NAME,
    ROWS_NAME,
    draw_corner_curve,
    draw_mma,
    draw_pose_curves,
)
from s2ld.evaluation.report.pictures import draw_pair
from s2ld.files import read_text


@dataclass(frozen=True)
class Dump:
    """An evaluation as it lies in its folder; predictions are read from there when they are asked for."""

    folder: Path
    header: CacheHeader
    protocol: EvaluationProtocol
    numbers: dict[str, float]
    """As `s2ld.evaluation.evaluate.summarise` names them; NaN where one could not be measured."""
    pose_errors: dict[str, list[float]]
    """By estimator, of each pair: degrees, in the order of the source, infinite without a pose, NaN where the true one
    is not known. Empty where it is known of no pair."""
    corner_errors: list[float]
    """Of each pair: resized px, infinite without a homography, NaN unless the pair shows one plane."""

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

    def find_source(self, root: str | Path = ".") -> PairSource | None:
        """As `source`, but where it or its first image is not there, say so in a line and return None."""
        try:
            source = self.source(root)
            source[0]
        except S2LDError as error:
            warnings.warn(f"pictures without images: {error}", stacklevel=2)
            return None
        return source

    @property
    def pair_errors(self) -> list[float]:
        """What pairs are ranked by: the pose error of the first estimator or, where it is not known, the corners'."""
        pose = next(iter(self.pose_errors.values()), self.corner_errors)
        return [c if math.isnan(p) else p for p, c in zip(pose, self.corner_errors, strict=True)]

    def ranking(self) -> list[int]:
        """Return the pairs from the least error to the largest; those of which nothing is known are left out."""
        errors = self.pair_errors
        return sorted((i for i, error in enumerate(errors) if not math.isnan(error)), key=lambda i: errors[i])

    def draw(self, source: PairSource | None, indices: Sequence[int]) -> Iterator[UInt8Image]:
        """Yield pictures of some pairs (`draw_pair`); an image that cannot be read is left blank.

        Raises:
            S2LDError: the source has other pairs than the dump.
        """
        for index, prediction in zip(indices, self.predictions(indices), strict=True):
            yield draw_pair(prediction, _sample(source, index), self.pair_errors[index])

    def curves(self) -> Iterator[Figure]:
        """Yield the pictures of the errors that there are: of poses, of the corners of planes, and MMA."""
        if self.pose_errors:
            yield draw_pose_curves(self.pose_errors, self.protocol)
        corners = [error for error in self.corner_errors if not math.isnan(error)]
        if corners:
            yield draw_corner_curve(corners, self.protocol)
            yield draw_mma(self.numbers, self.protocol)


def read_dump(folder: str | Path) -> Dump:
    """Read the folder that `test.py --output` has written.

    Raises:
        S2LDError: it holds no dump, a damaged one, or results of another number of pairs.
    """
    folder = Path(folder)
    header = read_header(folder / CACHE_NAME)
    if header is None:
        raise S2LDError(
            f"{folder}: no dump of s2ld test here ({CACHE_NAME}); make one by s2ld test ... --output {folder}"
        )
    try:
        content = json.loads(read_text(folder / RESULTS_NAME, "result", "run test.py again"))
        protocol = EvaluationProtocol.of(content["protocol"])
        numbers = {name: math.nan if value is None else float(value) for name, value in content["scores"].items()}
        rows = _read_rows(folder / ROWS_NAME)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise S2LDError(f"{folder}: a damaged or unfinished dump ({one_line(error)}); run test.py again") from error
    if len(rows) != header.pairs:
        raise S2LDError(f"{folder}: {ROWS_NAME} is not of the {header.pairs} pairs in {CACHE_NAME}; run test.py again")
    names = [name for name in rows[0] if name.endswith(POSE_ERROR)]
    pose_errors = {name.removesuffix(POSE_ERROR): _column(rows, name) for name in names}
    return Dump(folder, header, protocol, numbers, pose_errors, _column(rows, CORNER_ERROR))


def _read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(read_text(path, "table", "run test.py again").splitlines()))


def _column(rows: Sequence[dict[str, str]], name: str) -> list[float]:
    return [float(row.get(name) or math.nan) for row in rows]


def _sample(source: PairSource | None, index: int) -> PairSample | None:
    try:
        return None if source is None else source[index]
    except S2LDError:
        return None


def _start_paths_from(root: Path, config: CN) -> None:
    data = config.DATA
    data.defrost()
    keys = [(data, "PHOTOS"), (data.POSED_PAIRS, "ROOT"), (data.HPATCHES, "ROOT"), (data.LIGHT, "ROOT")]
    keys += [(data.SCANNET, key) for key in ("ROOT", "INDEX")]
    keys += [(data.MEGADEPTH, key) for key in ("TEST_ROOT", "TEST_INDEX", "TEST_SCENES")]
    for node, key in keys:
        given = node[key]
        node[key] = [_below(root, path) for path in given] if isinstance(given, list) else _below(root, given)
    data.freeze()


def _below(root: Path, path: str) -> str:
    """Return where a path of a config starts from `root`; an empty one and one that ships stay."""
    there = root / path
    ships = Path(path).parts[:1] == (FOLDER,) and not there.exists()
    return path if not path or ships else str(there)
