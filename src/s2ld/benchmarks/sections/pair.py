"""Section `pair`: time and memory of our networks beside kornia's LoFTR, against their targets."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from s2ld.benchmarks.sections.run import markdown
from s2ld.errors import S2LDError

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.types import ImageBatch

KEYS = ("loftr", "paper", "paper-bf16", "lite")
"""Keys of `s2ld.benchmarks.timing.ROWS`, known before torch is loaded; the first is the yardstick."""
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
LEAST_SIDE = 64  # px: from here on all windows and borders have room


@dataclass(frozen=True)
class Measured:
    """What was measured of one row."""

    key: str
    title: str
    seconds: float
    """Median time of a pair."""
    ratio: float
    """Median, over the rounds, of the time by that of the yardstick in the same round."""
    time_target: float | None
    megabytes: float | None
    """Peak memory of a process of its own; None where it was not measured."""
    memory_target: float | None
    """MB; the share of the yardstick's peak, where it is one, has been taken."""

    def content(self) -> dict[str, Any]:
        """Return it for a JSON file; what was not measured is null."""
        return asdict(self) | {"holds": dict(zip(("time", "memory"), self.verdicts(), strict=True))}

    def verdicts(self) -> tuple[bool | None, bool | None]:
        """Return whether the targets of time and memory hold; None where there is none or nothing was measured."""
        return _holds(self.ratio, self.time_target), _holds(self.megabytes, self.memory_target)


def _holds(value: float | None, target: float | None) -> bool | None:
    return None if value is None or target is None else value <= target


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this section alone."""
    group = parser.add_argument_group("section pair")
    group.add_argument("--rows", default=",".join(KEYS), metavar="A,B", help="default: %(default)s")
    group.add_argument(
        "--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"), help="px (default: 640 480)"
    )
    group.add_argument("--matches", type=int, default=1000, help="that the fine stages get (default: %(default)s)")
    group.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        default="cpu",
        help="seconds that processors spent on it, which other processes disturb less, or that passed (default: cpu)",
    )
    group.add_argument("--no-memory", action="store_true", help="measure times alone")
    group.add_argument("--stages", action="store_true", help="also tell where the time of the paper configuration goes")


def check(args: argparse.Namespace) -> None:
    """Raise `S2LDError` for options of this section that cannot be."""
    if args.matches < 1:
        raise S2LDError(f"--matches must be at least 1, not {args.matches}")
    if min(args.size) < LEAST_SIDE or any(side % 8 for side in args.size):
        raise S2LDError(f"--size: sides must be multiples of 8, at least {LEAST_SIDE} px, not {args.size}")
    unknown = [name for name in args.rows.split(",") if name and name not in KEYS]
    if unknown:
        raise S2LDError(f"--rows: there is no row {unknown[0]!r}; use some of {','.join(KEYS)}")


def run(args: argparse.Namespace, threads: int) -> tuple[list[str], list[Measured]]:
    """Measure and print the section; return its protocol and rows. `args` have the options above and `rounds`."""
    wanted = args.rows.split(",")
    lines = protocol(args)
    print("\n".join(f"  {line}" for line in lines), flush=True)
    rows = measure([key for key in KEYS if key in wanted or key == KEYS[0]], args, threads)  # the yardstick always
    print("", to_table(rows), sep="\n")
    if args.stages:
        print(*(text for precision in ("fp32", "bf16") for text in stages(precision, args)), sep="\n")
    return lines, rows


def protocol(args: argparse.Namespace) -> list[str]:
    """Return what the numbers depend on, a line each."""
    return [
        f"images: noise, {args.size[0]}x{args.size[1]} px, one pair at a time",
        "weights: the shipped ones of Lite, random ones of the others",
        f"matches: {args.matches} evenly spread ones for every fine stage, whatever the sparse stage found",
        f"time: {args.clock} seconds from images in memory to points, median of {args.rounds} rounds after one that is "
        "not counted; in a round all rows in turn; / LoFTR: median of the ratios within a round",
        "memory: peak of a fresh process with Python, PyTorch and weights in it, two pairs, one row after the other",
    ]


def measure(keys: Sequence[str], args: argparse.Namespace, threads: int) -> list[Measured]:
    """Measure rows, of which the first is the yardstick; `args` are those of `build_parser`."""
    import torch

    from s2ld.benchmarks.matchers import time_interleaved
    from s2ld.benchmarks.timing import ROWS, TimedRow, peak_memory

    size = (args.size[0], args.size[1])
    peaks = {key: None if args.no_memory else peak_memory(key, size, args.matches, threads) for key in keys}
    built = [TimedRow(key, ROWS[key].build(args.matches)) for key in keys]
    times = time_interleaved(built, _pairs(size, args.rounds), torch.device("cpu"), CLOCKS[args.clock])
    measured = []
    for key in keys:
        row, yardstick = ROWS[key], peaks[keys[0]]
        share = row.memory * yardstick if row.memory and yardstick else None
        measured.append(
            Measured(
                key=key,
                title=row.title,
                seconds=statistics.median(times[key]),
                ratio=statistics.median(a / b for a, b in zip(times[key], times[keys[0]], strict=True)),
                time_target=row.time,
                megabytes=peaks[key],
                memory_target=row.megabytes if share is None else share,
            )
        )
    return measured


def _pairs(size: tuple[int, int], rounds: int) -> Iterator[tuple[ImageBatch, ImageBatch]]:
    from s2ld.benchmarks.timing import noise
    from s2ld.log import Progress

    for seed in Progress(range(rounds + 1), unit="round"):
        yield noise(size, seed)


def to_table(rows: Sequence[Measured]) -> str:
    """Return the rows as a Markdown table."""
    cells = [["", "s a pair", "/ LoFTR", "at most", "holds", "peak MB", "at most", "holds"]]
    for row in rows:
        time, memory = ({None: "-", True: "yes", False: "no"}[holds] for holds in row.verdicts())
        numbers = [f"{row.seconds:.3f}", f"{row.ratio:.3f}", _cell(row.time_target, 2), time]
        cells.append([row.title, *numbers, _cell(row.megabytes, 0), _cell(row.memory_target, 0), memory])
    return markdown(cells)


def stages(precision: str, args: argparse.Namespace) -> list[str]:
    """Return lines that say where the time of the paper configuration goes; `args` are those of `build_parser`."""
    from s2ld.benchmarks.stages import measure_rates, measure_stages, stage_table

    rates = measure_rates(precision, 2 * args.rounds)
    measured = measure_stages(precision, (args.size[0], args.size[1]), args.matches, args.rounds)
    limits = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    head = f"paper configuration, {precision}: least CPU seconds of {args.rounds} runs; limit, GFLOP/s: {limits}"
    return ["", head, "", markdown(stage_table(measured, max(rates.values())))]


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
