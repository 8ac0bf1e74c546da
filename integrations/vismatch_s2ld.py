"""S2LD as a matcher of vismatch (github.com/gmberton/vismatch); hung in as docs/integrations.md says."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vismatch import BaseMatcher

from s2ld import Matcher


class S2LDMatcher(BaseMatcher):
    """Matches images at the size that vismatch hands over."""

    def __init__(
        self,
        device: str = "cpu",
        max_num_keypoints: int | None = None,
        weights: str = "s2ld-lite",
        threshold: float | None = None,
        **options: Any,
    ) -> None:
        """Load weights by name, path or hf://user/name@REVISION; `max_num_keypoints` is the most matches of a pair."""
        super().__init__(device, **options)
        self.matcher = Matcher.from_pretrained(weights, threshold, -1, device, top_k=max_num_keypoints)

    def _forward(self, img0: Tensor, img1: Tensor) -> tuple[Any, ...]:
        found = self.matcher(img0.clamp(0, 1), img1.clamp(0, 1))  # bicubic resizing leaves [0, 1]
        return found.points0, found.points1, found.keypoints0, found.keypoints1, None, None, found.confidence
