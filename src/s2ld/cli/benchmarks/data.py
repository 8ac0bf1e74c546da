"""`s2ld benchmark data CONFIG ... [options] [KEY VALUE ...]`: does data keep ahead of the trainer?"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2ld.cli.items import add_items, split_items
from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.config import CN, build_config
from s2ld.errors import S2LDError
from s2ld.extras import need
from s2ld.log import logger

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    import torch

    from s2ld.benchmarks.throughput import RenderRate, SourceRate, TrainingRate


@dataclass(frozen=True)
class DataReport:
    """What was measured; rates are pairs a second."""

    sources: dict[str, SourceRate]
    render: RenderRate | None
    """None where no source is rendered."""
    loader: float
    step: TrainingRate
    """Of training on pairs that are in memory."""
    together: TrainingRate
    """Of training on what the loader brings, on the same machine at the same time."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark data",
        "Pairs a second of every training source, of their mixture through the loader, and of training.",
        "synthetic s2ld_lite --pairs 32",
    )
    add_items(parser)
    parser.add_argument("--pairs", type=int, default=64, help="pairs a pass over a source (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=16, help="batches through the loader (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="training steps (default: %(default)s)")
    parser.add_argument("--render-batch", type=int, default=8, help="pairs rendered together (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the trainer (default: torch's choice)")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="default: auto")
    return parser


def main(argv: Sequence[str] | None = None) -> DataReport:
    """Run the command and return what it measured.

    Raises:
        S2LDError: bad arguments, configs or data.
    """
    arguments = build_parser().parse_intermixed_args(argv)
    for name in ("pairs", "batches", "steps", "render_batch", "threads"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise S2LDError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(arguments, name)}")
    need("train")
    import torch

    if arguments.accelerator == "gpu" and not torch.cuda.is_available():
        raise S2LDError("--accelerator gpu: this machine or this PyTorch has no CUDA GPU; use cpu or auto")
    files, overrides = split_items(arguments.items)
    config = build_config(files, overrides)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    uses_gpu = arguments.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if uses_gpu else "cpu")
    print("\n".join(f"  {line}" for line in protocol(config, arguments, device)), flush=True)
    report = measure(config, arguments, device)
    print("", to_table(report, config, device), "", *verdict(report, config), sep="\n")
    return report


def measure(config: CN, arguments: argparse.Namespace, device: torch.device) -> DataReport:
    """Measure everything, one after the other; `arguments` are those of `build_parser`."""
    from s2ld.benchmarks.throughput import loader_rate, render_rate, source_rate, training_rate
    from s2ld.data.sources.by_name import build_mixture
    from s2ld.data.sources.mixture import ReadyPairs

    data, accelerator = config.DATA, "gpu" if device.type == "cuda" else "cpu"
    sources = {}
    for name in data.TRAIN_SOURCES:
        _announce(name)
        sources[name] = source_rate(name, config, arguments.pairs)
    render = None
    if "synthetic" in data.TRAIN_SOURCES:
        _announce("rendering")
        render = render_rate(config, arguments.pairs, arguments.render_batch, device)
    _announce("the loader")
    loader = loader_rate(config, arguments.batches)
    _announce("training on pairs in memory")
    mixture = build_mixture(config)
    ready = ReadyPairs([mixture[index] for index in range(2 * data.BATCH_SIZE)])
    alone = build_config(overrides=["DATA.WORKERS", "0"], base=config)
    step = training_rate(alone, arguments.steps, accelerator, ready)
    _announce("training from the loader")
    return DataReport(sources, render, loader, step, training_rate(config, arguments.steps, accelerator))


def _announce(what: str) -> None:
    logger.info("measuring {} ...", what)


def protocol(config: CN, arguments: argparse.Namespace, device: torch.device) -> list[str]:
    """Return what the numbers depend on, a line each."""
    import torch

    from s2ld.benchmarks.throughput import WARMUP_STEPS
    from s2ld.data.datamodule import PREFETCH
    from s2ld.training.loop.precision import run_precision

    data = config.DATA
    precision, _ = run_precision(config.TRAIN.PRECISION, "gpu" if device.type == "cuda" else "cpu")
    shares = ", ".join(f"{name} {share:g}" for name, share in zip(data.TRAIN_SOURCES, data.TRAIN_WEIGHTS, strict=True))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return [
        f"machine: {os.cpu_count()} cores, training on {where}, {torch.get_num_threads()} thread(s) of the trainer, "
        f"PyTorch {torch.__version__}",
        f"images {data.IMAGE_SIZE[0]}x{data.IMAGE_SIZE[1]} px, {data.BATCH_SIZE} pairs a batch, {precision}, "
        f"backbone {config.MODEL.BACKBONE.TYPE} with random weights",
        f"source: one process and thread, {arguments.pairs} pairs from nothing (cold), the same again (cached)",
        f"loader: {shares}; {data.WORKERS} process(es), {arguments.batches} batches from cold sources after the first "
        f"{max(1, PREFETCH * data.WORKERS)}",
        f"training: {arguments.steps} steps after {WARMUP_STEPS} on pairs in memory; then from the loader, after "
        f"{WARMUP_STEPS + PREFETCH * data.WORKERS}",
    ]


def mixed(rates: Sequence[float], shares: Sequence[float]) -> float:
    """Return the pairs a second of a mixture in one process, from those of its sources and their shares."""
    return sum(shares) / sum(share / rate for share, rate in zip(shares, rates, strict=True))


def to_table(report: DataReport, config: CN, device: torch.device) -> str:
    """Return the rates as a Markdown table, each beside that of the training step."""
    from s2ld.benchmarks.throughput import SourceRate

    step = report.step.pairs
    rows = [("", "pairs/s", "of the training step", "processes to feed it")]
    shares, rates = config.DATA.TRAIN_WEIGHTS, report.sources.values()
    cold, cached = (mixed(part, shares) for part in ([rate.cold for rate in rates], [rate.cached for rate in rates]))
    for name, rate in {**report.sources, "mixture, computed": SourceRate(cold, cached)}.items():
        for label, pairs in (("cold", rate.cold), ("cached", rate.cached)):
            rows.append((f"{name}, {label}", *_cells(pairs, step), str(math.ceil(step / pairs))))
    if report.render is not None:
        rows.append(("synthetic: drawing alone", *_cells(report.render.drawing, step), ""))
        rows.append((f"synthetic: rendering alone, on {device.type}", *_cells(report.render.rendering, step), ""))
    rows.append(("mixture through the loader", *_cells(report.loader, step), ""))
    rows.append(("training step, pairs in memory", *_cells(step, step), ""))
    rows.append(("training from the loader", *_cells(report.together.pairs, step), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(pairs: float, step: float) -> tuple[str, str]:
    return f"{pairs:.1f}", f"{pairs / step:.2f}"


def verdict(report: DataReport, config: CN) -> list[str]:
    """Return in words whether data keeps ahead of the trainer."""
    ratio, waiting = report.loader / report.step.pairs, 100 * report.together.waiting
    side = "ahead of" if ratio >= 1 else "behind"
    return [
        f"data is {side} the trainer: {config.DATA.WORKERS} loader process(es) bring {ratio:.2f} times what it takes",
        f"in training from the loader, {waiting:.1f} % of the time no step ran (waiting for a batch)",
    ]


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark data", body)
