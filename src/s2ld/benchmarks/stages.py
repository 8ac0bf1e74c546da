"""Where the time of the paper configuration goes: seconds and operations by stage, beside what the processor can do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from s2ld.benchmarks.timing import fixed_matches, noise
from s2ld.config import defaults
from s2ld.models.fast.inference import computing_in, for_inference
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch

MODULES = {
    "backbone": "backbone",
    "keypoint_detector": "detector",
    "feature_adjuster": "adjuster",
    "s2ld_coarse": "coarse transformer",
}
"""Module of the network to the name of its stage; sparse matching and the fine stage follow them."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stage:
    """One stage of a pair."""

    name: str
    seconds: float
    """CPU seconds, least of the runs."""
    gflop: float
    """Of convolutions by their definition and of matrix products, two a multiply-add."""


def measure_stages(precision: str, size: tuple[int, int], matches: int, runs: int) -> list[Stage]:
    """Measure the stages of the paper configuration with random weights on noise; see `ROWS` and `PRECISIONS`."""
    torch.manual_seed(0)
    network, images = for_inference(S2LD(defaults().MODEL)), noise(size, 0)
    with torch.inference_mode(), computing_in(precision, CPU):
        counter = FlopCounterMode(display=False, custom_mapping={torch.ops.s2ld.convolve_3x3: _convolution_flop})
        with counter:
            flops = _by_stage(network, images, matches, counter.get_total_flops)
        times = [_by_stage(network, images, matches, time.process_time) for _ in range(runs)]
    return [Stage(name, min(one[name] for one in times), flops[name] / 1e9) for name in flops]


def _by_stage(
    network: S2LD, images: tuple[ImageBatch, ImageBatch], matches: int, tell: Callable[[], float]
) -> dict[str, float]:
    """Match a pair and return by how much `tell` grows in each stage."""
    totals: dict[str, float] = {}
    starts: dict[str, float] = {}

    def begin(name: str, *_: object) -> None:
        starts[name] = tell()

    def end(name: str, *_: object) -> None:
        totals[name] = totals.get(name, 0.0) + tell() - starts[name]

    hooks = []
    for module, name in MODULES.items():
        hooks.append(getattr(network, module).register_forward_pre_hook(partial(begin, name)))
        hooks.append(getattr(network, module).register_forward_hook(partial(end, name)))
    encoded = network.encode(*images)
    for hook in hooks:
        hook.remove()
    begin("sparse matching")
    network.match(encoded)
    end("sparse matching")
    begin("fine stage")
    network.refine(encoded, fixed_matches(encoded, matches))
    end("fine stage")
    return totals


def measure_rates(precision: str, runs: int) -> dict[str, float]:
    """Return GFLOP in a CPU second of the network's most frequent convolution and of its largest linear layer."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 128, 240, 320, generator=generator).to(memory_format=torch.channels_last)
    kernel = torch.rand(128, 128, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    tokens, matrix = torch.rand(4800, 512, generator=generator), torch.rand(512, 512, generator=generator)
    if precision == "bf16":
        image, kernel, tokens, matrix = (x.bfloat16() for x in (image, kernel, tokens, matrix))
    works = {
        "convolution": (2 * image.numel() * kernel[0].numel(), lambda: F.conv2d(image, kernel, padding=1)),
        "matrix product": (2 * tokens.numel() * len(matrix), lambda: F.linear(tokens, matrix)),
    }
    with torch.inference_mode():
        return {name: flop / 1e9 / min(_seconds(work) for _ in range(runs)) for name, (flop, work) in works.items()}


def _convolution_flop(
    x: Sequence[int], weight: Sequence[int], bias: Sequence[int] | None, out_shape: Sequence[int]
) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


def stage_table(stages: Sequence[Stage], limit: float) -> list[list[str]]:
    """Return head and rows of a table; `limit` is the rate of plain operations, GFLOP/s."""
    total = Stage("all", sum(stage.seconds for stage in stages), sum(stage.gflop for stage in stages))
    table = [["", "s", "share", "GFLOP", "GFLOP/s", "of the limit"]]
    for stage in (*stages, total):
        rate = stage.gflop / stage.seconds
        share = stage.seconds / total.seconds
        numbers = [f"{stage.seconds:.3f}", f"{share:.1%}", f"{stage.gflop:.1f}", f"{rate:.0f}", f"{rate / limit:.0%}"]
        table.append([stage.name, *numbers])
    return table


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
