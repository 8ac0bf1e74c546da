"""Any matcher behind one small interface, so that all go through one cache and one evaluation; ours is one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from s2ld.data.images.reading import MULTIPLE
from s2ld.models.checkpoint import load_model
from s2ld.models.fast.inference import computing_in, for_inference
from s2ld.types import ImageBatch, Prediction


@dataclass(frozen=True)
class MatchedPair:
    """What a matcher says of one pair; all points in resized px."""

    points0: Tensor
    """(M, 2)."""
    points1: Tensor
    """(M, 2)."""
    confidence: Tensor
    """(M,) in [0, 1]; ones where a matcher gives none."""
    score: Tensor
    """(M,) of the keypoints 0; ones where a matcher gives none."""
    keypoints0: Tensor
    """(P, 2) everything detected in image 0, for repeatability; (0, 2) where a matcher does not tell."""
    keypoints1: Tensor
    """(Q, 2)."""

    @classmethod
    def of(cls, prediction: Prediction) -> MatchedPair:
        """Take what our network says of a batch of one pair."""
        fine, encoded = prediction.fine, prediction.encoded
        keypoints = (encoded.keypoints0.points[0], encoded.keypoints1.points[0])
        return cls(fine.points0, fine.points1, prediction.coarse.confidence, fine.score, *keypoints)


class PairMatcher(Protocol):
    """Matches two images that are grey and resized already, as (1, 1, H, W) in [0, 1]."""

    @property
    def name(self) -> str:
        """Name of its row in tables."""
        ...

    @property
    def multiple(self) -> int:
        """Of what the sides of images must be multiples, px."""
        ...

    @property
    def weights(self) -> str:
        """What it was made from: a weight file, or a library and its version."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the weight file or, without one, of what stands for it."""
        ...

    @property
    def settings(self) -> str:
        """What else its matches depend on, one line for people."""
        ...

    @property
    def model(self) -> str:
        """The same, complete, for the header of a cache."""
        ...

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> MatchedPair:
        """Match one pair."""
        ...


class NetworkMatcher:
    """Our network from a weight file on `device`, in the form that `Matcher` runs (`for_inference`).

    Args:
        name: of its row.
        path: weight file.
        device: where it runs.
        overrides: KEY VALUE pairs of the MODEL node over the config inside the file.
        precision: see `computing_in`; another than fp32 is part of the name.

    Raises:
        S2LDError: what `load_model` says.
    """

    def __init__(
        self, name: str, path: Path, device: torch.device, overrides: Sequence[str] = (), precision: str = "fp32"
    ) -> None:
        self._reduced = "" if precision == "fp32" else f", {precision}"
        self._precision = partial(computing_in, precision, device)
        self.name = name + self._reduced
        self.multiple = MULTIPLE
        self.weights = path.name
        self.network = for_inference(load_model(path, device, overrides)[0])
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()

    @property
    def settings(self) -> str:
        """See `PairMatcher`."""
        config = self.network.config
        text = f"confidence above {config.MATCH.THRESHOLD:g}, border {config.MATCH.BORDER} cells"
        if config.CONSENSUS.ENABLED:
            text += f", by a consensus of at most {config.CONSENSUS.CANDIDATES} candidates"
        elif config.FINE.THRESHOLD > 0:
            text += f", probability of being right above {config.FINE.THRESHOLD:g}"
        text += ", densified" if config.DENSIFY.ENABLED else ""
        text += ", score filter" if config.SCORE_FILTER.ENABLED else ""
        return text + (", photometric refinement" if config.REFINEMENT.ENABLED else "") + self._reduced

    @property
    def model(self) -> str:
        """See `PairMatcher`."""
        return str(self.network.config.dump()) + self._reduced

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> MatchedPair:
        """See `PairMatcher`."""
        with self._precision():
            return MatchedPair.of(self.network(images0, images1))
