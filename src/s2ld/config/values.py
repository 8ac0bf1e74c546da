"""Which values a config key takes: its type is that of the default value, its range stands here."""

from __future__ import annotations

import math
import os
from typing import Any

from s2ld.errors import S2LDError, shown

_ANY = math.inf
_COUNT, _SOME, _SHARE, _POSITIVE = (0, _ANY), (1, _ANY), (0, 1), (1e-6, _ANY)
_WIDTH, _DEPTH = (1, 8192), (0, 64)  # channels and layers: a weight file's config must not build without end
RANGES: dict[str, tuple[float, float]] = {
    "MODEL.BACKBONE.STEM_DIM": _WIDTH,
    "MODEL.BACKBONE.DIMS": _WIDTH,
    "MODEL.BACKBONE.BLOCKS": _DEPTH,
    "MODEL.BACKBONE.FINE_STRIDE": (2, 4),
    "MODEL.BACKBONE.FINE_DIM": _WIDTH,
    "MODEL.BACKBONE.FINE_CONVS": _DEPTH,
    "MODEL.BACKBONE.CONTEXT": _WIDTH,
    "MODEL.BACKBONE.CONTEXT_BLOCKS": _DEPTH,
    "MODEL.DETECTOR.COARSE_DIMS": _WIDTH,
    "MODEL.DETECTOR.FINE_DIMS": _WIDTH,
    "MODEL.DETECTOR.HEAD_DIMS": _WIDTH,
    "MODEL.DETECTOR.OFFSET_RANGE": _COUNT,
    "MODEL.DETECTOR.HEATMAP_DIM": _WIDTH,
    "MODEL.ADJUSTER.HIDDEN_DIM": _WIDTH,
    "MODEL.POSITION.LONG_SIDE": _COUNT,
    "MODEL.COARSE.HEADS": _WIDTH,
    "MODEL.COARSE.AGGREGATE": (1, 4),
    "MODEL.MATCH.TEMPERATURE": _POSITIVE,
    "MODEL.MATCH.THRESHOLD": _SHARE,
    "MODEL.MATCH.BORDER": _COUNT,
    "MODEL.MATCH.SINKHORN_ITERATIONS": _SOME,
    "MODEL.FINE.HIDDEN_DIM": _WIDTH,
    "MODEL.FINE.THRESHOLD": _SHARE,
    "MODEL.FINE.WINDOW": (1, 63),
    "MODEL.FINE.HEADS": _WIDTH,
    "MODEL.CONSENSUS.FLOOR": _SHARE,
    "MODEL.CONSENSUS.CANDIDATES": _SOME,
    "MODEL.CONSENSUS.NEIGHBOURS": _SOME,
    "MODEL.CONSENSUS.ROUNDS": (1, 64),
    "MODEL.CONSENSUS.HIDDEN_DIM": _WIDTH,
    "MODEL.SCORE_FILTER.THRESHOLD": _SHARE,
    "MODEL.SCORE_FILTER.STEP": (1e-3, 1),  # the filter lowers its threshold by it until it ends
    "MODEL.SCORE_FILTER.MIN_MATCHES": _COUNT,
    "MODEL.REFINEMENT.NEIGHBOURS": _SOME,
    "MODEL.REFINEMENT.PATCH": (3, 63),
    "MODEL.REFINEMENT.STEPS": _SOME,
    "MODEL.REFINEMENT.MAX_SHIFT": (0, 8),
    "MODEL.REFINEMENT.MIN_CORRELATION": (-1, 1),
    "MODEL.DENSIFY.VERIFIED": _SHARE,
    "MODEL.DENSIFY.NEIGHBOURS": _SOME,
    "MODEL.DENSIFY.RADIUS": _POSITIVE,
    "MODEL.DENSIFY.MIN_SUPPORT": _COUNT,
    "MODEL.DENSIFY.MAX_RESIDUAL": _COUNT,
    "MODEL.DENSIFY.PROPOSALS": _SOME,
    "MODEL.DENSIFY.MAX_STRAY": _COUNT,
    "MODEL.DENSIFY.SEPARATION": _COUNT,
    "TRAIN.SEED": (0, 2**32 - 1),
    "TRAIN.MAX_STEPS": _SOME,
    "TRAIN.EPOCHS": _COUNT,
    "TRAIN.CANONICAL_LR": _COUNT,
    "TRAIN.CANONICAL_BATCH": _SOME,
    "TRAIN.WEIGHT_DECAY": _COUNT,
    "TRAIN.WARMUP_STEPS": _COUNT,
    "TRAIN.WARMUP_RATIO": _SHARE,
    "TRAIN.FINAL_LR_RATIO": _SHARE,
    "TRAIN.MILESTONES": _SHARE,
    "TRAIN.GRAD_CLIP": _COUNT,
    "TRAIN.MAX_BAD_STEPS": _SOME,
    "TRAIN.ACCUMULATE": _SOME,
    "TRAIN.EMA_DECAY": _SHARE,
    "TRAIN.CHECKPOINT_EVERY": _SOME,
    "TRAIN.VALIDATE_EVERY": _SOME,
    "TRAIN.LOG_EVERY": _SOME,
    "TRAIN.FIGURES": _COUNT,
    "TRAIN.CANDIDATES.PAIRS": (2, _ANY),
    "TRAIN.CANDIDATES.HELD_OUT": (0, 0.9),
    "TRAIN.CANDIDATES.KEEP": _SHARE,
    "TRAIN.CANDIDATES.MIXED": _SHARE,
    "TRAIN.CANDIDATES.TURN": _COUNT,
    "TRAIN.CANDIDATES.SCALE": (1, 10),
    "TRAIN.TEACHER.WEIGHT": _COUNT,
    "TRAIN.TEACHER.POINTS": _SOME,
    "TRAIN.TEACHER.TEMPERATURE": (1e-2, 1),
    "TARGETS.COARSE_RADIUS": _COUNT,
    "TARGETS.DEPTH_TOLERANCE": _COUNT,
    "TARGETS.CYCLE_RADIUS": _COUNT,
    "TARGETS.FINE_FRACTION": _SHARE,
    "TARGETS.FINE_MIN_TRUE": _COUNT,
    "LOSS.COARSE_WEIGHT": _COUNT,
    "LOSS.HARD_NEGATIVE_WEIGHT": _COUNT,
    "LOSS.FOCAL_ALPHA": _SHARE,
    "LOSS.FOCAL_GAMMA": _COUNT,
    "LOSS.FINE_WEIGHT": _COUNT,
    "LOSS.HEATMAP_WEIGHT": _COUNT,
    "LOSS.VERIFICATION_WEIGHT": _COUNT,
    "LOSS.VERIFICATION_RADIUS": _COUNT,
    "LOSS.KEYPOINT_WEIGHT": _COUNT,
    "LOSS.KEYPOINT_RADIUS": _COUNT,
    "LOSS.CORNER_WEIGHT": _COUNT,
    "LOSS.REPEATABILITY_WEIGHT": _COUNT,
    "LOSS.SCORE_WEIGHT": _COUNT,
    "LOSS.REGULARISER_WEIGHT": _COUNT,
    "LOSS.REGULARISER_HUBER": _POSITIVE,
    "LOSS.REGULARISER_MIN_PARALLAX": (0, 180),
    "LOSS.REGULARISER_MAX_ERROR": _POSITIVE,
    "LOSS.CONSENSUS_WEIGHT": _COUNT,
    "LOSS.CONSENSUS_RIGHT": _COUNT,
    "LOSS.CONSENSUS_WRONG": _COUNT,
    "LOSS.CONSENSUS_EPIPOLAR": _COUNT,
    "DATA.TRAIN_WEIGHTS": _COUNT,
    "DATA.VAL_PAIRS": _COUNT,
    "DATA.VAL_WEIGHTS": _COUNT,
    "DATA.PHOTOS_HELD_OUT": (0, 0.5),
    "DATA.TEST_PAIRS": _COUNT,
    "DATA.IMAGE_SIZE": (16, _ANY),  # one cell has no variance, which batch normalisation needs
    "DATA.TEST_LONG_SIDE": (8, _ANY),
    "DATA.BATCH_SIZE": _SOME,
    "DATA.WORKERS": _COUNT,
    "DATA.SEED": _COUNT,
    "DATA.OVERFIT_PAIRS": _COUNT,
    "DATA.SYNTHETIC.PLANES": _COUNT,
    "DATA.SYNTHETIC.BOXES": _COUNT,
    "DATA.SYNTHETIC.HEIGHT_FIELDS": _SHARE,
    "DATA.SYNTHETIC.FOV": (1, 170),
    "DATA.SYNTHETIC.BASELINE": _COUNT,
    "DATA.SYNTHETIC.ROTATION": _COUNT,
    "DATA.SYNTHETIC.ZOOM": (1e-3, _ANY),
    "DATA.SYNTHETIC.OVERLAP": _SHARE,
    "DATA.SYNTHETIC.SUPERSAMPLE": _SOME,
    "DATA.SYNTHETIC.TEXTURE_SIDE": _SOME,
    "DATA.SYNTHETIC.TEXTURE_CACHE": _COUNT,
    "DATA.HOMOGRAPHY.ROTATION": _COUNT,
    "DATA.HOMOGRAPHY.FOV": (1, 170),
    "DATA.HOMOGRAPHY.TILT": (0, 85),
    "DATA.HOMOGRAPHY.ZOOM": (1e-3, _ANY),
    "DATA.HOMOGRAPHY.OVERLAP": _SHARE,
    "DATA.HOMOGRAPHY.TURN": (0, 180),
    "DATA.HOMOGRAPHY.CURRICULUM": _COUNT,
    "DATA.HOMOGRAPHY.START.TILT": (0, 85),
    "DATA.HOMOGRAPHY.START.ZOOM": (1e-3, 1),
    "DATA.HOMOGRAPHY.START.TURN": (0, 180),
    "DATA.PHOTOMETRIC.EXPOSURE": _COUNT,
    "DATA.PHOTOMETRIC.GAMMA": (1e-2, 100),
    "DATA.PHOTOMETRIC.COLOUR_CAST": _SHARE,
    "DATA.PHOTOMETRIC.BLUR": _COUNT,
    "DATA.PHOTOMETRIC.NOISE": _COUNT,
    "DATA.PHOTOMETRIC.JPEG": (1, 100),
    "DATA.PHOTOMETRIC.SHADOW": _SHARE,
    "DATA.PHOTOMETRIC.PROBABILITY": _SHARE,
    "DATA.PHOTOMETRIC.NIGHT": _SHARE,
    "DATA.PHOTOMETRIC.LOCAL_LIGHT": _SHARE,
    "DATA.PHOTOMETRIC.HAZE": _SHARE,
    "DATA.PHOTOMETRIC.FILM": _SHARE,
    "DATA.PHOTOMETRIC.NARROW": _SHARE,
    "DATA.NOISE.ROTATION": (0, 180),
    "DATA.NOISE.TRANSLATION": (0, 180),
    "DATA.NOISE.DEPTH": _SHARE,
    "DATA.MEGADEPTH.OVERLAP": _SHARE,
    "DATA.MEGADEPTH.MAX_ANGLE": (0, 180),
    "DATA.MEGADEPTH.MAX_SCALE": (1, _ANY),
    "DATA.MEGADEPTH.PAIRS_PER_SCENE": _SOME,
    "DATA.MEGADEPTH.CACHE_MB": _COUNT,
    "DATA.POSED_PAIRS.MULTIPLE": _SOME,
    "DATA.SCANNET.SIZE": (8, _ANY),
    "DATA.HPATCHES.SHORT_SIDE": _COUNT,
    "DATA.CROP.SHARE": _SHARE,
    "DATA.CROP.NATIVE": _SHARE,
    "DATA.LIGHT.VAL_EVERY": _COUNT,
    "EVAL.OPENCV_THRESHOLD": _POSITIVE,
    "EVAL.OPENCV_CONFIDENCE": (1e-6, 1 - 1e-9),
    "EVAL.MAGSAC_THRESHOLD": _POSITIVE,
    "EVAL.POSELIB_THRESHOLD": _POSITIVE,
    "EVAL.HOMOGRAPHY_THRESHOLD": _POSITIVE,
    "EVAL.SEED": (0, 2**31 - 1),
    "EVAL.REPEATS": (1, 1000),
    "EVAL.BOOTSTRAP": (0, 100_000),
}
"""Least and largest value of every number, and of each number of a list."""

CHOICES: dict[str, tuple[str, ...]] = {
    "DATA.PHOTOMETRIC.KIND": ("ladder", "dark", "mobile"),
    "DATA.HPATCHES.SUBSET": ("all", "illumination", "viewpoint"),
    "DATA.MEGADEPTH.LAYOUT": ("undistorted_sfm", "megadepth_v1", "glue_factory"),
    "DATA.MEGADEPTH.PRINCIPAL_POINT": ("integer", "half"),
    "TRAIN.PRECISION": ("auto", "32-true", "bf16-mixed", "16-mixed"),
    "DATA.ON_BAD_PAIR": ("skip", "stop"),
    "EVAL.ESTIMATORS": ("opencv", "opencv_corrected", "magsac", "poselib"),
    "EVAL.THRESHOLD_UNIT": ("resized", "image"),
    "EVAL.PIXEL_FRAME": ("edge", "lineage"),
}
"""Words that would otherwise be refused late, amid a run; what builds a part of the network or a source checks its own.
"""

SPANS = frozenset(
    f"DATA.{key}"
    for key in (
        *("SYNTHETIC.PLANES", "SYNTHETIC.BOXES", "SYNTHETIC.FOV", "SYNTHETIC.BASELINE", "SYNTHETIC.ZOOM"),
        *(
            "SYNTHETIC.OVERLAP",
            "HOMOGRAPHY.FOV",
            "HOMOGRAPHY.ZOOM",
            "HOMOGRAPHY.OVERLAP",
            "PHOTOMETRIC.GAMMA",
            "PHOTOMETRIC.JPEG",
        ),
        "MEGADEPTH.OVERLAP",
    )
)
"""Lists of a least and a largest value, in this order."""

ANY_LENGTH = frozenset(
    (
        *("MODEL.BACKBONE.CONTEXT", "MODEL.COARSE.LAYERS", "MODEL.FINE.LAYERS", "TRAIN.FREEZE", "TRAIN.MILESTONES"),
        *("DATA.TRAIN_SOURCES", "DATA.TRAIN_WEIGHTS", "DATA.VAL_SOURCES", "DATA.PHOTOS_EXCLUDE"),
        *("DATA.VAL_SETS", "DATA.VAL_WEIGHTS"),
        *("DATA.LIGHT.VAL_PLACES", "DATA.LIGHT.TRAIN_EXCLUDE", "DATA.LIGHT.VAL_EXCLUDE"),
        *("EVAL.ESTIMATORS", "SFM.FOCALS"),
    )
)
"""Lists that need not be as long as their default."""

EXAMPLES: dict[str, list[Any]] = {"MODEL.BACKBONE.CONTEXT": [112, 160]}
"""Of lists that are empty by default and do not hold texts."""

ONE_OR_MORE = frozenset(
    f"DATA.MEGADEPTH.{split}{leaf}" for split in ("", "VAL_", "TEST_") for leaf in ("ROOT", "INDEX", "SCENES")
)
"""Texts that may be lists of texts."""

LARGEST_WHOLE = 2**63 - 1  # of any key, where its range says no less
MOST_LAYERS = 64  # entries of a list below MODEL
IMAGE_MULTIPLE = 8  # DATA.IMAGE_SIZE: the network's cell, px
_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text", list: "a list"}


def fit(key: str, value: object, default: Any, origin: str) -> Any:
    """Return `value` in the type of `default`; whole numbers and texts such as "1e-3" do for a float.

    Args:
        key: dotted name of the key.
        value: as it was read.
        default: the key's value until now, of the right type.
        origin: file or "command line", for errors.

    Raises:
        S2LDError: another type or length, or a value out of range; the message names origin, key and what would do.
    """
    if key in ONE_OR_MORE:
        if isinstance(value, list | tuple) and value:
            return [_fit_one(key, item, str, origin) for item in value]
        return _fit_one(key, value, str, origin)
    if not isinstance(default, list):
        return _fit_one(key, value, type(default), origin)
    example = default or EXAMPLES.get(key, ["name"])
    if not isinstance(value, list | tuple):
        raise S2LDError(f"{origin}: {key} is {shown(value)}; it must be a list such as {example}")
    if key not in ANY_LENGTH and len(value) != len(default):
        raise S2LDError(
            f"{origin}: {key} is {shown(list(value))}; it must have {len(default)} values, such as {default}"
        )
    if key.startswith("MODEL.") and len(value) > MOST_LAYERS:
        raise S2LDError(f"{origin}: {key} has {len(value)} values; it may have {MOST_LAYERS}")
    fitted = [_fit_one(key, item, type(example[0]), origin) for item in value]
    if key in CHOICES and not fitted:
        raise S2LDError(f"{origin}: {key} is []; name at least one of {', '.join(CHOICES[key])}")
    if key in SPANS and fitted[0] > fitted[1]:
        raise S2LDError(f"{origin}: {key} is {shown(fitted)}; the least value must come first")
    if key == "DATA.IMAGE_SIZE" and any(side % IMAGE_MULTIPLE for side in fitted):
        raise S2LDError(
            f"{origin}: {key} is {shown(fitted)}; width and height must be multiples of {IMAGE_MULTIPLE} px"
        )
    return fitted


def _fit_one(key: str, value: object, kind: type, origin: str) -> Any:
    converted = _convert(value, kind)
    if type(converted) is not kind:
        raise S2LDError(f"{origin}: {key} is {shown(value)}; it must be {_KINDS[kind]}")
    if isinstance(converted, str) and not _is_writable(converted):
        raise S2LDError(f"{origin}: {key} is {shown(converted)}; it must be a text without NUL or half characters")
    least, most = RANGES.get(key, (-_ANY, _ANY))
    if isinstance(converted, int) and converted > LARGEST_WHOLE:
        raise S2LDError(f"{origin}: {key} is {shown(converted)}; it must be at most {min(most, LARGEST_WHOLE)}")
    if isinstance(converted, float | int) and not (least <= converted <= most and abs(converted) < _ANY):
        limits = f"at least {least:g}" if most == _ANY else f"within [{least:g}, {most:.10g}]"
        raise S2LDError(f"{origin}: {key} is {shown(converted)}; it must be {limits}")
    if key in CHOICES and converted not in CHOICES[key]:
        raise S2LDError(f"{origin}: {key} is {shown(converted)}; use {' or '.join(CHOICES[key])}")
    return converted


def _is_writable(text: str) -> bool:
    """Tell whether the system takes a text as a name: a NUL ends one, and half of a surrogate pair has no bytes."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _convert(value: Any, kind: type) -> Any:
    if kind is float and (type(value) is int or isinstance(value, str)):  # YAML takes 1e-3, without a point, for a text
        try:
            return float(value)
        except (ValueError, OverflowError):
            return value
    return value
