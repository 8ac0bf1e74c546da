"""An evaluation as files: JSON, CSV, Markdown and pictures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from s2ld.evaluation.evaluate import KINDS, Scores, threshold_name
from s2ld.evaluation.metrics import AUC_THRESHOLDS, CORNER_THRESHOLDS, MMA_THRESHOLDS, PRECISION_THRESHOLDS, pose_auc
from s2ld.evaluation.pair_scores import PairScores
from s2ld.evaluation.protocol import EvaluationProtocol
from s2ld.evaluation.report.tables import OUR_TYPE, to_markdown, to_text
from s2ld.evaluation.sweep import Sweep, draw_sweep
from s2ld.files import whole_file
from s2ld.viz.curves import draw_cumulative, draw_shares

__all__ = ["draw_pose_curves", "to_text", "write_report"]

RESULTS_NAME = "results.json"
ROWS_NAME = "results.csv"
POSE_ERROR = "/pose_error_deg"
"""After the name of an estimator, the title of a column of results.csv."""
CORNER_ERROR = "corner/error_px"
"""Title of a column of results.csv."""
CURVE_END = 30.0  # degrees, right end of the picture


def write_report(
    folder: str | Path,
    scores: Scores,
    protocol: EvaluationProtocol,
    sweep: Sweep | None = None,
    method_type: str = OUR_TYPE,
) -> None:
    """Write results.json, results.csv (a line a pair), table.md and the pictures that there is something for.

    Those are curve.png (pose errors), mma.png (pairs of one plane) and sweep.png. `method_type` goes into the README's
    row, as Sparse or Dense.

    Raises:
        S2LDError: a file cannot be written.
    """
    folder = Path(folder)
    # JSON knows no NaN: a number that could not be measured is null
    numbers = {name: value if math.isfinite(value) else None for name, value in scores.numbers.items()}
    content = {"protocol": asdict(protocol), "scores": numbers} | ({"sweep": asdict(sweep)} if sweep else {})
    with whole_file(folder / RESULTS_NAME) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    with whole_file(folder / "table.md") as part:
        part.write_text(to_markdown(scores.numbers, protocol, method_type))
    with whole_file(folder / ROWS_NAME) as part:
        _write_csv(part, scores.pairs)
    posed = [pair.poses for pair in scores.pairs if pair.poses is not None]
    figures: dict[str, Figure] = {}
    if posed:
        errors = {name: [poses[name].error for poses in posed] for name in posed[0]}
        figures["curve"] = draw_pose_curves(errors, protocol)
    if "mma@1px" in scores.numbers:
        figures["mma"] = draw_mma(scores.numbers, protocol)
    if sweep is not None:
        figures["sweep"] = draw_sweep(sweep, f"{protocol.data}; {protocol.weights}")
    for name, figure in figures.items():
        with whole_file(folder / f"{name}.png") as part:
            figure.savefig(part, format="png")


def draw_pose_curves(errors: Mapping[str, Sequence[float]], protocol: EvaluationProtocol) -> Figure:
    """Draw the share of pairs whose pose error is below x degrees, a curve an estimator.

    Args:
        errors: by estimator, of each pair: degrees, infinite without a pose; NaN where the true one is not known.
        protocol: of which data and weights go above.
    """
    known = {name: [value for value in values if not math.isnan(value)] for name, values in errors.items()}
    labelled = {_labelled(name, values, AUC_THRESHOLDS): values for name, values in known.items()}
    title = f"{protocol.data}; {protocol.weights}"
    return draw_cumulative(labelled, CURVE_END, AUC_THRESHOLDS, "pose error, degrees", title)


def draw_corner_curve(errors: Sequence[float], protocol: EvaluationProtocol) -> Figure:
    """Draw the share of pairs of one plane whose corner error is below x px; see `draw_pose_curves`."""
    title = f"{protocol.data}; {protocol.weights}"
    return draw_cumulative(
        {_labelled("homography", errors, CORNER_THRESHOLDS): errors},
        max(CORNER_THRESHOLDS),
        CORNER_THRESHOLDS,
        "corner error, resized px",
        title,
    )


def _labelled(name: str, errors: Sequence[float], thresholds: Sequence[float]) -> str:
    areas = "/".join(f"{100 * area:.1f}" for area in pose_auc(errors, thresholds))
    return f"{name}: AUC@{'/'.join(f'{threshold:g}' for threshold in thresholds)} {areas}"


def draw_mma(numbers: Mapping[str, float], protocol: EvaluationProtocol) -> Figure:
    """Draw the mean share of matches within x px of the true homography, for all pairs and for each kind.

    Args:
        numbers: the scores by name (`summarise`), of pairs of one plane.
        protocol: of which data and weights go above.
    """
    prefixes = {"all pairs": "mma", **{kind: f"mma/{kind}" for kind in KINDS if f"mma/{kind}@1px" in numbers}}
    curves = {
        label: np.array([numbers[f"{prefix}@{px:g}px"] for px in MMA_THRESHOLDS]) / 100
        for label, prefix in prefixes.items()
    }
    title = f"{protocol.data}; {protocol.weights}"
    return draw_shares(np.array(MMA_THRESHOLDS), curves, "reprojection error, px of image 1 as given", title, "MMA, %")


def _write_csv(path: Path, pairs: Sequence[PairScores]) -> None:
    rows = [_row(pair) for pair in pairs]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _row(pair: PairScores) -> dict[str, object]:
    """Return the line of a pair; what it has no number of is left out. Errors are medians over repeats."""
    row: dict[str, float] = {}
    if pair.precisions is not None:
        names = (f"precision@{threshold_name(threshold)}" for threshold in PRECISION_THRESHOLDS)
        row |= zip(names, pair.precisions, strict=True)
    for name, outcome in (pair.poses or {}).items():
        row[f"{name}{POSE_ERROR}"] = outcome.error
        row[f"{name}/inliers"] = float(np.mean(outcome.inliers))
    if pair.endpoint is not None and np.isfinite(pair.endpoint).any():
        row["endpoint/median_px"] = float(np.median(pair.endpoint[np.isfinite(pair.endpoint)]))
    if pair.repeatability is not None:
        row["endpoint/repeatability"] = pair.repeatability
    if pair.corner_error is not None:
        row[CORNER_ERROR] = pair.corner_error
    if pair.mma is not None:
        row |= zip((f"mma@{threshold:g}px" for threshold in MMA_THRESHOLDS), pair.mma, strict=True)
    shown = {name: f"{value:.6g}" for name, value in row.items()}
    return {"image0": pair.names[0], "image1": pair.names[1], "source": pair.source, "matches": pair.matches, **shown}
