"""The results of an ablation as tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2ld.files import whole_file

STEM = "ablations"
NOTHING = "-"


@dataclass(frozen=True)
class Result:
    """What was measured of one variant."""

    steps: int
    """Optimiser steps that it was trained for."""
    max_steps: int
    """Those that it should have been trained for."""
    metrics: dict[str, float]
    """``val_SOURCE/METRIC`` and the mean of the sources' scores, ``val/score``."""

    @property
    def trained(self) -> str:
        """The steps, and of how many where a time limit came before the end."""
        return str(self.steps) if self.steps >= self.max_steps else f"{self.steps} of {self.max_steps}"

    @property
    def summary(self) -> str:
        """One line."""
        return f"{self.trained} steps, score {self.metrics.get('val/score', float('nan')):.4f}"

    def of_source(self, source: str) -> dict[str, float]:
        """Return the metrics of one source by their own names."""
        prefix = f"val_{source}/"
        return {key.removeprefix(prefix): value for key, value in self.metrics.items() if key.startswith(prefix)}

    @property
    def sources(self) -> list[str]:
        """The sources that were validated on."""
        found = [key.partition("/")[0].removeprefix("val_") for key in self.metrics if key.startswith("val_")]
        return list(dict.fromkeys(found))


def write_tables(folder: Path, results: Mapping[str, Result], caption: Mapping[str, str]) -> None:
    """Write `ablations.csv` (a line for each variant and source) and `ablations.md` (a table for each source).

    Args:
        folder: where they go.
        results: by variant, in the order of the rows; whatever metrics they have become the columns.
        caption: what the variants have in common.

    Raises:
        S2LDError: the files cannot be written.
    """
    sources = _union(result.sources for result in results.values())
    columns = {source: _union(result.of_source(source) for result in results.values()) for source in sources}
    with whole_file(folder / f"{STEM}.csv") as part, part.open("w", newline="") as file:
        names = _union(columns.values())
        writer = csv.DictWriter(file, ["variant", "steps", "source", *names], lineterminator="\n")
        writer.writeheader()
        for variant, result in results.items():
            for source in result.sources:
                row = {"variant": variant, "steps": result.steps, "source": source}
                writer.writerow({**row, **result.of_source(source)})
    with whole_file(folder / f"{STEM}.md") as part:
        part.write_text(_markdown(results, columns, caption))


def _markdown(results: Mapping[str, Result], columns: Mapping[str, Sequence[str]], caption: Mapping[str, str]) -> str:
    """Return the head, the table of the mean scores and one table a source."""
    head = "; ".join(f"{name}: {value}" for name, value in caption.items())
    overall = [(name, result.trained, _number(result.metrics.get("val/score"))) for name, result in results.items()]
    parts = [f"# Ablations\n\n{head}\n", _table(("variant", "steps", "mean score"), overall)]
    for source, metrics in columns.items():
        rows = []
        for name, result in results.items():
            values = result.of_source(source)
            rows.append((name, *(_number(values.get(metric)) for metric in metrics)))
        parts.append(f"## On held-out {source}\n\n{_table(('variant', *metrics), rows)}")
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in ([name.replace("_", " ") for name in header], rule, *rows))


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def _union(groups: Iterable[Iterable[str]]) -> list[str]:
    """Return each name once, in the order of their first appearance."""
    return list(dict.fromkeys(name for group in groups for name in group))
