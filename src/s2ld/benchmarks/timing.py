"""What is timed beside kornia's LoFTR, the yardstick, what it should reach, and its peak memory.

Networks with random weights make few matches or none, which would spare them the fine stage: the sparse stage runs, and
then so many matches as asked for, spread evenly over both images, take the place of those that it found.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from s2ld.benchmarks.own_process import own_peak, run_alone
from s2ld.config import defaults
from s2ld.errors import S2LDError
from s2ld.extras import install
from s2ld.models.checkpoint import load_model
from s2ld.models.fast.inference import computing_in, for_inference
from s2ld.models.network import S2LD
from s2ld.pretrained import DEFAULT, resolve
from s2ld.types import CoarseMatches, EncodedPair, ImageBatch

Match = Callable[[ImageBatch, ImageBatch], "Points"]
YARDSTICK = "loftr"
"""Key of the row that the others are compared with."""
CELL = 8  # px, of LoFTR too


@dataclass(frozen=True)
class Points:
    """Where the matches are, (M, 2) each in px of the images."""

    points0: Tensor
    points1: Tensor


@dataclass(frozen=True)
class Row:
    """One network in one precision, and its targets; None where there is none."""

    title: str
    build: Callable[[int], Match]
    """From the number of matches that the fine stage gets."""
    time: float | None = None
    """Largest share of the yardstick's time."""
    memory: float | None = None
    """Largest share of the yardstick's peak memory."""
    megabytes: float | None = None
    """Largest peak memory, MB."""


@dataclass(frozen=True)
class TimedRow:
    """A row that is built, as `time_interleaved` takes it."""

    name: str
    match: Match

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> Points:
        """Match one pair."""
        return self.match(images0, images1)


def noise(size: tuple[int, int], seed: int) -> tuple[ImageBatch, ImageBatch]:
    """Return two images of noise, width and height in px."""
    generator = torch.Generator().manual_seed(seed)
    image0, image1 = torch.rand(2, 1, 1, size[1], size[0], generator=generator)
    return ImageBatch(image0), ImageBatch(image1)


def peak_memory(key: str, size: tuple[int, int], matches: int, threads: int) -> float | None:
    """Return the peak memory of a fresh process that builds a row of `ROWS` and matches two pairs, in MB.

    Python and PyTorch themselves are part of it. None where the system does not tell (it is Linux that does).
    """
    return run_alone(_peak, key, size, matches, threads)


def _peak(key: str, size: tuple[int, int], matches: int, threads: int) -> float | None:
    torch.set_num_threads(threads)
    match = ROWS[key].build(matches)
    with torch.inference_mode():
        for seed in range(2):
            match(*noise(size, seed))
    return own_peak()


def describe_cpu() -> str:
    """Return the processor's name and the widest instructions that PyTorch uses."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def build_network(lite: bool) -> S2LD:
    """Return the shipped Lite, or the paper configuration with random weights, made for inference."""
    torch.manual_seed(0)
    return for_inference(load_model(resolve(DEFAULT))[0] if lite else S2LD(defaults().MODEL))


def one_pass(network: S2LD, matches: int) -> Match:
    """Return what is timed: the sparse stage whole, the fine stage and what judges it on `matches` a pair."""

    def match(images0: ImageBatch, images1: ImageBatch) -> Points:
        encoded = network.encode(images0, images1)
        network.match(encoded)
        coarse = fixed_matches(encoded, matches)
        fine = network.refine(encoded, coarse)
        network.judge(encoded, coarse, fine)
        return Points(fine.points0, fine.points1)

    return match


def _ours(matches: int, lite: bool = False, precision: str = "fp32") -> Match:
    match_pair = one_pass(build_network(lite), matches)

    def match(images0: ImageBatch, images1: ImageBatch) -> Points:
        with computing_in(precision, torch.device("cpu")):
            return match_pair(images0, images1)

    return match


def fixed_matches(encoded: EncodedPair, matches: int) -> CoarseMatches:
    """Return so many matches a pair, or as many as there are cells, evenly spread over both of its images."""
    batch, cell0, cell1 = _spread(matches, encoded.coarse0, encoded.coarse1)
    return CoarseMatches(batch, cell0, cell1, torch.ones(len(batch), device=batch.device))


def loftr(matches: int, device: torch.device | None = None) -> Match:
    """Build kornia's LoFTR with random weights on `device`, the CPU where it is None.

    Raises:
        S2LDError: kornia is not installed or too old.
    """
    try:
        from kornia.feature import LoFTR
    except ImportError as error:
        raise S2LDError(f"kornia's LoFTR cannot be loaded ({error}): {install('eval')}") from error
    torch.manual_seed(0)
    network: nn.Module = LoFTR(pretrained=None).eval().requires_grad_(False).to(device)

    def replace_matches(module: nn.Module, inputs: tuple[Tensor, Tensor, dict[str, Tensor]], output: None) -> None:
        data = inputs[2]
        width0, width1 = data["hw0_c"][1], data["hw1_c"][1]
        batch, cell0, cell1 = _spread(matches, *inputs[:2])
        points0, points1 = (
            CELL * torch.stack([cell % width, cell // width], 1).float()
            for cell, width in ((cell0, width0), (cell1, width1))
        )
        data.update(b_ids=batch, i_ids=cell0, j_ids=cell1, m_bids=batch, gt_mask=torch.zeros_like(batch).bool())
        data.update(mkpts0_c=points0, mkpts1_c=points1, mconf=torch.ones_like(points0[:, 0]))

    network.coarse_matching.register_forward_hook(replace_matches)  # type: ignore[union-attr]

    def match(images0: ImageBatch, images1: ImageBatch) -> Points:
        found = network({"image0": images0.image, "image1": images1.image})
        return Points(found["keypoints0"], found["keypoints1"])

    return match


def _spread(matches: int, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs and cells (M,) int64 of descriptors (N, L, C), (N, S, C): evenly spread in each, no cell twice."""
    n, count = x0.shape[0], min(matches, x0.shape[1], x1.shape[1])
    batch = torch.arange(n, device=x0.device)[:, None].expand(n, count).flatten()
    cell0, cell1 = (torch.linspace(0, x.shape[1] - 1, count, device=x.device).round().long() for x in (x0, x1))
    return batch, cell0.repeat(n), cell1.repeat(n)


ROWS: Mapping[str, Row] = {
    YARDSTICK: Row("LoFTR of kornia, float32", loftr),
    "paper": Row("paper configuration, float32", _ours, time=0.85, memory=0.6),
    "paper-bf16": Row("paper configuration, bfloat16", partial(_ours, precision="bf16"), time=0.5, memory=0.6),
    "lite": Row("S2LD-Lite, float32", partial(_ours, lite=True), time=0.05, megabytes=400),
}
"""Name on the command line to what it is."""
