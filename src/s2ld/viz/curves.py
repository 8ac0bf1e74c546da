"""Pictures of curves, as matplotlib figures that a notebook shows and `savefig` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from s2ld.types import FloatArray

TOP = 102.0  # per cent: a line at 100 % must not hide behind the frame
MOST = 0.9  # of the errors, which lie within the picture of a cumulative curve
FEW = 40  # points of a curve that are marked
MOST_INSIDE = 6  # entries of a legend that leaves the curves room


def draw_cumulative(
    errors: Mapping[str, Sequence[float]], end: float, marks: Sequence[float], label: str, title: str = ""
) -> Figure:
    """Draw the share of errors (y, %) that are at most x, a curve for each entry.

    Args:
        errors: by the text in the legend; at least one value each, infinite ones only lower the curve.
        end: furthest right end of the picture; it ends at the first of `marks` that most errors of all curves are
            below.
        marks: places of vertical lines.
        label: name and unit of the errors.
        title: drawn above.
    """
    figure = _figure()
    axes = figure.add_subplot()
    most = max(float(np.quantile(np.nan_to_num(values, posinf=end), MOST)) for values in errors.values())
    end = next((mark for mark in sorted(marks) if most <= mark), end)
    for name, values in errors.items():
        x = np.sort(np.asarray(values, np.float64))
        shown = int(np.searchsorted(x, end, side="right"))
        share = 100 * np.arange(shown + 1) / len(x)
        axes.step([0.0, *x[:shown], end], [*share, share[-1]], where="post", label=name)
    for mark in marks:
        axes.axvline(mark, color="0.85", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, end), ylim=(0, TOP), xlabel=label, ylabel="share of pairs below, %")
    axes.set_title(title, fontsize=8, parse_math=False)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def draw_shares(
    x: FloatArray,
    shares: Mapping[str, FloatArray],
    label: str,
    title: str = "",
    share_label: str = "share, %",
    strokes: Sequence[str] = ("-",),
) -> Figure:
    """Draw shares over a common x, a line for each entry.

    Args:
        x: (Q,) ascending.
        shares: (Q,) in [0, 1], by the text in the legend.
        label: name and unit of `x`.
        title: drawn above.
        share_label: name of the shares.
        strokes: of so many entries in a row, which share a colour; matplotlib's names of line styles.
    """
    figure = _figure()
    axes = figure.add_subplot()
    for number, (name, share) in enumerate(shares.items()):
        group, stroke = divmod(number, len(strokes))
        marker = "o" if len(x) == 1 else None  # a line needs two points
        axes.plot(x, 100 * share, label=name, marker=marker, color=f"C{group}", linestyle=strokes[stroke])
    axes.set(ylim=(0, TOP), xlabel=label, ylabel=share_label)
    axes.set_title(title, fontsize=8, parse_math=False)
    if len(shares) > MOST_INSIDE:
        figure.legend(loc="outside lower center", ncols=len(strokes), fontsize=8)
    else:
        axes.legend(fontsize=8)
    return figure


def draw_learning(panels: Mapping[str, Mapping[str, tuple[FloatArray, FloatArray]]], phases: Sequence[float]) -> Figure:
    """Draw what a training has logged against the pairs seen, a panel for each group of curves, one below the other.

    Args:
        panels: curves by the text in the legend, (Q,) pairs seen and (Q,) values each, by the label of their axis.
        phases: pairs seen at the end of each phase; vertical lines.
    """
    figure = _figure(len(panels))
    column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, curves) in zip(column, panels.items(), strict=True):
        for name, (pairs, values) in curves.items():
            axes.plot(pairs, values, label=name, marker="o" if len(pairs) < FEW else None, markersize=3)
        for end in phases[:-1]:
            axes.axvline(end, color="0.85", linewidth=0.8, zorder=0)
        axes.set_ylabel(label)
        axes.legend(fontsize=8)
    column[-1].set_xlabel("pairs seen")
    return figure


def draw_growth(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ticks: Mapping[float, str],
    label: str,
    value_label: str,
) -> Figure:
    """Draw how values grow with x, both by their logarithms, beside a dashed line of values that grow as x does.

    Args:
        curves: x ascending and values, positive, by the text in the legend.
        ticks: texts at places of x.
        label: name and unit of x.
        value_label: name and unit of the values.
    """
    figure = _figure()
    axes = figure.add_subplot()
    for number, (name, (x, values)) in enumerate(curves.items()):
        axes.plot(x, values, label=name, marker="o", color=f"C{number}")
        ends = np.array([x[0], x[-1]])
        axes.plot(ends, values[0] * ends / ends[0], color=f"C{number}", linestyle="--", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel=value_label)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_title("dashed: in proportion", fontsize=8)
    axes.legend(fontsize=8)
    return figure


def draw_against_diagonal(x: FloatArray, y: FloatArray, share: FloatArray, label: str, title: str = "") -> Figure:
    """Draw shares of right matches over their confidence, beside the diagonal, with the share of matches as bars.

    Args:
        x: (B,) mean confidence of each bin, in [0, 1].
        y: (B,) share of right matches in the bin, in [0, 1].
        share: (B,) of all matches, in [0, 1].
        label: of the line.
        title: drawn above.
    """
    figure = _figure()
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 100], color="0.7", linestyle="--", linewidth=0.8, label="a probability")
    axes.bar(x, 100 * share, width=0.03, color="0.85", label="share of the matches")
    axes.plot(x, 100 * y, marker="o", markersize=4, label=label)
    axes.set(xlim=(0, 1), ylim=(0, TOP), xlabel="confidence", ylabel="right matches, %")
    axes.set_title(title, fontsize=8, parse_math=False)
    axes.legend(loc="upper left", fontsize=8)
    return figure


def _figure(rows: int = 1) -> Figure:
    return Figure(figsize=(6, 4 if rows == 1 else 2.5 * rows), dpi=120, layout="constrained")
