"""What a number of an evaluation is measured with; it is printed beside the numbers and written into every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from s2ld.config import CN
from s2ld.evaluation.estimators import (
    Estimator,
    HomographyRansac,
    PoseEstimator,
    build_estimators,
    build_homography_estimator,
)
from s2ld.evaluation.intervals import COVERAGE
from s2ld.evaluation.metrics import AUC_THRESHOLDS, PRECISION_THRESHOLDS, ThresholdUnit, has_pose
from s2ld.evaluation.predictions.cache import CacheHeader, PairPrediction
from s2ld.geometry.camera import PixelFrame

HOMOGRAPHY = HomographyRansac()
"""The protocol of LoFTR."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How predictions are scored: the EVAL node of a config, in which each benchmark has its own."""

    estimators: tuple[PoseEstimator, ...]
    frame: PixelFrame = "edge"
    """How points go from resized to image px."""
    unit: ThresholdUnit = "resized"
    """Which px the thresholds of `estimators` count."""
    homography: HomographyRansac = HOMOGRAPHY
    """For pairs of one plane, in resized px whatever the unit."""
    seed: int = 0
    repeats: int = 1
    """Of each estimation."""
    resamples: int = 0
    """Of the bootstrap over pairs, 0: no intervals."""
    benchmark: str = ""
    """Name of the protocol."""

    @classmethod
    def of(cls, config: CN) -> EvaluationSettings:
        """Return the settings of the EVAL node of a config.

        Raises:
            S2LDError: what `build_estimators` says.
        """
        return cls(
            tuple(build_estimators(config)),
            config.PIXEL_FRAME,
            config.THRESHOLD_UNIT,
            build_homography_estimator(config),
            int(config.SEED),
            int(config.REPEATS),
            int(config.BOOTSTRAP),
            config.BENCHMARK,
        )

    @property
    def seeds(self) -> range:
        """Of the repeats."""
        return range(self.seed, self.seed + self.repeats)


@dataclass(frozen=True)
class EstimatorProtocol:
    """One estimator."""

    name: str
    threshold: float
    """Px; of poses in the unit of the protocol, of homographies in resized px."""
    confidence: float
    repeats: int
    settings: str
    """All of it, as text for people."""

    def __str__(self) -> str:
        return f"{self.name}: {self.settings}" + (f"; {self.repeats} repeats" if self.repeats > 1 else "")


@dataclass(frozen=True)
class EvaluationProtocol:
    """Everything that changes the numbers, as text for people."""

    benchmark: str
    """Name of the protocol."""
    data: str
    """Name of the source and number of pairs."""
    resolution: str
    """Sizes of the images as the network saw them."""
    weights: str
    """Name and digest of the weight file."""
    matching: str
    """Settings of the network that a weight file does not fix."""
    estimators: tuple[EstimatorProtocol, ...]
    pose_error: str
    """How it is measured; empty, as the next two, where no pair has what it needs."""
    precision: str
    homographies: str
    thresholds: str
    """Which px they count."""
    pixel_frame: str
    seed: int
    intervals: str

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> EvaluationProtocol:
        """Return the protocol of a result file (``dataclasses.asdict`` of one).

        Raises:
            TypeError: a field is missing or unknown.
        """
        return cls(**{**saved, "estimators": tuple(EstimatorProtocol(**one) for one in saved["estimators"])})

    def lines(self) -> list[str]:
        """Return one "name: value" line for each field that is not empty, one for each estimator."""
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            lines += [f"{field.name.replace('_', ' ')}: {part}" for part in values if part != ""]
        return lines


def build_protocol(
    header: CacheHeader, matching: str, predictions: Iterable[PairPrediction], settings: EvaluationSettings
) -> EvaluationProtocol:
    """Describe an evaluation of a cache.

    Args:
        header: of the cache.
        matching: settings of the network that a weight file does not fix.
        predictions: those of the cache.
        settings: how they are scored.
    """
    frames = {
        "edge": "edge: (p + 1/2) scale - 1/2, pixel edges aligned",
        "lineage": "lineage: p scale, as published numbers",
    }
    angles, distances = (", ".join(f"{t:g}" for t in ts) for ts in (AUC_THRESHOLDS, PRECISION_THRESHOLDS))
    resolution, posed, planes = _survey(predictions)
    resized = settings.unit == "resized"
    used: list[Estimator] = [*(settings.estimators if posed else ()), *([settings.homography] if planes else ())]
    return EvaluationProtocol(
        benchmark=settings.benchmark or "no name (EVAL.BENCHMARK)",
        data=f"{header.source}, {header.pairs} pairs",
        resolution=resolution,
        weights=f"{header.weights} (sha256 {header.digest[:12]})",
        matching=matching,
        estimators=tuple(
            EstimatorProtocol(one.name, one.threshold, one.confidence, settings.repeats, one.settings) for one in used
        ),
        pose_error=f"max(rotation, translation folded at 90) in degrees, AUC at {angles}; no pose is infinite"
        if posed
        else "",
        precision=f"squared symmetric epipolar distance, normalised coordinates, below {distances}; mean over pairs; "
        "precision@5e-4 is what the paper's table calls MMA@5E-4"
        if posed
        else "",
        homographies="corner: AUC of the four corners' mean error, resized px; MMA: share of matches within so many px "
        "of image 1 as given, mean over pairs"
        if planes
        else "",
        thresholds=f"of the estimators in px of the {'resized images' if resized else 'images as given'}",
        pixel_frame=frames[settings.frame],
        seed=settings.seed,
        intervals=f"{COVERAGE:.0%}, percentiles of {settings.resamples} bootstrap resamples of the pairs"
        if settings.resamples
        else "none",
    )


def _survey(predictions: Iterable[PairPrediction]) -> tuple[str, bool, bool]:
    """Name the three commonest sizes, and tell whether any pair has a pose, and a homography."""
    sizes: Counter[tuple[int, int]] = Counter()
    posed = planes = False
    for prediction in predictions:
        sizes.update(prediction.sizes)
        posed |= has_pose(prediction)
        planes |= prediction.homography is not None
    shown = ", ".join(f"{width}x{height}" for (width, height), _ in sizes.most_common(3))
    return f"{shown} px" + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else ""), posed, planes
