"""Small networks and inputs for the tests of this folder."""

from __future__ import annotations

import torch

from s2ld.config import CN, build_config, config_from_text
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch

TINY = """
MODEL:
  BACKBONE: {TYPE: lite, STEM_DIM: 8, DIMS: [8, 16, 32], BLOCKS: [0, 0, 1], FINE_DIM: 16}
  DETECTOR: {COARSE_DIMS: [16, 16], FINE_DIMS: [8, 8], HEAD_DIMS: [16, 16]}
  ADJUSTER: {HIDDEN_DIM: 32}
  COARSE: {LAYERS: [self, cross], HEADS: 4}
  FINE: {HEADS: 4}
  MATCH: {THRESHOLD: 0.0}
"""

LITE_PARTS = ("MODEL.DETECTOR.TYPE", "heatmap", "MODEL.FINE.TYPE", "correlation")
"""The detector and the fine stage of S2LD-Lite."""

LAYOUT = (
    *("MODEL.INPUT.NORMALISATION", "local", "MODEL.COARSE.AGGREGATE", "2"),
    *("MODEL.BACKBONE.CONTEXT", "[24, 40]", "MODEL.BACKBONE.CONTEXT_BLOCKS", "1"),
)
"""What a lite network can have beside its parts: normalised images, aggregated attention, levels beyond H/8."""


def tiny_config(*overrides: str) -> CN:
    return build_config(overrides=overrides, base=config_from_text(TINY, "TINY"))


def tiny_network(*overrides: str) -> S2LD:
    torch.manual_seed(0)
    return S2LD(tiny_config(*overrides).MODEL).eval()


def random_images(n: int, height: int, width: int, seed: int = 0) -> ImageBatch:
    return ImageBatch(torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(seed)))
