"""Sections `large` and `largest`: time and memory on large images, and how time grows."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from s2ld.benchmarks.outcome import Outcome
from s2ld.benchmarks.own_process import own_peak, run_alone
from s2ld.benchmarks.sections.pictures import motorcycle
from s2ld.benchmarks.timing import build_network, fixed_matches, noise
from s2ld.config import defaults
from s2ld.data.images.motorcycle import load_motorcycle
from s2ld.files import whole_file
from s2ld.log import Progress
from s2ld.memory import available_memory
from s2ld.models.checkpoint import load_model
from s2ld.models.detector import CELL
from s2ld.models.fast.inference import memory_needed
from s2ld.pretrained import DEFAULT, resolve
from s2ld.types import ImageBatch

Size = tuple[int, int]

NETWORKS = {"lite": "S2LD-Lite", "paper": "paper configuration"}
SIZES: Mapping[str, Sequence[Size]] = {
    "lite": ((800, 600), (1600, 1200), (3200, 2400)),
    "paper": ((800, 600), (1600, 1200)),
}
"""Width and height, px, ascending, by network."""
LARGEST: Mapping[str, Sequence[Size]] = {"paper": ((1600, 1200), (3200, 2400))}
LIMITS: Mapping[Size, float] = {(1600, 1200): 3000.0, (3200, 2400): 8000.0}
"""Largest peak memory, MB."""
MATCHES = 1000
REPEATED = 3  # runs of which the median counts, where a pair takes few seconds
SHORT = 10.0  # s: such a pair


@dataclass(frozen=True)
class Run:
    """One network at one size."""

    size: Size
    seconds: float
    """CPU seconds of a pair."""
    megabytes: float | None
    """Peak memory of the process."""
    matches: int

    @property
    def cells(self) -> int:
        """Product of both images' numbers of cells."""
        return (math.prod(self.size) // CELL**2) ** 2


def measure(threads: int, picture: Path | None = None, sizes: Mapping[str, Sequence[Size]] = SIZES) -> list[Outcome]:
    """Lite and the paper configuration in float32 on large images, each run in a fresh process.

    images: the motorcycle pair, resized; weights: the shipped ones of Lite, random ones of the paper configuration.
    time: CPU seconds from images in memory to points, after a small pair that warms up; median of 3 pairs, or one pair
    that takes more than 10 s. Refined is what was found, or 1000 evenly spread matches where that is less.
    memory: peak of the process, Python, PyTorch and weights in it.
    growth: time over that of the size before; the target is the growth of the product of both images' cells.

    Args:
        threads: of the processor.
        picture: .png, .svg or .pdf to draw time over size to.
        sizes: as `SIZES`.

    Raises:
        S2LDError: scikit-image, which ships the pair, is not installed; the picture cannot be written.
    """
    load_motorcycle()  # before the first process
    outcomes: list[Outcome] = []
    curves: dict[str, list[Run]] = {}
    jobs = [(network, size) for network, several in sizes.items() for size in several]
    for network, size in Progress(jobs, unit="run"):
        title = f"{NETWORKS[network]}, {size[0]}x{size[1]}"
        lacking = _lacking(network, size)
        if lacking:
            outcomes.append(Outcome(f"{title}: CPU time", None, "s", note=lacking))
            continue
        run = run_alone(run_once, network, size, threads)
        curves.setdefault(network, []).append(run)
        outcomes.append(Outcome(f"{title}: CPU time", run.seconds, "s", note=f"{run.matches} matches"))
        outcomes.append(Outcome(f"{title}: peak memory", run.megabytes, "MB", LIMITS.get(size)))
    for network, runs in curves.items():
        outcomes += [_growth(NETWORKS[network], before, after) for before, after in pairwise(runs)]
    if picture is not None:
        _draw({NETWORKS[network]: runs for network, runs in curves.items()}, picture)
    return outcomes


def measure_largest(threads: int) -> list[Outcome]:
    """The paper configuration at 3200x2400 px beside 1600x1200, by the protocol of section large.

    It takes 6 GB. LoFTR's matrix would take over 100 GB.

    Raises:
        S2LDError: scikit-image, which ships the pair, is not installed.
    """
    return measure(threads, sizes=LARGEST)


def run_once(network: str, size: Size, threads: int) -> Run:
    """Match the pair in this process."""
    torch.set_num_threads(threads)
    model = build_network(network == "lite")
    images = [ImageBatch(image) for image in motorcycle(size)]

    def match(image0: ImageBatch, image1: ImageBatch) -> int:
        encoded = model.encode(image0, image1)
        found = model.match(encoded)
        coarse = found if len(found) >= MATCHES else fixed_matches(encoded, MATCHES)
        fine = model.refine(encoded, coarse)
        model.judge(encoded, coarse, fine)
        return len(fine.points0)

    seconds: list[float] = []
    with torch.inference_mode():
        match(*noise((64, 64), 0))
        while not seconds or (len(seconds) < REPEATED and seconds[0] < SHORT):
            start = time.process_time()
            matches = match(*images)
            seconds.append(time.process_time() - start)
    return Run(size, statistics.median(seconds), own_peak(), matches)


def _lacking(network: str, size: Size) -> str:
    """What memory is missing, or nothing."""
    config = load_model(resolve(DEFAULT))[1].MODEL if network == "lite" else defaults().MODEL
    needed, available = memory_needed(config, [math.prod(size) // CELL**2] * 2), available_memory()
    if needed < available:
        return ""
    return f"needs about {needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are available; end other programs"


def _growth(name: str, before: Run, after: Run) -> Outcome:
    time_ratio, cells = after.seconds / before.seconds, after.cells / before.cells
    exponent = math.log(time_ratio) / math.log(cells)
    sizes = " to ".join(f"{run.size[0]}x{run.size[1]}" for run in (before, after))
    note = f"cells' product to the power of {exponent:.2f}"
    return Outcome(f"{name}, {sizes}: growth of time", time_ratio, "", cells, note=note)


def _draw(curves: Mapping[str, Sequence[Run]], path: Path) -> None:
    from s2ld.viz.curves import draw_growth

    figure = draw_growth(
        {name: ([run.cells for run in runs], [run.seconds for run in runs]) for name, runs in curves.items()},
        {run.cells: f"{run.size[0]}x{run.size[1]}" for runs in curves.values() for run in runs},
        "size of both images, px, by the product of their cells",
        "CPU seconds a pair",
    )
    with whole_file(path) as part:
        figure.savefig(part, format=path.suffix[1:])
