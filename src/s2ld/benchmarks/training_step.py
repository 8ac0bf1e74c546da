"""How fast training goes on a CPU: a step beside the slow reference's, and pairs a second of a loader process."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from s2ld.benchmarks.outcome import Outcome
from s2ld.benchmarks.own_process import own_peak, run_alone
from s2ld.benchmarks.slow_step import SlowS2LDModule
from s2ld.benchmarks.throughput import source_rate
from s2ld.config import CN, build_config, config_from_text, config_to_text
from s2ld.data.sample import collate
from s2ld.data.synthetic.export import write_megadepth
from s2ld.data.synthetic.source import SyntheticPairs
from s2ld.errors import S2LDError
from s2ld.log import Progress
from s2ld.training.loop.module import S2LDModule
from s2ld.training.loop.optim import build_optimizer, run_scale
from s2ld.training.loop.quiet import quiet_lightning
from s2ld.types import ImageBatch, PairBatch, View

Gradients = dict[str, NDArray[np.floating[Any]]]

SIZE = (640, 640)
"""Width and height, px."""
FASTER = 1.5
"""How many times as fast as the slow step the real one should be."""
MEMORY = 0.5
"""Which share of its peak memory it should take."""
EQUAL = 1e-6
"""Largest relative difference of two gradients that count as equal in float64."""
GRADIENT_SIZE = (160, 160)
"""Width and height, px, of the pair whose gradients are compared: float64 takes twice the memory."""

SLOW = "slow training step"
STEPS: Mapping[str, Sequence[str]] = {
    SLOW: [],
    "training step": ["TRAIN.CHECKPOINT", "False"],
    "training step, TRAIN.CHECKPOINT True": ["TRAIN.CHECKPOINT", "True"],
}
"""Title of each step that is measured to its settings."""


KINDS: Mapping[str, Sequence[str]] = {
    "in convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::_slow_conv2d_forward"),
    "in matrix products": ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm"),
}
"""Operations of a profile, which both steps need alike but for the confidence matrix's."""
OTHER = "in all else"


@dataclass(frozen=True)
class StepRun:
    """What one process measured."""

    seconds: float
    """CPU seconds of the second of two steps."""
    megabytes: float
    """Peak memory of the process after both, Python and PyTorch included; NaN where the system does not tell."""


def measure_training(
    rounds: int, threads: int, size: tuple[int, int] = SIZE, config: CN | None = None, pairs: int = 1
) -> list[Outcome]:
    """Measure a training step in float32 beside the slow reference (`s2ld.benchmarks.slow_step`) on the CPU.

    A step is forward pass, targets, losses, backward pass, clipping and AdamW, on synthetic pairs with depth that are
    in memory already, from the same random weights. In a round the slow step, the real one and the real one with
    TRAIN.CHECKPOINT run in turn, each in a fresh process: one step that is not counted, and one that is timed, in CPU
    seconds, the system's included; peak memory is that of the process. Ratios are medians over the rounds of the ratios
    within a round, other numbers medians. Gradients are compared in float64, of one pair of 160x160 px: norm of the
    difference over norm, of all parameters together. The profile is that of one more second step each, by
    torch.profiler, in seconds of the clock.

    Args:
        rounds: at least 1; a step of the paper configuration at 640×640 takes about a minute.
        threads: of PyTorch.
        size: width and height of the images, px, multiples of 8.
        config: the whole config; by default the paper configuration with dense supervision.
        pairs: pairs a step.

    Raises:
        S2LDError: a config that the slow step does not have, or too little memory.
    """
    texts = {title: _config_text(size, pairs, more, config) for title, more in STEPS.items()}
    runs: dict[str, list[StepRun]] = {title: [] for title in STEPS}
    for _ in Progress(range(rounds), unit="round"):
        for title, text in texts.items():
            runs[title].append(run_alone(run_steps, title == SLOW, text, threads))
    gradients = {
        title: run_alone(exact_gradients, title == SLOW, _config_text(GRADIENT_SIZE, 1, more, config), threads)
        for title, more in STEPS.items()
    }
    profiles = {title: run_alone(profile_step, title == SLOW, texts[title], threads) for title in STEPS}
    outcomes = []
    for title in STEPS:
        outcomes += _outcomes(title, runs[title], runs[SLOW], pairs)
        if title != SLOW:
            together, worst, name = gradient_difference(gradients[title], gradients[SLOW])
            note = f"float64, {GRADIENT_SIZE[0]}x{GRADIENT_SIZE[1]} px; worst parameter {worst:.1e}, {name}"
            outcomes.append(Outcome(f"{title}: difference of the gradient", together, "", EQUAL, note=note))
        outcomes += [Outcome(f"{title}: {kind}", seconds, "s") for kind, seconds in profiles[title].items()]
    return outcomes


def _config_text(size: tuple[int, int], pairs: int, more: Sequence[str], config: CN | None) -> str:
    settings = [
        *("DATA.IMAGE_SIZE", f"[{size[0]}, {size[1]}]", "DATA.BATCH_SIZE", str(pairs)),
        *("TRAIN.EMA_DECAY", "0.0", "TRAIN.EPOCHS", "0"),
    ]
    return config_to_text(build_config(overrides=[*settings, *more], base=config))


def _outcomes(title: str, runs: Sequence[StepRun], slow: Sequence[StepRun], pairs: int) -> list[Outcome]:
    rate = statistics.median(pairs / run.seconds for run in runs)
    found = [
        Outcome(f"{title}: speed", rate, "samples/CPU s"),
        Outcome(f"{title}: peak memory", _number(statistics.median(run.megabytes for run in runs)), "MB"),
    ]
    if title == SLOW:
        return found
    faster = statistics.median(b.seconds / a.seconds for a, b in zip(runs, slow, strict=True))
    share = statistics.median(a.megabytes / b.megabytes for a, b in zip(runs, slow, strict=True))
    return [
        Outcome(f"{title}: times as fast as the slow one", faster, "", FASTER, True),
        Outcome(f"{title}: share of the slow one's memory", _number(share), "", MEMORY),
        *found,
    ]


def gradient_difference(ours: Gradients, reference: Gradients) -> tuple[float, float, str]:
    """Return the norm of the difference over that of the reference: of all parameters together, and of the worst one.

    Some parameters have a small gradient that is a difference of large ones. Parameters whose reference is below a
    millionth of the norm of all of them count as if they had that.

    Returns:
        Of all together, of the worst one, and its name.
    """
    apart = {name: float(np.linalg.norm(ours[name] - value)) for name, value in reference.items()}
    size = {name: float(np.linalg.norm(value)) for name, value in reference.items()}
    whole = float(np.linalg.norm(list(size.values())))
    worst = max(reference, key=lambda name: apart[name] / max(size[name], 1e-6 * whole))
    together = float(np.linalg.norm(list(apart.values()))) / whole
    return together, apart[worst] / max(size[worst], 1e-6 * whole), worst


def measure_loading(size: tuple[int, int] = SIZE, pairs: int = 32) -> list[Outcome]:
    """Measure how many training pairs a second one loader process brings, with one thread, depth reading included.

    The pairs are rendered scenes that are first written in MegaDepth's form into a temporary folder: JPEG photographs
    and compressed HDF5 depth of `size`. Once no decoded photograph is kept, so that each pair reads and decodes two
    photographs and two depth maps; once all of them are, as in an epoch with few scenes, and depth is read.

    Args:
        size: width and height of the photographs, and of the training pairs, px, multiples of 8.
        pairs: pairs that are timed, by the clock.

    Raises:
        S2LDError: there is no room in the temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="s2ld-") as folder:
        settings = [
            *("DATA.IMAGE_SIZE", f"[{size[0]}, {size[1]}]", "DATA.TRAIN_SOURCES", "['megadepth']"),
            *("DATA.MEGADEPTH.ROOT", folder, "DATA.MEGADEPTH.INDEX", str(Path(folder) / "index")),
        ]
        kept = build_config(overrides=settings)
        write_megadepth(folder, kept.DATA, seed=0, scenes=2, views=4)
        read = build_config(overrides=["DATA.MEGADEPTH.CACHE_MB", "0"], base=kept)
        rates = source_rate("megadepth", read, pairs).cold, source_rate("megadepth", kept, pairs).cached
    what = f"{size[0]}x{size[1]} px, one thread, depth included"
    return [
        Outcome("loading: photographs and depth read for each pair", rates[0], "pairs/s a worker", note=what),
        Outcome("loading: decoded photographs kept, depth read", rates[1], "pairs/s a worker", note=what),
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def run_steps(slow: bool, config_text: str, threads: int) -> StepRun:
    """Do two training steps in this process, of the slow reference or the real ones.

    Raises:
        S2LDError: the config is none of the slow step, or a step is not finite.
    """
    module, batch, config = _begin(slow, config_text, threads)
    optimizer = build_optimizer([module.matcher], run_scale(config, 1).learning_rate, config.TRAIN.WEIGHT_DECAY)
    seconds = 0.0
    with quiet_lightning():
        for number in range(2):
            start = time.process_time()
            _backward(module, batch, number)
            nn.utils.clip_grad_norm_(module.matcher.parameters(), config.TRAIN.GRAD_CLIP)
            optimizer.step()
            optimizer.zero_grad()
            seconds = time.process_time() - start
    return StepRun(seconds, own_peak() or float("nan"))


def exact_gradients(slow: bool, config_text: str, threads: int) -> Gradients:
    """Return the gradients of a first step in float64, by parameter, before they are clipped.

    Raises:
        S2LDError: as `run_steps`.
    """
    module, batch, _ = _begin(slow, config_text, threads)
    with quiet_lightning():
        _backward(module.double(), _double(batch), 0)
    return {name: p.grad.numpy() for name, p in module.matcher.named_parameters() if p.grad is not None}


def profile_step(slow: bool, config_text: str, threads: int) -> dict[str, float]:
    """Return the seconds by the clock of forward, losses and backward of a second step, by kind of operation.

    Raises:
        S2LDError: as `run_steps`.
    """
    module, batch, _ = _begin(slow, config_text, threads)
    with quiet_lightning():
        _backward(module, batch, 0)
        module.zero_grad()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            _backward(module, batch, 1)
    seconds = dict.fromkeys([*KINDS, OTHER], 0.0)
    for event in profiler.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key in names), OTHER)
        seconds[kind] += event.self_cpu_time_total / 1e6
    return seconds


def _begin(slow: bool, config_text: str, threads: int) -> tuple[S2LDModule, PairBatch, CN]:
    torch.set_num_threads(threads)
    config = config_from_text(config_text, "the benchmark's config")
    source = SyntheticPairs(config.DATA, config.DATA.SEED, config.DATA.BATCH_SIZE)
    batch = collate([source[index] for index in range(len(source))])
    torch.manual_seed(config.TRAIN.SEED)
    return SlowS2LDModule(config) if slow else S2LDModule(config), batch, config


def _backward(module: S2LDModule, batch: PairBatch, number: int) -> None:
    losses = module.matcher_terms(batch, number)
    if losses is None:
        raise S2LDError("the training step that is measured is not finite")
    losses.total.backward()  # type: ignore[no-untyped-call]


def _double(batch: PairBatch) -> PairBatch:
    def view(one: View) -> View:
        images = ImageBatch(one.images.image.double(), one.images.mask)
        depth = None if one.depth is None else one.depth.double()
        return View(images, one.scale.double(), one.K.double(), depth)

    return replace(batch, view0=view(batch.view0), view1=view(batch.view1), T_0to1=batch.T_0to1.double())
