"""Candidates with what is known of their truth: of one pair, as it is cached, and of a batch, as it is learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from s2ld.training.consensus.labels import CandidateErrors
from s2ld.types import Candidates, Movable

Size = tuple[int, int]


@dataclass(frozen=True)
class CandidatePair:
    """All candidates of one pair, measured."""

    candidates: Candidates
    """Of pair 0; the descriptors are float16."""
    errors: CandidateErrors
    source: str
    """Data source that the pair comes from."""
    names: tuple[str, str]
    """Of both images."""
    sizes: tuple[Size, Size]
    """Width and height of both images, resized px."""


@dataclass(frozen=True)
class LabelledPair:
    """The candidates of one pair, ready to be learnt from."""

    candidates: Candidates
    """Of pair 0."""
    labels: Tensor
    """(M,) int8, see `s2ld.training.consensus.labels.label`."""
    source: str
    names: tuple[str, str]
    skipped: tuple[str, ...] = ()
    """Pairs that could not be read and in whose place this one came: a line each."""


@dataclass(frozen=True)
class CandidateBatch(Movable):
    """The candidates of several pairs; beside them what the training's log asks of any batch."""

    candidates: Candidates
    labels: Tensor
    """(M,) int8, see `s2ld.training.consensus.labels.label`."""
    size: int
    """Number of pairs."""
    names: Sequence[tuple[str, str]]
    sources: Sequence[str]
    skipped: Sequence[str] = ()
    """A line for each pair that could not be read and in whose place another one is here."""


def collate_candidates(pairs: Sequence[LabelledPair]) -> CandidateBatch:
    """Join pairs to a batch; nothing is padded."""
    parts = [
        replace(pair.candidates, batch=torch.full_like(pair.candidates.batch, number))
        for number, pair in enumerate(pairs)
    ]
    return CandidateBatch(
        Candidates.joined(parts),
        torch.cat([pair.labels for pair in pairs]),
        len(pairs),
        [pair.names for pair in pairs],
        [pair.source for pair in pairs],
        [line for pair in pairs for line in pair.skipped],
    )
