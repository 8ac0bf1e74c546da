"""What a number of an evaluation was measured with; it is printed beside the numbers and written into every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from s2ld.evaluation.cache import CacheHeader, PairPrediction
from s2ld.evaluation.estimators import Estimator
from s2ld.evaluation.metrics import AUC_THRESHOLDS, PRECISION_THRESHOLDS, ThresholdUnit
from s2ld.geometry.camera import PixelFrame


@dataclass(frozen=True)
class EvaluationProtocol:
    """Everything that changes the numbers, as text for people."""

    data: str
    """Name of the source and number of pairs."""
    resolution: str
    """Sizes of the images as the network saw them."""
    weights: str
    """Name and digest of the weight file."""
    matching: str
    """Settings of the network that a weight file does not fix."""
    estimators: tuple[str, ...]
    """Name and settings of each."""
    pose_error: str
    precision: str
    thresholds: str
    """Which px they count."""
    pixel_frame: str
    seed: int

    def lines(self) -> list[str]:
        """Return one "name: value" line for each field, one for each estimator."""
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            lines += [f"{field.name.replace('_', ' ')}: {part}" for part in values]
        return lines


def build_protocol(
    header: CacheHeader,
    matching: str,
    predictions: Iterable[PairPrediction],
    estimators: Sequence[Estimator],
    frame: PixelFrame,
    unit: ThresholdUnit,
    seed: int,
) -> EvaluationProtocol:
    """Describe an evaluation of a cache; `matching` are the settings of the network that a weight file does not fix."""
    frames = {
        "edge": "edge: (p + 1/2) scale - 1/2, pixel edges aligned",
        "lineage": "lineage: p scale, as published numbers",
    }
    angles, distances = (", ".join(f"{t:g}" for t in ts) for ts in (AUC_THRESHOLDS, PRECISION_THRESHOLDS))
    return EvaluationProtocol(
        data=f"{header.source}, {header.pairs} pairs",
        resolution=_resolution(predictions),
        weights=f"{header.weights} (sha256 {header.digest[:12]})",
        matching=matching,
        estimators=tuple(f"{estimator.name}: {estimator.settings}" for estimator in estimators),
        pose_error=f"max(rotation, translation folded at 90) in degrees, AUC at {angles}; no pose is infinite",
        precision=f"squared symmetric epipolar distance, normalised coordinates, below {distances}; mean over pairs",
        thresholds=f"of the estimators in px of the {'resized images' if unit == 'resized' else 'images as given'}",
        pixel_frame=frames[frame],
        seed=seed,
    )


def _resolution(predictions: Iterable[PairPrediction]) -> str:
    """Name the three commonest sizes."""
    sizes = Counter(size for prediction in predictions for size in prediction.sizes)
    shown = ", ".join(f"{width}x{height}" for (width, height), _ in sizes.most_common(3))
    return f"{shown} px" + (f" and {len(sizes) - 3} more sizes" if len(sizes) > 3 else "")
