"""A matcher whose matches are known, and the page behind a socket, for the tests of `s2ld.web`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from s2ld.data.images.reading import UInt8Image, network_size
from s2ld.types import FloatArray, Matches

SHIFT = np.array([6.0, -4.0], np.float32)
"""px by which inliers move from image 0 to image 1."""
COUNT = 100
INLIERS = 80
"""The matches that are most confident."""


class StandIn:
    """Says the same of every pair: match i has confidence (i + 0.5) / `COUNT`, the last `INLIERS` move by `SHIFT`."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(threshold=0.2)
        self.max_side, self.rotation = 640, "none"

    def extract(self, image: UInt8Image) -> UInt8Image:
        return image

    def match(
        self, image0: UInt8Image, image1: UInt8Image, threshold: float | None = None, top_k: int | None = None
    ) -> Matches:
        height, width = image0.shape[:2]
        rng = np.random.default_rng(0)
        points0 = (rng.random((COUNT, 2)) * [width - 1, height - 1]).astype(np.float32)
        points1 = points0 + SHIFT
        points1[: COUNT - INLIERS] += rng.uniform(20, 60, (COUNT - INLIERS, 2)).astype(np.float32)
        confidence = ((np.arange(COUNT) + 0.5) / COUNT).astype(np.float32)
        kept = confidence > (self.model.threshold if threshold is None else threshold)
        found = Matches(points0[kept], points1[kept], confidence[kept], np.ones(kept.sum(), np.float32))
        return found if top_k is None else found.top(top_k)

    def __call__(self, image0: UInt8Image, image1: UInt8Image, **cuts: Any) -> Matches:
        return self.match(image0, image1, **cuts)

    def detect(self, image: UInt8Image) -> tuple[FloatArray, FloatArray]:
        height, width = image.shape[:2]
        x, y = np.meshgrid(np.arange(4, width, 8), np.arange(4, height, 8))
        points = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
        return points, np.linspace(1, 0, len(points), dtype=np.float32)

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        return network_size(width, height, self.max_side)


def photo(width: int = 96, height: int = 64, seed: int = 0, kind: str = ".png") -> bytes:
    """Return a file of coarse noise in faint colours."""
    small = np.random.default_rng(seed).integers(60, 180, (height // 8, width // 8, 3), np.uint8)
    return cv2.imencode(kind, cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))[1].tobytes()


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application in a thread; gives its address."""
    import uvicorn

    from s2ld.web.serve import listen

    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
