"""Pairs a second and peak memory on a GPU, of both configurations in several precisions beside kornia's LoFTR.

As on the CPU (`s2ld.benchmarks.timing`) the sparse stage runs whole, and every fine stage then gets the same number of
matches, evenly spread. Images are noise and lie on the GPU; points stay there.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch

from s2ld.benchmarks.outcome import Outcome
from s2ld.benchmarks.timing import Match, build_network, loftr, noise, one_pass
from s2ld.errors import S2LDError
from s2ld.log import Progress
from s2ld.models.fast.inference import computing_in
from s2ld.types import ImageBatch

SIZES = ((640, 480), (1152, 864))
"""Width and height, px."""
BATCHES = (1, 8)
"""Pairs at once."""
LEAST_RATIO = 5.0
"""Target: speed of the paper configuration in bfloat16 over LoFTR's eager float32."""
LEAST_LITE = 300.0
"""Target: pairs a second of Lite."""
WARM_UP, LOOPS = 3, 5
"""Passes that are not counted, the first of which compiles; loops of which the median counts."""
NAMES = {"loftr": "LoFTR of kornia", "paper": "paper configuration", "lite": "S2LD-Lite"}
PRECISIONS = {"fp32": "float32", "tf32": "TF32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Mode:
    """One network and how it computes."""

    network: str
    """Of `NAMES`."""
    precision: str
    """Of `PRECISIONS`: "tf32" rounds the factors of float32 products and convolutions to 10 bits, the others do not."""
    compiled: bool = False
    """By `torch.compile`, for the one shape."""

    @property
    def title(self) -> str:
        """What a table calls it."""
        return f"{NAMES[self.network]}, {PRECISIONS[self.precision]}{', compiled' if self.compiled else ''}"


YARDSTICK = Mode("loftr", "fp32")
MODES = (
    YARDSTICK,
    Mode("loftr", "tf32"),
    *(Mode(network, precision) for network in ("paper", "lite") for precision in PRECISIONS),
    *(Mode(network, "bf16", compiled=True) for network in ("paper", "lite")),
)


@dataclass(frozen=True)
class Meter:
    """What tells time and memory of a device."""

    wait: Callable[[], None]
    """Returns when all that was asked of the device is done."""
    reset: Callable[[], None]
    """Begins a new peak, and gives back what is not in use."""
    peak: Callable[[], float | None]
    """MB of tensors held at most since `reset`, weights and images too; None where nothing tells."""


@dataclass(frozen=True)
class Speed:
    """What was measured of a mode at one size and batch."""

    mode: Mode
    size: tuple[int, int]
    batch: int
    rate: float | None
    """Pairs a second; None where it failed."""
    note: str
    """Peak memory, or why it failed."""


def measure_gpu(
    matches: int = 1000,
    device: torch.device | None = None,
    sizes: Sequence[tuple[int, int]] = SIZES,
    batches: Sequence[int] = BATCHES,
    modes: Sequence[Mode] = MODES,
    seconds: float = 0.3,
) -> list[Outcome]:
    """Both configurations in all modes beside LoFTR, and the two targets, at the first size and the largest batch.

    images: noise on the GPU; points stay there; 1000 evenly spread matches a pair for every fine stage.
    time: by the clock, from one wait for the GPU to the next, median of 5 loops of many passes after 3 passes.
    memory: most bytes of PyTorch's tensors at a time, weights and images too, CUDA's own not.
    bfloat16: by autocast; what stays float32 is not rounded to TF32.

    Args:
        matches: a pair, that every fine stage gets.
        device: None: the GPU; without one, the targets alone come back, with no value.
        sizes: (width, height) px, multiples of 8.
        batches: pairs at once.
        modes: what is measured; where one fails, for want of memory or of a compiler, its note says so.
        seconds: least length of a timed loop.
    """
    device = torch.device("cuda") if device is None else device
    speeds: list[Speed] = []
    if device.type == "cuda" and not torch.cuda.is_available():
        return _targets(speeds, sizes[0], max(batches), "no GPU on this machine")
    meter = _meter(device)
    for size, batch, mode in Progress(list(product(sizes, batches, modes)), unit="row"):
        speeds.append(_measure(mode, size, batch, matches, device, meter, seconds))
    rows = [_row(speed, speeds) for speed in speeds]
    return rows + _targets(speeds, sizes[0], max(batches), "not measured")


def _measure(
    mode: Mode, size: tuple[int, int], batch: int, matches: int, device: torch.device, meter: Meter, seconds: float
) -> Speed:
    precision = "bf16" if mode.precision == "bf16" else "fp32"
    meter.reset()
    try:
        match, images = _build(mode, matches, device), _images(size, batch, device)
        with torch.inference_mode(), computing_in(precision, device), _tf32(mode.precision == "tf32"):
            rate = _rate(match, images, meter, seconds)
        peak = meter.peak()
    except (RuntimeError, S2LDError) as error:  # the other rows go on; a compiler's errors are RuntimeErrors
        return Speed(mode, size, batch, None, _reason(error))
    finally:
        if mode.compiled:
            torch.compiler.reset()  # what it keeps would count for the next row
    return Speed(mode, size, batch, rate, "" if peak is None else f"peak {peak:.0f} MB")


def _build(mode: Mode, matches: int, device: torch.device) -> Match:
    if mode.network == "loftr":
        match = loftr(matches, device)
    else:
        match = one_pass(build_network(mode.network == "lite").to(device), matches)
    return torch.compile(match, dynamic=False) if mode.compiled else match


def _images(size: tuple[int, int], batch: int, device: torch.device) -> tuple[ImageBatch, ImageBatch]:
    pairs = [noise(size, seed) for seed in range(batch)]
    return ImageBatch.joined([a for a, _ in pairs]).to(device), ImageBatch.joined([b for _, b in pairs]).to(device)


def _rate(match: Match, images: tuple[ImageBatch, ImageBatch], meter: Meter, seconds: float) -> float:
    """Pairs a second."""
    for _ in range(WARM_UP):
        match(*images)
    meter.wait()
    meter.reset()
    passes = max(1, math.ceil(seconds / _loop(match, images, 1, meter)))
    spent = statistics.median(_loop(match, images, passes, meter) for _ in range(LOOPS))
    return len(images[0].image) * passes / spent


def _loop(match: Match, images: tuple[ImageBatch, ImageBatch], passes: int, meter: Meter) -> float:
    """Seconds that so many passes take."""
    meter.wait()
    start = time.perf_counter()
    for _ in range(passes):
        match(*images)
    meter.wait()
    return time.perf_counter() - start


def _meter(device: torch.device) -> Meter:
    if device.type != "cuda":
        return Meter(lambda: None, lambda: None, lambda: None)

    def reset() -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)

    return Meter(lambda: torch.cuda.synchronize(device), reset, lambda: torch.cuda.max_memory_allocated(device) / 1e6)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 in products and convolutions or not; as it was before afterwards. PyTorch allows it in the latter."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = allowed
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _reason(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}"[:160]


def _row(speed: Speed, speeds: Sequence[Speed]) -> Outcome:
    ratio = _ratio(speed, speeds)
    beside = [] if ratio is None or speed.mode == YARDSTICK else [f"{ratio:.2f} x {YARDSTICK.title}"]
    title = f"{speed.mode.title}, {speed.size[0]}x{speed.size[1]} px, batch {speed.batch}"
    note = ", ".join([*filter(None, [speed.note]), *beside])
    return Outcome(title, speed.rate, "pairs/s", note=note)


def _ratio(speed: Speed, speeds: Sequence[Speed]) -> float | None:
    """Speed over that of the yardstick at the same size and batch."""
    setting = speed.size, speed.batch
    rates = [s.rate for s in speeds if s.mode == YARDSTICK and (s.size, s.batch) == setting]
    return speed.rate / rates[0] if rates and rates[0] and speed.rate else None


def _targets(speeds: Sequence[Speed], size: tuple[int, int], batch: int, reason: str) -> list[Outcome]:
    """Return the two targets at one size and batch, of the fastest mode that counts; `reason` where there is none."""
    where = f"{size[0]}x{size[1]} px, batch {batch}"
    here = [s for s in speeds if s.rate is not None and (s.size, s.batch) == (size, batch)]
    paper = [(r, s) for s in here if s.mode.network == "paper" and s.mode.precision == "bf16" if (r := _ratio(s, here))]
    lite = [(s.rate or 0.0, s) for s in here if s.mode.network == "lite"]
    asked = (
        (f"paper configuration in bfloat16 / {YARDSTICK.title}, {where}", paper, "", LEAST_RATIO),
        (f"S2LD-Lite, fastest, {where}", lite, "pairs/s", LEAST_LITE),
    )
    outcomes = []
    for title, found, unit, target in asked:
        value, best = max(found, key=lambda one: one[0], default=(None, None))
        note = reason if best is None else best.mode.title
        outcomes.append(Outcome(title, value, unit, target, at_least=True, note=note))
    return outcomes
