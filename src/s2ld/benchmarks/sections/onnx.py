"""Section `onnx`: exported files by onnxruntime beside torch."""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from s2ld.benchmarks.outcome import Outcome
from s2ld.benchmarks.sections.pictures import motorcycle
from s2ld.benchmarks.timing import one_pass
from s2ld.config import defaults
from s2ld.extras import need
from s2ld.log import Progress
from s2ld.models.checkpoint import load_model
from s2ld.models.fast.inference import for_inference
from s2ld.models.network import S2LD
from s2ld.models.onnx import INPUTS, OUTPUTS, FixedMatches, compare, export_onnx
from s2ld.pretrained import DEFAULT, resolve
from s2ld.types import ImageBatch

SIZE = (640, 480)
MATCHES = 2000
SAME = 0.99
"""Least share of matches that are the same."""


def measure(rounds: int, size: tuple[int, int] = SIZE, matches: int = MATCHES) -> list[Outcome]:
    """Files of both configurations, for one size and for any, by onnxruntime beside torch in turn, with one thread.

    images: the motorcycle pair at 640x480; weights: the shipped ones of Lite, random ones of the paper configuration,
    whose threshold is 0, as it would find nothing.
    time: median CPU seconds of the rounds after one that is not counted; all refine 2000 matches, torch evenly spread
    ones.
    same: matches that torch and file agree on within 0.02 px and 0.001 of confidence.

    Args:
        rounds: of times.
        size: width and height, px.
        matches: rows of the files' outputs.

    Raises:
        S2LDError: onnx, onnxscript, onnxruntime or scikit-image, which ships the pair, is not installed.
    """
    need("onnx")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # each run would say that torchvision is missing
    images = motorcycle(size)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lite = load_model(resolve(DEFAULT))[0]
        torch.manual_seed(0)
        paper = S2LD(defaults().MODEL)
        paper.threshold = 0.0
        return [
            outcome
            for name, network in (("S2LD-Lite", lite), ("paper configuration", paper))
            for outcome in _measure(name, network, images, matches, rounds)
        ]
    finally:
        torch.set_num_threads(threads)


def _measure(name: str, network: S2LD, images: tuple[Tensor, Tensor], matches: int, rounds: int) -> list[Outcome]:
    model = FixedMatches(network, matches)
    size = images[0].shape[3], images[0].shape[2]
    files = {}
    for title, one in Progress((("file of one size", size), ("file of any size", None)), desc=f"export of {name}"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            files[title] = export_onnx(model, one, {})
    works = {"torch": _torch(network, images, matches)} | {title: _onnx(file, images) for title, file in files.items()}
    seconds: dict[str, list[float]] = {title: [] for title in works}
    for number in range(rounds + 1):
        for title, work in works.items():
            start = time.process_time()
            work()
            if number:
                seconds[title].append(time.process_time() - start)
    middle = {title: statistics.median(times) for title, times in seconds.items()}
    outcomes = [Outcome(f"{name}, {title}: CPU time", middle[title], "s") for title in works]
    for title, file in files.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[title], seconds["torch"], strict=True))
        outcomes.append(Outcome(f"{name}, {title} / torch", ratio, ""))
        agreement = compare(file, model, *images)
        most = max(agreement.torch, agreement.onnx)
        note = f"{agreement.same} of {most}, within {agreement.points:.1g} px"
        share = agreement.same / most if most else None
        outcomes.append(Outcome(f"{name}, {title}: same matches", share, "", SAME, at_least=True, note=note))
    return outcomes


def _torch(network: S2LD, images: tuple[Tensor, Tensor], matches: int) -> Callable[[], object]:
    match = one_pass(for_inference(network), matches)

    def work() -> None:
        with torch.inference_mode():
            match(ImageBatch(images[0]), ImageBatch(images[1]))

    return work


def _onnx(file: bytes, images: tuple[Tensor, Tensor]) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    arrays = dict(zip(INPUTS, (image.numpy() for image in images), strict=True))
    return lambda: session.run(OUTPUTS, arrays)
