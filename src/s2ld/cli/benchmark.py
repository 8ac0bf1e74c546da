"""`scripts/benchmark.py [options]`: time and memory of our networks beside kornia's LoFTR, against their targets."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from s2ld.cli.benchmark_matchers import describe_machine, set_threads
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.files import whole_file

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    from s2ld.types import ImageBatch

KEYS = ("loftr", "paper", "paper-bf16", "lite")
"""Keys of `s2ld.evaluation.timing.ROWS`, known before torch is loaded; the first is the yardstick."""
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

    def verdicts(self) -> tuple[bool | None, bool | None]:
        """Return whether the targets of time and memory hold; None where there is none or nothing was measured."""
        return _holds(self.ratio, self.time_target), _holds(self.megabytes, self.memory_target)


def _holds(value: float | None, target: float | None) -> bool | None:
    return None if value is None or target is None else value <= target


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="benchmark.py",
        description="Time and peak memory of our networks on the CPU beside kornia's LoFTR, all in turn in one run, "
        "against their targets. Nothing is downloaded: weights are random where none ship, and images are noise.",
    )
    parser.add_argument("--rows", default=",".join(KEYS), metavar="A,B", help="default: %(default)s")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"), help="px (default: 640 480)"
    )
    parser.add_argument("--matches", type=int, default=1000, help="that the fine stages get (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="timed runs (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        default="cpu",
        help="seconds that processors spent on it, which other processes disturb less, or that passed (default: cpu)",
    )
    parser.add_argument("--no-memory", action="store_true", help="measure times alone")
    parser.add_argument(
        "--stages", action="store_true", help="also tell where the time of the paper configuration goes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write protocol and numbers")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Measured]:
    """Run the command and return a row for each network.

    Raises:
        S2LDError: bad arguments, or a file that cannot be written.
    """
    args = build_parser().parse_args(argv)
    for name in ("rounds", "threads", "matches"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise S2LDError(f"--{name} must be at least 1, not {getattr(args, name)}")
    if min(args.size) < LEAST_SIDE or any(side % 8 for side in args.size):
        raise S2LDError(f"--size: sides must be multiples of 8, at least {LEAST_SIDE} px, not {args.size}")
    wanted = [name for name in args.rows.split(",") if name]
    unknown = [name for name in wanted if name not in KEYS]
    if unknown:
        raise S2LDError(f"--rows: there is no row {unknown[0]!r}; use some of {','.join(KEYS)}")
    keys = [key for key in KEYS if key in wanted or key == KEYS[0]]  # the yardstick always
    threads = set_threads(args.threads)
    lines = protocol(args, threads)
    print("\n".join(f"  {line}" for line in lines), flush=True)
    rows = measure(keys, args, threads)
    print("", to_table(rows), sep="\n")
    if args.stages:
        print(*(text for precision in ("fp32", "bf16") for text in stages(precision, args)), sep="\n")
    if args.json is not None:
        write_json(args.json, lines, rows)
    return rows


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("benchmark.py", body)


def protocol(args: argparse.Namespace, threads: int) -> list[str]:
    """Return what the numbers depend on, a line each."""
    import torch

    from s2ld.evaluation.timing import describe_cpu

    return [
        f"machine: {describe_cpu()}; {describe_machine(torch.device('cpu'), threads)}",
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

    from s2ld.evaluation.benchmark import time_interleaved
    from s2ld.evaluation.timing import ROWS, TimedRow, peak_memory

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


def write_json(path: Path, lines: Sequence[str], rows: Sequence[Measured]) -> None:
    """Write protocol and numbers; what was not measured is null.

    Raises:
        S2LDError: the file cannot be written.
    """
    flat = [asdict(row) | {"holds": dict(zip(("time", "memory"), row.verdicts(), strict=True))} for row in rows]
    with whole_file(path) as part:
        part.write_text(json.dumps({"protocol": lines, "rows": flat}, indent=2) + "\n")


def _pairs(size: tuple[int, int], rounds: int) -> Iterator[tuple[ImageBatch, ImageBatch]]:
    from tqdm import tqdm

    from s2ld.evaluation.timing import noise

    for seed in tqdm(range(rounds + 1), unit="round"):
        yield noise(size, seed)


def to_table(rows: Sequence[Measured]) -> str:
    """Return the rows as a Markdown table."""
    cells = [["", "s a pair", "/ LoFTR", "at most", "holds", "peak MB", "at most", "holds"]]
    for row in rows:
        time, memory = ({None: "-", True: "yes", False: "no"}[holds] for holds in row.verdicts())
        numbers = [f"{row.seconds:.3f}", f"{row.ratio:.3f}", _cell(row.time_target, 2), time]
        cells.append([row.title, *numbers, _cell(row.megabytes, 0), _cell(row.memory_target, 0), memory])
    return _markdown(cells)


def stages(precision: str, args: argparse.Namespace) -> list[str]:
    """Return lines that say where the time of the paper configuration goes; `args` are those of `build_parser`."""
    from s2ld.evaluation.stages import measure_rates, measure_stages, stage_table

    rates = measure_rates(precision, 2 * args.rounds)
    measured = measure_stages(precision, (args.size[0], args.size[1]), args.matches, args.rounds)
    limits = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    head = f"paper configuration, {precision}: least CPU seconds of {args.rounds} runs; limit, GFLOP/s: {limits}"
    return ["", head, "", _markdown(stage_table(measured, max(rates.values())))]


def _markdown(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    lines = [padded[0], ["-" * width for width in widths], *padded[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
