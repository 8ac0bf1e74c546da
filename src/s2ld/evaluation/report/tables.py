"""Numbers of an evaluation as text: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from s2ld.evaluation.evaluate import HIGH, KINDS, LINEAGE_PRECISION, LINEAGE_THRESHOLD, LOW, SPREAD, threshold_name
from s2ld.evaluation.metrics import AUC_THRESHOLDS, CORNER_THRESHOLDS, MMA_THRESHOLDS, PRECISION_THRESHOLDS
from s2ld.evaluation.protocol import EvaluationProtocol

README_HEAD = ("Method", "Type", *(f"AUC@{angle:g}°" for angle in AUC_THRESHOLDS), LINEAGE_PRECISION)
OUR_TYPE = "Sparse-to-Dense"
"""What this method is, in the README's table."""


def with_interval(numbers: Mapping[str, float], name: str, digits: int = 2) -> str:
    """Return "49.73 ±0.21 [47.1, 52.2]": value, standard deviation over repeats and interval, as far as they are."""
    text = f"{numbers[name]:.{digits}f}"
    if f"{name}{SPREAD}" in numbers:
        text += f" ±{numbers[f'{name}{SPREAD}']:.{digits}f}"
    if f"{name}{LOW}" in numbers:
        low, high = (f"{numbers[name + end]:.{max(digits - 1, 0)}f}" for end in (LOW, HIGH))
        text += f" [{low}, {high}]"
    return text


def to_text(numbers: Mapping[str, float], protocol: EvaluationProtocol) -> str:
    """Return the table as it is printed, the protocol above it; shares and areas in per cent.

    Args:
        numbers: the scores by name (`summarise`).
        protocol: what they were measured with.
    """
    lines = [*(f"  {line}" for line in protocol.lines()), ""]
    if any(name.endswith(LOW) for name in numbers):
        lines.append("in brackets: 95 % interval by resampling the pairs, taken as independent")
    if any(name.endswith(SPREAD) for name in numbers):
        lines.append("after ±: standard deviation over the repeats of the estimation")
    lines += [*_pose_table(numbers), ""]
    for threshold in PRECISION_THRESHOLDS:
        name = f"precision@{threshold_name(threshold)}"
        if name in numbers:
            alias = f" (the paper's {LINEAGE_PRECISION})" if threshold == LINEAGE_THRESHOLD else ""
            lines.append(f"{name} {with_interval(numbers, name)}{alias}")
    lines.append(f"matches a pair {with_interval(numbers, 'matches', 0)}")
    endpoint = [
        f"{name.removeprefix('endpoint/')} {numbers[name]:.2f}" for name in numbers if name.startswith("endpoint/")
    ]
    lines += [f"endpoint: {'  '.join(endpoint)}"] if endpoint else []
    return "\n".join([*lines, *_plane_lines(numbers)])


def _pose_table(numbers: Mapping[str, float]) -> list[str]:
    names = estimator_names(numbers)
    if not names:
        return ["no pair has a true pose: no pose error, no epipolar precision"]
    rows = [["estimator", *(f"AUC@{angle:g}" for angle in AUC_THRESHOLDS), "no pose", "inliers", "of matches"]]
    for name in names:
        areas = (with_interval(numbers, f"{name}/auc@{angle:g}") for angle in AUC_THRESHOLDS)
        failed, inliers, ratio = (numbers[f"{name}/{key}"] for key in ("failed", "inliers", "inlier_ratio"))
        rows.append([name, *areas, f"{failed:.1f} %", f"{inliers:.0f}", f"{ratio:.1f} %"])
    return align(rows)


def _plane_lines(numbers: Mapping[str, float]) -> list[str]:
    if "corner/no_homography" not in numbers:
        return []
    names = [f"corner/auc@{px:g}px" for px in CORNER_THRESHOLDS]
    shown = [f"{name.removeprefix('corner/')} {with_interval(numbers, name)}" for name in names]
    lines = [f"corner: {'  '.join(shown)}  no_homography {numbers['corner/no_homography']:.2f}"]
    rows = [["MMA, px of image 1 as given", *(f"{px:g}" for px in MMA_THRESHOLDS)]]
    for prefix in ("mma", *(f"mma/{kind}" for kind in KINDS)):
        if f"{prefix}@1px" in numbers:
            label = prefix.removeprefix("mma").removeprefix("/") or "all pairs"
            rows.append([label, *(f"{numbers[f'{prefix}@{px:g}px']:.1f}" for px in MMA_THRESHOLDS)])
    return [*lines, *align(rows)]


def estimator_names(numbers: Mapping[str, float]) -> list[str]:
    """Return the pose estimators that there are numbers of."""
    return [name.removesuffix("/failed") for name in numbers if name.endswith("/failed")]


def to_markdown(numbers: Mapping[str, float], protocol: EvaluationProtocol, method_type: str = OUR_TYPE) -> str:
    """Return rows for the README's table (per cent), all numbers with their intervals and, below, the protocol."""
    weights = protocol.weights.split(" (")[0].removesuffix(".safetensors")
    rows = []
    for name in estimator_names(numbers):
        values = [numbers[f"{name}/auc@{angle:g}"] for angle in AUC_THRESHOLDS] + [numbers[LINEAGE_PRECISION]]
        rows.append([f"{weights}, {name}", method_type, *(f"{value:.2f}%" for value in values)])
    readme = _markdown([list(README_HEAD), *rows]) if rows else []
    table = [["number", "value", "95 % interval", "± over repeats"]]
    for name in numbers:
        if not name.endswith((LOW, HIGH, SPREAD)):
            ends = [f"{numbers[name + end]:.1f}" for end in (LOW, HIGH) if name + end in numbers]
            spread = f"{numbers[name + SPREAD]:.2f}" if name + SPREAD in numbers else ""
            value = f"{numbers[name]:.2f}".removesuffix(".00")
            table.append([name, value, " to ".join(ends), spread])
    return "\n".join(
        [*readme, "", *_markdown(table), "", "Protocol: " + "; ".join(protocol.lines()) + ".", ""]
    ).lstrip()


def align(rows: list[list[str]]) -> list[str]:
    """Return the rows with columns of equal width, the first one to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def _markdown(rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]
