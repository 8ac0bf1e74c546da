"""Section `many`: all pairs of few images."""

from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch

from s2ld.benchmarks.outcome import Outcome
from s2ld.data.images.motorcycle import load_motorcycle
from s2ld.data.images.reading import UInt8Image
from s2ld.log import Progress
from s2ld.matcher import Matcher
from s2ld.pair_matching import PairMatching

IMAGES = 20
SIZE = (640, 480)
"""Width and height, px."""
JITTER = 0.12  # of width and height: how far the corners of a view move
EVERY = 10  # of so many pairs one is also matched anew


def measure(threads: int, images: int = IMAGES, size: tuple[int, int] = SIZE, every: int = EVERY) -> list[Outcome]:
    """All pairs of 20 images of 640x480 px by Lite, as demo_match.py --image-dir matches them, features kept.

    images: the motorcycle's left one under 20 random homographies, in memory. Counted are the images that pass the
    backbone. time: CPU seconds; every tenth pair is also matched anew, right after, which tells what all would take.

    Args:
        threads: of the processor.
        images: number of them.
        size: width and height, px.
        every: of so many pairs one is matched anew.

    Raises:
        S2LDError: scikit-image, which ships the pair, is not installed.
    """
    torch.set_num_threads(threads)
    views = {Path(f"{number}.png"): view for number, view in enumerate(_views(images, size))}
    pairs = list(combinations(views, 2))
    matcher = Matcher.from_pretrained(device="cpu", size=size)
    matcher(*list(views.values())[:2])  # warms up
    matching = PairMatching(matcher, pairs)
    passed, kept, anew = 0, [], []

    def count(_: object, shown: tuple[torch.Tensor]) -> None:
        nonlocal passed
        passed += len(shown[0])

    for number, (path0, path1) in enumerate(Progress(pairs, unit="pair")):
        counter = matcher.model.backbone.register_forward_pre_hook(count)
        start = time.process_time()
        matching((path0, path1), views[path0], views[path1])
        kept.append(time.process_time() - start)
        counter.remove()
        if number % every == 0:
            start = time.process_time()
            matcher(views[path0], views[path1])
            anew.append(time.process_time() - start)
    whole = len(pairs) * sum(anew) / len(anew)
    return [
        Outcome(f"extractions for {len(pairs)} pairs of {images} images", passed, "", images, note="counted"),
        Outcome("all pairs, features kept: CPU time", sum(kept), "s"),
        Outcome("all pairs, each anew: CPU time", whole, "s", note=f"from {len(anew)} of them"),
        Outcome("kept / anew", sum(kept) / whole, ""),
    ]


def _views(number: int, size: tuple[int, int]) -> list[UInt8Image]:
    """The image from so many sides."""
    image = load_motorcycle().left
    generator = np.random.default_rng(0)
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    ends = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32)
    views = []
    for _ in range(number):
        moved = (corners + generator.uniform(-JITTER, JITTER, (4, 2)) * (width, height)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(moved, ends)
        view = cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
        views.append(np.ascontiguousarray(view, dtype=np.uint8))
    return views
