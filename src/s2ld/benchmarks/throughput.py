"""How fast training pairs come, and how fast a trainer takes them: pairs a second on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytorch_lightning as pl
import torch

from s2ld.config import CN, build_config
from s2ld.data.datamodule import PREFETCH, PairDataModule
from s2ld.data.images.textures import TextureBank
from s2ld.data.sample import PairSource
from s2ld.data.sources.by_name import build_source
from s2ld.data.synthetic.render import Atlas
from s2ld.data.synthetic.source import draw_pair, render_pairs
from s2ld.errors import S2LDError, as_one_line
from s2ld.training.loop.module import S2LDModule
from s2ld.training.loop.precision import run_precision
from s2ld.training.loop.quiet import quiet_lightning

WARMUP_STEPS = 2  # training steps that are not counted: memory is allocated and kernels are chosen in them


@dataclass(frozen=True)
class SourceRate:
    """Speed of one source in one loader process, which has one thread."""

    cold: float
    """Pairs a second of the first pass: files are decoded, textures prepared."""
    cached: float
    """Pairs a second of a second pass over the same pairs, with all that the source has kept."""


@dataclass(frozen=True)
class TrainingRate:
    """Speed of training steps."""

    pairs: float
    """Pairs a second, waiting for data included."""
    waiting: float
    """Share of the time, in [0, 1], in which no step ran since the next batch was not there yet."""


@dataclass(frozen=True)
class RenderRate:
    """Speed of the two parts of rendered pairs, which a loader process does one after the other."""

    drawing: float
    """Pairs a second: scenes and cameras are drawn, on one core whatever the device."""
    rendering: float
    """Pairs a second: both views of every pair rendered, in batches, on the device."""


def source_rate(name: str, config: CN, pairs: int) -> SourceRate:
    """Measure training source `name` over `pairs` pairs, twice."""
    with _one_thread():
        source = build_source(name, config, "train")
        return SourceRate(*(pairs / _seconds(lambda: _take(source, pairs)) for _ in range(2)))


def _take(source: PairSource, pairs: int) -> None:
    for index in range(pairs):
        source[index]


def loader_rate(config: CN, batches: int) -> float:
    """Return the pairs a second of DATA.TRAIN_SOURCES through the real loader, after what it had ready is used up.

    Raises:
        S2LDError: what a source says of its files.
    """
    module = PairDataModule(config)
    module.setup("fit")
    stream = iter(module.train_dataloader())
    try:
        for _ in range(max(1, PREFETCH * int(config.DATA.WORKERS))):
            next(stream)
        return int(config.DATA.BATCH_SIZE) * batches / _seconds(lambda: [next(stream) for _ in range(batches)])
    except S2LDError as error:
        raise as_one_line(error) from error


def render_rate(config: CN, pairs: int, batch: int, device: torch.device) -> RenderRate:
    """Measure rendered pairs, `batch` at a time on `device`; their textures are loaded before the clock starts."""
    data, size = config.DATA, (int(config.DATA.IMAGE_SIZE[0]), int(config.DATA.IMAGE_SIZE[1]))
    bank = TextureBank.of(data)
    atlas = Atlas(bank, data.SYNTHETIC.TEXTURE_SIDE, data.SYNTHETIC.TEXTURE_CACHE, device)
    rngs = [np.random.default_rng((data.SEED, index)) for index in range(batch)]
    drawn = [draw_pair(data.SYNTHETIC, len(bank), size, rng) for rng in rngs]  # as many as one batch has

    def render(times: int) -> None:
        for _ in range(times):
            render_pairs(drawn, atlas, size, data.SYNTHETIC.SUPERSAMPLE)
        _synchronise(device)

    def draw() -> None:
        for index in range(pairs):
            draw_pair(data.SYNTHETIC, len(bank), size, np.random.default_rng((data.SEED, batch + index)))

    render(1)
    batches = max(1, pairs // batch)
    seconds = _seconds(lambda: render(batches))
    with _one_thread():
        return RenderRate(pairs / _seconds(draw), batches * batch / seconds)


def training_rate(config: CN, steps: int, accelerator: str, source: PairSource | None = None) -> TrainingRate:
    """Measure `steps` training steps of a network with random weights, by the real module, precision and loader.

    Args:
        config: the whole config; nothing is validated or written.
        steps: beside `WARMUP_STEPS` and, with loader processes, the batches that they have ready at the start.
        accelerator: Lightning's name: auto | cpu | gpu.
        source: takes the place of the config's sources.

    Raises:
        S2LDError: what the module or a source says.
    """
    config = build_config(overrides=["TRAIN.EPOCHS", "0"], base=config)
    ready = PREFETCH * int(config.DATA.WORKERS)
    clock = _Clock(WARMUP_STEPS + ready)
    with quiet_lightning():
        pl.seed_everything(config.TRAIN.SEED, verbose=False)
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=run_precision(config.TRAIN.PRECISION, accelerator)[0],  # type: ignore[arg-type]
            gradient_clip_val=config.TRAIN.GRAD_CLIP,
            max_steps=clock.skip + steps,
            max_epochs=-1,
            limit_val_batches=0,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[clock],
        )
        try:
            trainer.fit(S2LDModule(config), datamodule=PairDataModule(config, source, {}))
        except S2LDError as error:
            raise as_one_line(error) from error
    return clock.rate(int(config.DATA.BATCH_SIZE))


class _Clock(pl.Callback):
    """Notes when each training step begins and ends; the first `skip` are not counted."""

    def __init__(self, skip: int) -> None:
        self.skip = skip
        self._begins: list[float] = []
        self._ends: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        _synchronise(pl_module.device)
        self._begins.append(time.perf_counter())

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        _synchronise(pl_module.device)
        self._ends.append(time.perf_counter())

    def rate(self, batch: int) -> TrainingRate:
        """Return the speed from the end of the last step that is not counted to the end of the last one."""
        first = self._ends[self.skip - 1]
        begins, ends = self._begins[self.skip :], self._ends[self.skip :]
        whole = ends[-1] - first
        busy = sum(end - begin for begin, end in zip(begins, ends, strict=True))
        return TrainingRate(batch * len(ends) / whole, 1 - busy / whole)


def _seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Give torch and OpenCV one thread, as loader processes have it."""
    before, before_cv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(before_cv)
