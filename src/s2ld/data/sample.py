"""One posed pair, and how pairs become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from s2ld.data.images.reading import MULTIPLE
from s2ld.types import ImageBatch, PairBatch, TeacherPoints, View


@dataclass(frozen=True)
class ViewSample:
    """One image of a pair, resized; sides are multiples of 8."""

    image: Tensor
    """(1, H, W) float32 grey in [0, 1]."""
    K: Tensor
    """(3, 3) float32 intrinsics in resized px, pixel centres at integers."""
    depth: Tensor | None
    """(H, W) float32 z at the resized pixels, 0 unknown; None when there is none."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Image px per resized px, (x, y)."""
    name: str = ""
    teacher: TeacherPoints | None = None
    """Points that a teacher has described, of batch 0; None where there is no teacher."""


@dataclass(frozen=True)
class PairSample:
    """One posed pair."""

    view0: ViewSample
    view1: ViewSample
    T_0to1: Tensor
    """(4, 4) float32, x1 = R x0 + t in the unit of the depth."""
    source: str = ""
    homography: Tensor | None = None
    """(3, 3) float32 from resized px of view 0 to those of view 1, any scale; None unless the pair shows one plane."""
    skipped: tuple[str, ...] = ()
    """Pairs that could not be read and in whose place this one came: a line each, beginning with the file."""


class PairSource(Protocol):
    """A map-style data set of posed pairs, a pure function of its seed and the index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> PairSample: ...


def epoch_pairs_of(source: PairSource) -> int | None:
    """Return the pairs of an epoch of a training source that has epochs (`MegaDepthPairs`), None of another."""
    pairs: int | None = getattr(source, "epoch_pairs", None)
    return pairs


def collate(samples: Sequence[PairSample]) -> PairBatch:
    """Stack samples; views of unlike sizes are padded with zeros at right and bottom and get a mask of valid cells."""
    homographies = [s.homography for s in samples if s.homography is not None]
    return PairBatch(
        _stack([s.view0 for s in samples]),
        _stack([s.view1 for s in samples]),
        torch.stack([s.T_0to1 for s in samples]),
        [(s.view0.name, s.view1.name) for s in samples],
        [s.source for s in samples],
        torch.stack(homographies) if len(homographies) == len(samples) else None,
        [line for s in samples for line in s.skipped],
    )


def _stack(views: Sequence[ViewSample]) -> View:
    height = max(v.image.shape[-2] for v in views)
    width = max(v.image.shape[-1] for v in views)
    image = torch.zeros(len(views), 1, height, width)
    mask = torch.zeros(len(views), height // MULTIPLE, width // MULTIPLE, dtype=torch.bool)
    depth = torch.zeros(len(views), height, width) if any(v.depth is not None for v in views) else None
    for i, view in enumerate(views):
        h, w = view.image.shape[-2:]
        image[i, :, :h, :w] = view.image
        mask[i, : h // MULTIPLE, : w // MULTIPLE] = True
        if depth is not None and view.depth is not None:
            depth[i, :h, :w] = view.depth
    return View(
        ImageBatch(image, None if bool(mask.all()) else mask),
        torch.tensor([v.scale for v in views]),
        torch.stack([v.K for v in views]),
        depth,
        _join_teacher(views),
    )


def _join_teacher(views: Sequence[ViewSample]) -> TeacherPoints | None:
    """Return the teacher's points of all views, None where no view has any."""
    parts = [replace(v.teacher, batch=v.teacher.batch + i) for i, v in enumerate(views) if v.teacher is not None]
    return TeacherPoints.joined(parts) if parts else None
