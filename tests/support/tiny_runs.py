"""A network and pairs so small that a whole training takes seconds on one core."""

from __future__ import annotations

from pathlib import Path

import yaml

from s2ld.config import CN, build_config, config_from_text
from s2ld.data.sample import PairSample, PairSource

TINY = {
    "MODEL": {
        "BACKBONE": {"TYPE": "lite", "STEM_DIM": 8, "DIMS": [8, 16, 32], "BLOCKS": [1, 1, 1], "FINE_DIM": 16},
        "DETECTOR": {"COARSE_DIMS": [16, 16], "FINE_DIMS": [16, 16], "HEAD_DIMS": [16, 16]},
        "ADJUSTER": {"HIDDEN_DIM": 32},
        "COARSE": {"LAYERS": ["self", "cross"], "HEADS": 4},
        "FINE": {"HEADS": 4},
        "MATCH": {"BORDER": 0},
    },
    "TRAIN": {
        **{"MAX_STEPS": 4, "WARMUP_STEPS": 2, "CANONICAL_BATCH": 2, "CANONICAL_LR": 2.5e-4},
        **{"CHECKPOINT_EVERY": 100, "VALIDATE_EVERY": 100, "LOG_EVERY": 1},
    },
    "DATA": {
        "TRAIN_SOURCES": ["homography"],
        "VAL_SOURCES": ["homography"],
        "VAL_PAIRS": 2,
        "IMAGE_SIZE": [64, 64],
        "BATCH_SIZE": 2,
        "WORKERS": 0,
    },
}

SMALL = """
MODEL:
  BACKBONE: {STEM_DIM: 8, DIMS: [8, 12, 32], BLOCKS: [1, 1, 1], FINE_DIM: 8}
  DETECTOR: {COARSE_DIMS: [16, 16], FINE_DIMS: [8, 8], HEAD_DIMS: [16, 16]}
  ADJUSTER: {HIDDEN_DIM: 32}
  COARSE: {LAYERS: [self, cross], HEADS: 4}
  FINE: {HEADS: 4}
  MATCH: {TEMPERATURE: 0.02, THRESHOLD: 0.05, BORDER: 1}
TRAIN: {EMA_DECAY: 0.0}
TARGETS: {FINE_MIN_TRUE: 5}
DATA: {IMAGE_SIZE: [96, 64], SYNTHETIC: {SUPERSAMPLE: 1, TEXTURE_SIDE: 64, OVERLAP: [0.8, 1.0]}}
"""
"""The paper's network, and images for single training steps in float64."""


def small_config() -> CN:
    return config_from_text(SMALL, "SMALL")


def write_tiny(folder: Path) -> Path:
    """Write the tiny config as a file for the command line."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def tiny_config(folder: Path, *overrides: str) -> CN:
    """Build the tiny config with KEY VALUE pairs over it."""
    return build_config([write_tiny(folder)], overrides)


class OnePair:
    """An endless source of one and the same pair."""

    def __init__(self, source: PairSource, index: int) -> None:
        self.pair = source[index]

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> PairSample:
        return self.pair
