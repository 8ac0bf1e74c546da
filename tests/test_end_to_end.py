"""Shipped weights on a real pair of photographs: the quality that the project promises."""

from __future__ import annotations

import numpy as np
import pytest

from s2ld import Matcher
from s2ld.data.images.motorcycle import load_motorcycle

LONG_SIDE = 640


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_shipped_weights_match_the_motorcycle(precision: str) -> None:
    """At least 500 matches, at least 85 % of them within 3 px of the true disparity, at 640 px long side."""
    pytest.importorskip("skimage")
    stereo = load_motorcycle()
    matcher = Matcher.from_pretrained("s2ld-lite", max_side=LONG_SIDE, device="cpu", precision=precision)
    matches = matcher(stereo.left, stereo.right)
    errors = stereo.errors(matches.points0, matches.points1) * LONG_SIDE / max(stereo.disparity.shape)
    known = errors[np.isfinite(errors)]
    assert len(matches) >= 500
    assert len(known) >= 0.8 * len(matches)
    assert (known <= 3).mean() >= 0.85
