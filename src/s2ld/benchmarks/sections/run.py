"""Which sections `s2ld benchmark speed` has, and how one is run and printed."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from s2ld.benchmarks.outcome import Outcome
from s2ld.extras import need

PAIR = "pair"


@dataclass(frozen=True)
class Section:
    """A section by what measures it."""

    title: str
    function: str
    """`module:function`, imported when it is run. It returns `list[Outcome]`, takes those options by name that it has
    parameters for (threads, rounds, picture), and the text of its docstring above `Args:` is the protocol."""
    minutes: float
    """About what it takes on two cores that do nothing else."""
    most_rounds: int | None = None
    """Of those that --rounds asks for, where one takes minutes."""
    extra: str = "eval"
    """What of pyproject.toml it needs to be installed."""


SECTIONS: Mapping[str, Section] = {
    PAIR: Section("one pair beside kornia's LoFTR", "s2ld.benchmarks.sections.pair:measure", 3.5),
    "large": Section("large images", "s2ld.benchmarks.sections.large:measure", 3),
    "largest": Section("the paper configuration at 3200x2400", "s2ld.benchmarks.sections.large:measure_largest", 8),
    "start": Section(
        "from the start of a process to the first match", "s2ld.benchmarks.sections.start:measure", 0.5, extra="demo"
    ),
    "many": Section("many pairs of few images", "s2ld.benchmarks.sections.many:measure", 1.5),
    "fast": Section("compiled for one size", "s2ld.benchmarks.sections.fast:measure", 1),
    "onnx": Section("ONNX files", "s2ld.benchmarks.sections.onnx:measure", 3, extra="onnx"),
    "loading": Section("pairs that a loader brings", "s2ld.benchmarks.training_step:measure_loading", 1, extra="train"),
    "training": Section(
        "training step", "s2ld.benchmarks.training_step:measure_training", 8, most_rounds=2, extra="train"
    ),
    "shift": Section("errors by shift modulo a cell", "s2ld.benchmarks.sections.shift:measure", 1),
    "gpu": Section("on a GPU", "s2ld.benchmarks.gpu_table:measure_gpu", 10, extra="train"),
}
"""By name on the command line, in the order in which they are run; `PAIR` has a table and options of its own."""


@dataclass(frozen=True)
class Report:
    """What a section says."""

    protocol: list[str]
    """What the numbers depend on, a line each."""
    outcomes: list[Outcome]
    minutes: float
    """That it took by the clock."""

    def content(self) -> dict[str, Any]:
        """Return it for a JSON file, each outcome with whether its target holds."""
        outcomes = [asdict(outcome) | {"holds": outcome.holds} for outcome in self.outcomes]
        return {"protocol": self.protocol, "minutes": self.minutes, "outcomes": outcomes}


def run(section: Section, options: Mapping[str, object]) -> Report:
    """Import and run a section with those of the options that it takes; raises what it raises."""
    start = time.perf_counter()
    need(section.extra)
    module, _, name = section.function.partition(":")
    function = getattr(import_module(module), name)
    wanted = inspect.signature(function).parameters
    outcomes = function(**{key: value for key, value in options.items() if key in wanted})
    return Report(_protocol(function), outcomes, (time.perf_counter() - start) / 60)


def _protocol(function: object) -> list[str]:
    """The docstring's lines before its sections for programmers."""
    lines = (inspect.getdoc(function) or "").splitlines()
    ends = [i for i, line in enumerate(lines) if line in ("Args:", "Raises:", "Returns:")]
    return [line for line in lines[: ends[0] if ends else None] if line]


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Return outcomes as a Markdown table."""
    cells = [["", "measured", "target", "holds", ""]]
    for outcome in outcomes:
        target = "-"
        if outcome.target is not None:
            target = f"at {'least' if outcome.at_least else 'most'} {_number(outcome.target, outcome.unit)}"
        measured = "-" if outcome.value is None else _number(outcome.value, outcome.unit)
        holds = {None: "-", True: "yes", False: "no"}[outcome.holds]
        cells.append([outcome.title, measured, target, holds, outcome.note])
    return markdown(cells)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """Return a table, its head first, as Markdown."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    lines = [padded[0], ["-" * width for width in widths], *padded[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float, unit: str) -> str:
    """Three digits, or all of a whole number."""
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip()
