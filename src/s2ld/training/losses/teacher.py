"""A teacher for hard light: the coarse map must find what another network says of the clean photograph.

The student sees the photograph warped, darkened and noisy; its coarse feature at the place of a point, projected, must
be more like the teacher's descriptor of that point on the clean photograph than like those of all other points of the
batch, and the reverse (InfoNCE in both directions: van den Oord et al., 2018; Radford et al., ICML 2021). The
projection is of the training alone: it is in its checkpoints and in no weight file.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2ld.config import CN
from s2ld.data.sources.by_name import teacher_of
from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision
from s2ld.models.detector import CELL
from s2ld.models.local_dense import cut_windows
from s2ld.types import EncodedPair, Features, PairBatch, TeacherPoints, View

LARGEST_SCALE = 100.0
"""Of the cosines, as in CLIP."""


class TeacherHead(nn.Module):
    """Projection of coarse features to the teacher's space, and the scale of the cosines there.

    Its start is a function of the seed alone, and takes nothing from the global random numbers.

    Args:
        coarse_dim: channels of the coarse map.
        dim: numbers of a descriptor.
        temperature: 1 / scale at the start.
        seed: of the start.
    """

    def __init__(self, coarse_dim: int, dim: int, temperature: float, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(coarse_dim, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, features: Tensor, descriptors: Tensor) -> Tensor:
        """Return scaled cosines (K, U) of features (K, C) and descriptors (U, D) of length 1; float32."""
        projected = F.normalize(self.projection(features), dim=1)
        return self.log_scale.exp().clamp(max=LARGEST_SCALE) * projected @ descriptors.T


def build_teacher_head(config: CN) -> TeacherHead | None:
    """Return the head of TRAIN.TEACHER, None where it is off.

    Raises:
        S2LDError: its file is missing or of another kind, or the training stage does not train the coarse map.
    """
    teacher = teacher_of(config)
    if teacher is None:
        return None
    if config.TRAIN.STAGE != "matcher":
        raise S2LDError(f"TRAIN.TEACHER.FILE: the {config.TRAIN.STAGE} stage has no teacher; empty it")
    node = config.TRAIN.TEACHER
    coarse_dim = int(config.MODEL.BACKBONE.DIMS[-1])
    return TeacherHead(coarse_dim, int(teacher.info.dim), float(node.TEMPERATURE), int(config.TRAIN.SEED))


def teacher_losses(head: TeacherHead, encoded: EncodedPair, batch: PairBatch) -> Tensor:
    """Return the loss of each of the batch's K points of both sides, (K,); none where no view has any.

    Mean of two cross entropies. A point's feature among the descriptors: each point of a photograph counts once,
    however many views show it. Its descriptor among the features: those of the same point in other views are no rivals.
    """
    dim = head.projection.out_features
    sides = [_side(encoded.features0, batch.view0, dim), _side(encoded.features1, batch.view1, dim)]
    features, descriptors, label = (torch.cat(parts) for parts in zip(*sides, strict=True))
    if not len(label):
        nothing: Tensor = head(features, descriptors)
        return nothing.sum(1)
    with torch.autocast(features.device.type, enabled=False):
        _, own = torch.unique(label, return_inverse=True)
        columns = descriptors.new_zeros(int(own.max()) + 1, descriptors.shape[1]).index_copy(0, own, descriptors)
        logits = head(features, columns)
        return (F.cross_entropy(logits, own, reduction="none") + _among_features(logits, own)) / 2


def _among_features(logits: Tensor, own: Tensor) -> Tensor:
    """Return the cross entropy (K,) of descriptor `own` (K,) with each feature that shows it; logits (K, U)."""
    shows = F.one_hot(own, logits.shape[1]).bool()
    rivals = logits.masked_fill(shows, torch.finfo(logits.dtype).min).logsumexp(0)
    right = logits.gather(1, own[:, None])[:, 0]
    return F.softplus(rivals[own] - right)


def _side(features: Features, view: View, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return coarse features (K, C) at the teacher's points, bilinear, their descriptors and labels; float32."""
    points, coarse = view.teacher, features.coarse
    if points is None:
        nothing = torch.zeros(0, coarse.shape[1] + dim, device=coarse.device)
        return nothing[:, dim:], nothing[:, :dim], nothing.new_zeros(0, dtype=torch.int64)
    return _sample(coarse, points), points.descriptors, points.label


def _sample(coarse: Tensor, points: TeacherPoints) -> Tensor:
    windows = cut_windows(full_precision(coarse), points.batch, points.points / CELL, 1, subpixel=True)
    return windows[:, 0]
