"""Which modules learn in which stage of the training."""

from __future__ import annotations

from torch import nn

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.models.network import S2LD

DETECTOR_MODULES = ("backbone", "keypoint_detector")
"""Names of the top-level modules that make up the detector."""


def frozen_modules(matcher: S2LD, config: CN) -> list[nn.Module]:
    """Return the top-level modules that do not learn, by FREEZE and STAGE of the TRAIN node.

    Raises:
        S2LDError: unknown stage or module, or the network lacks what the stage trains.
    """
    children = dict(matcher.named_children())
    unknown = [name for name in config.FREEZE if name not in children]
    if unknown:
        raise S2LDError(f"TRAIN.FREEZE: unknown module {unknown[0]}; the network has {', '.join(children)}")
    learning = {"matcher": tuple(children), "detector": DETECTOR_MODULES, "consensus": ("consensus",)}
    if config.STAGE not in learning:
        raise S2LDError(f"TRAIN.STAGE {config.STAGE!r} is unknown; use {', '.join(learning)}")
    if config.STAGE == "consensus" and matcher.consensus is None:
        raise S2LDError("TRAIN.STAGE consensus: the network has none; set MODEL.CONSENSUS.ENABLED True")
    idle = [name for name in children if name not in learning[config.STAGE]]
    return [children[name] for name in dict.fromkeys([*config.FREEZE, *idle])]
