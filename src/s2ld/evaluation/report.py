"""Scores as a printed table, JSON, CSV, a row for a Markdown table, and a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from s2ld.evaluation.evaluate import Scores, as_numbers, threshold_name
from s2ld.evaluation.metrics import AUC_THRESHOLDS, PRECISION_THRESHOLDS
from s2ld.evaluation.protocol import EvaluationProtocol

CURVE_END = 30.0  # degrees, right end of the picture


def to_text(scores: Scores, protocol: EvaluationProtocol) -> str:
    """Return the table as it is printed, the protocol above it; shares and areas in per cent."""
    lines = [f"  {line}" for line in protocol.lines()]
    header = ["estimator", *(f"AUC@{threshold:g}" for threshold in AUC_THRESHOLDS), "no pose"]
    rows = [
        [name, *(f"{100 * value:.2f}" for value in pose.auc), f"{100 * pose.failed:.1f} %"]
        for name, pose in scores.poses.items()
    ]
    lines += ["", *_align([header, *rows]), ""]
    precisions = zip(PRECISION_THRESHOLDS, scores.precisions, strict=True)
    lines.append(
        "  ".join(f"precision@{threshold_name(threshold)} {100 * value:.2f}" for threshold, value in precisions)
        + f"  matches a pair {scores.matches:.0f}"
    )
    if scores.endpoint is not None:
        numbers = {name: value for name, value in as_numbers(scores).items() if name.startswith("endpoint/")}
        lines.append("  ".join(f"{name.removeprefix('endpoint/')} {value:.2f}" for name, value in numbers.items()))
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
    (folder / "results.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    (folder / "table.md").write_text(to_markdown(scores, protocol))
    _write_csv(folder / "results.csv", scores)
    _draw_curves(folder / "curve.png", scores, protocol)


def _write_csv(path: Path, scores: Scores) -> None:
    estimators = list(scores.poses)
    columns = ["image0", "image1", "matches"]
    columns += [f"precision@{threshold_name(threshold)}" for threshold in PRECISION_THRESHOLDS]
    columns += [f"{name}/pose_error_deg" for name in estimators]
    columns += ["endpoint/median_px", "endpoint/repeatability"] if scores.endpoint is not None else []
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
            writer.writerow(row)


def _draw_curves(path: Path, scores: Scores, protocol: EvaluationProtocol) -> None:
    """Draw the share of pairs (y) whose pose error is below x degrees, a curve an estimator."""
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in _curves(scores).items():
        x, y = curve
        axes.step(x, y, where="post", label=f"{name}: AUC@5/10/20 " + _areas(scores, name))
    for threshold in AUC_THRESHOLDS:
        axes.axvline(threshold, color="0.85", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, CURVE_END), ylim=(0, 100), xlabel="pose error, degrees", ylabel="share of pairs below, %")
    axes.set_title(f"{protocol.data}; {protocol.weights}", fontsize=8)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path)


def _curves(scores: Scores) -> Mapping[str, tuple[list[float], list[float]]]:
    curves = {}
    for name in scores.poses:
        errors = sorted(pair.pose_errors[name] for pair in scores.pairs)
        shown = [error for error in errors if error <= CURVE_END]
        share = [100 * count / len(errors) for count in range(len(shown) + 1)]
        curves[name] = ([0.0, *shown, CURVE_END], [*share, share[-1]])
    return curves


def _areas(scores: Scores, name: str) -> str:
    return "/".join(f"{100 * value:.1f}" for value in scores.poses[name].auc)


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
