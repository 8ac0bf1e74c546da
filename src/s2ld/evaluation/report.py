"""Scores as a printed table, JSON, CSV, a row for a Markdown table, and a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from s2ld.evaluation.evaluate import Scores, as_numbers, threshold_name
from s2ld.evaluation.metrics import AUC_THRESHOLDS, PRECISION_THRESHOLDS, pose_auc
from s2ld.evaluation.protocol import EvaluationProtocol
from s2ld.viz.curves import draw_cumulative

RESULTS_NAME = "results.json"
ROWS_NAME = "results.csv"
POSE_ERROR = "/pose_error_deg"
"""After the name of an estimator, the title of a column of results.csv."""
CURVE_END = 30.0  # degrees, right end of the picture


def to_text(numbers: Mapping[str, float], protocol: EvaluationProtocol) -> str:
    """Return the table as it is printed, the protocol above it; shares and areas in per cent.

    Args:
        numbers: the scores by name (`as_numbers`).
        protocol: what they were measured with.
    """
    lines = [f"  {line}" for line in protocol.lines()]
    header = ["estimator", *(f"AUC@{threshold:g}" for threshold in AUC_THRESHOLDS), "no pose"]
    rows = []
    for name in (key.removesuffix("/failed") for key in numbers if key.endswith("/failed")):
        areas = (f"{numbers[f'{name}/auc@{threshold:g}']:.2f}" for threshold in AUC_THRESHOLDS)
        rows.append([name, *areas, f"{numbers[f'{name}/failed']:.1f} %"])
    lines += ["", *_align([header, *rows]), ""]
    precisions = (f"precision@{threshold_name(threshold)}" for threshold in PRECISION_THRESHOLDS)
    lines.append(
        "  ".join(f"{name} {numbers[name]:.2f}" for name in precisions) + f"  matches a pair {numbers['matches']:.0f}"
    )
    for group in ("endpoint/", "corner/"):
        parts = [(name, value) for name, value in numbers.items() if name.startswith(group)]
        if parts:
            shown = (f"{name.removeprefix(group)} {value:.2f}" for name, value in parts)
            lines.append(f"{group.removesuffix('/')}: {'  '.join(shown)}")
    return "\n".join(lines)


def to_markdown(scores: Scores, protocol: EvaluationProtocol) -> str:
    """Return a Markdown table of one row (per cent) and, below it, the protocol."""
    numbers = as_numbers(scores)
    head, rule = list(numbers), ["---"] * len(numbers)
    cells = [f"{value:.2f}".removesuffix(".00") for value in numbers.values()]
    table = [f"| {' | '.join(row)} |" for row in (head, rule, cells)]
    return "\n".join([*table, "", "Protocol: " + "; ".join(protocol.lines()) + ".", ""])


def write_report(folder: str | Path, scores: Scores, protocol: EvaluationProtocol) -> None:
    """Write results.json, results.csv (a line a pair), table.md and curve.png into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # JSON knows no NaN: a number that could not be measured is null
    numbers = {name: value if math.isfinite(value) else None for name, value in as_numbers(scores).items()}
    content = {"protocol": asdict(protocol), "scores": numbers}
    (folder / RESULTS_NAME).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    (folder / "table.md").write_text(to_markdown(scores, protocol))
    _write_csv(folder / ROWS_NAME, scores)
    errors = {name: [pair.pose_errors[name] for pair in scores.pairs] for name in scores.poses}
    draw_pose_curves(errors, protocol).savefig(folder / "curve.png")


def draw_pose_curves(errors: Mapping[str, Sequence[float]], protocol: EvaluationProtocol) -> Figure:
    """Draw the share of pairs whose pose error is below x degrees, a curve an estimator.

    Args:
        errors: by estimator, of each pair: degrees, infinite without a pose.
        protocol: of which data and weights go above.
    """
    labelled = {}
    for name, values in errors.items():
        areas = "/".join(f"{100 * area:.1f}" for area in pose_auc(values))
        labelled[f"{name}: AUC@{'/'.join(f'{threshold:g}' for threshold in AUC_THRESHOLDS)} {areas}"] = values
    title = f"{protocol.data}; {protocol.weights}"
    return draw_cumulative(labelled, CURVE_END, AUC_THRESHOLDS, "pose error, degrees", title)


def _write_csv(path: Path, scores: Scores) -> None:
    estimators = list(scores.poses)
    columns = ["image0", "image1", "matches"]
    columns += [f"precision@{threshold_name(threshold)}" for threshold in PRECISION_THRESHOLDS]
    columns += [f"{name}{POSE_ERROR}" for name in estimators]
    columns += ["endpoint/median_px", "endpoint/repeatability"] if scores.endpoint is not None else []
    columns += ["corner/error_px"] if scores.corners is not None else []
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for pair in scores.pairs:
            row: list[object] = [*pair.names, pair.matches, *(f"{value:.6g}" for value in pair.precisions)]
            row += [f"{pair.pose_errors[name]:.6g}" for name in estimators]
            if scores.endpoint is not None:
                finite = pair.endpoint[np.isfinite(pair.endpoint)] if pair.endpoint is not None else np.zeros(0)
                row += [f"{np.median(finite):.6g}" if len(finite) else ""]
                row += ["" if pair.repeatability is None else f"{pair.repeatability:.6g}"]
            if scores.corners is not None:
                row += ["" if pair.corner_error is None else f"{pair.corner_error:.6g}"]
            writer.writerow(row)


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
