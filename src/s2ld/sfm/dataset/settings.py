"""What building a data set can be told: a config tree of its own, so that it does not travel in weight files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf
from pathlib import Path

from yacs.config import CfgNode as CN

from s2ld.config import build_config, value_of
from s2ld.errors import S2LDError

_RANGES = {
    "SEED": (0, 2**31 - 1),
    "MAX_SIDE": (64, inf),
    "MIN_IMAGES": (3, inf),
    "SFM.MAX_SIDE": (64, inf),
    "SFM.FEATURES": (1, inf),
    "SFM.EXHAUSTIVE": (0, inf),
    "SFM.PARTNERS": (1, inf),
    "DEPTH.LONG_SIDE": (64, inf),
    "DEPTH.LEAST_KNOWN": (0, 1),
    "PAIRS.PER_IMAGE": (1, inf),
    "PAIRS.MAX_ANGLE": (0, 180),
    "PAIRS.GRID": (1, inf),
    "PAIRS.TOLERANCE": (0, 1),
    "SPLIT.VAL": (0, 1),
    "SPLIT.TEST": (0, 1),
    "SPLIT.HELD_OUT": (0, 1),
}
"""Least and largest value of every number."""


def build_defaults() -> CN:
    """Return a fresh, mutable copy of the default tree of `s2ld build-dataset`."""
    c = CN()
    c.SEED = 0  # of the mapper, of which pairs are drawn and of the split
    c.MAX_SIDE = 800  # longer side of the undistorted images, px
    c.MIN_IMAGES = 4  # a model of fewer is no scene
    c.SFM = CN()
    c.SFM.MAX_SIDE = 1600  # longer side of the photographs in which features are found, px
    c.SFM.FEATURES = 8192  # SIFT features a photograph
    c.SFM.EXHAUSTIVE = 80  # up to so many photographs all pairs are matched, above it those that look alike
    c.SFM.PARTNERS = 20  # most alike photographs that each one is matched with
    c.SFM.FOCALS = [1.2, 0.8]  # focal lengths that mapping starts from, in longer sides, where EXIF tells none
    c.SFM.SHARE_CAMERAS = True  # photographs of one size, camera and focal length by EXIF have one camera
    c.DEPTH = CN()
    c.DEPTH.LONG_SIDE = 400  # longer side of the images that are swept, px; maps are enlarged to the images' size
    c.DEPTH.LEAST_KNOWN = 0.02  # median share of an image's pixels of known depth; a scene that knows less is none
    c.PAIRS = CN()
    c.PAIRS.OVERLAP = [0.1, 0.3, 0.5, 0.8]  # edges of the bins of overlap that pairs are drawn from evenly
    c.PAIRS.PER_IMAGE = 30  # pairs that an image is in at most
    c.PAIRS.MAX_ANGLE = 60.0  # degrees: pairs of a wider triangulation angle only where room is left
    c.PAIRS.GRID = 5  # px between the points that overlap is measured at
    c.PAIRS.TOLERANCE = 0.05  # relative difference of depth up to which two images see one surface
    c.SPLIT = CN()
    c.SPLIT.VAL = 0.1  # share of the places that validate, one at least
    c.SPLIT.TEST = 0.1  # share of the places that test, one at least
    c.SPLIT.HELD_OUT = 0.2  # where there is one place: share of its images that training does not see
    return c


def build_settings(files: Sequence[Path], overrides: Sequence[str]) -> CN:
    """Merge YAML files, then KEY VALUE pairs, over the defaults, and freeze.

    Raises:
        S2LDError: what `build_config` says; a value is out of range.
    """
    config = build_config(files, overrides, build_defaults())
    for key, (least, most) in _RANGES.items():
        if not least <= value_of(config, key) <= most:
            limits = f"at least {least:g}" if most == inf else f"within [{least:g}, {most:g}]"
            raise S2LDError(f"{key} is {value_of(config, key)}; it must be {limits}")
    edges = config.PAIRS.OVERLAP
    if not all(0 <= a < b <= 1 for a, b in pairwise(edges)):
        raise S2LDError(f"PAIRS.OVERLAP is {edges}; it must be ascending edges of bins between 0 and 1")
    focals = config.SFM.FOCALS
    if not focals or not all(0.1 <= focal <= 20 for focal in focals):
        raise S2LDError(f"SFM.FOCALS is {focals}; it must be focal lengths from 0.1 to 20 longer sides, one at least")
    return config
