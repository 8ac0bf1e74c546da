"""The values that flow between the modules: frozen, typed, never updated in place.

Conventions, everywhere in the package:

- N pairs in a batch; ``H, W`` the resized (and padded) image, both multiples of 8; coarse grid ``h = H/8, w = W/8``;
  cell index ``l = row * w + col``; M matches of the whole batch together.
- Points are ``(..., 2)`` as (x right, y down) with pixel centres at integers.
- "resized px" are pixels of the image that the network sees, "image px" those of the photograph as given.
- Intrinsics and depth of a view belong to the resized image; poses map world or camera-0 points: ``x1 = R x0 + t``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, cat, device

if TYPE_CHECKING:  # it rests on this module, and on OpenCV
    from s2ld.geometry.two_view import Kind, TwoView

FloatArray = NDArray[np.floating[Any]]


class Movable:
    """Adds `.to(device)`, which Lightning looks for in a batch, and `.joined` to a frozen dataclass of tensors."""

    def to(self, target: device | str, non_blocking: bool = False) -> Self:
        """Return a copy whose tensors (nested values too) are on `target`."""
        moved: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                value = value.to(target, non_blocking=non_blocking)
            elif isinstance(value, Movable):
                value = value.to(target, non_blocking)
            moved[field.name] = value
        return type(self)(**moved)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join the parts, of which there is at least one, along the first axis of every tensor; nested values too."""
        whole: dict[str, Any] = {}
        for field in fields(cls):  # type: ignore[arg-type]
            values = [getattr(part, field.name) for part in parts]
            if isinstance(values[0], Movable):
                whole[field.name] = type(values[0]).joined(values)
            else:
                whole[field.name] = cat(values) if isinstance(values[0], Tensor) else values[0]
        return cls(**whole)


class Rows(Movable):
    """Adds `.at(rows)` to a frozen dataclass whose tensors have a row for each match."""

    def at(self, rows: Tensor) -> Self:
        """Return a copy that holds these rows only (indices or a mask), nested values too."""
        chosen: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Rows):
                value = value.at(rows)
            elif isinstance(value, Tensor):
                value = value[rows]
            chosen[field.name] = value
        return type(self)(**chosen)


@dataclass(frozen=True)
class ImageBatch(Movable):
    """What the network sees of one side of the pairs."""

    image: Tensor
    """(N, 1, H, W) grey in [0, 1], resized and padded with zeros at right and bottom."""
    mask: Tensor | None = None
    """(N, h, w) bool, true where a cell lies in the image and not in the padding; None when nothing is padded."""


@dataclass(frozen=True)
class TeacherPoints(Rows):
    """Points of a side of which a teacher has described the clean photograph; K of the whole batch together."""

    batch: Tensor
    """(K,) int64, pair in the batch."""
    points: Tensor
    """(K, 2) resized px, where the view shows them."""
    descriptors: Tensor
    """(K, D) float32, of length 1."""
    label: Tensor
    """(K,) int64, the same for the same point of the same photograph only."""

    def __len__(self) -> int:
        return self.batch.shape[0]


@dataclass(frozen=True)
class View(Movable):
    """One side of a batch of pairs with all that is known of it."""

    images: ImageBatch
    scale: Tensor
    """(N, 2) image px per resized px, (x, y)."""
    K: Tensor
    """(N, 3, 3) intrinsics in resized px, pixel centres at integers."""
    depth: Tensor | None = None
    """(N, H, W) z in the camera frame at the resized pixels, scale-free; 0 is unknown. None when there is none."""
    teacher: TeacherPoints | None = None
    """Of the views of photographs that a teacher has described; None when no pair has any."""


@dataclass(frozen=True)
class PairBatch(Movable):
    """A batch of posed pairs."""

    view0: View
    view1: View
    T_0to1: Tensor
    """(N, 4, 4) x1 = R x0 + t, same unit as the depth."""
    names: Sequence[tuple[str, str]] = ()
    """Per pair the two image names, for messages and dumps."""
    sources: Sequence[str] = ()
    """Per pair the data source that it comes from."""
    homography: Tensor | None = None
    """(N, 3, 3) from resized px of view 0 to those of view 1, any scale; None unless every pair shows one plane."""
    skipped: Sequence[str] = ()
    """A line for each pair that could not be read and in whose place another one is here."""

    @property
    def size(self) -> int:
        """Number of pairs."""
        return self.T_0to1.shape[0]


@dataclass(frozen=True)
class Features(Movable):
    """Backbone output of one side."""

    coarse: Tensor
    """(N, C, h, w)."""
    fine: Tensor
    """(N, Cf, H/s, W/s), s the fine stride, 2 in the paper configuration; pixel (i, j) is at resized px (s j, s i)."""


@dataclass(frozen=True)
class Keypoints(Movable):
    """One keypoint a cell."""

    offset: Tensor
    """(N, 2, h, w) x then y, in half cells (times 4 = resized px) from the cell's top-left corner."""
    score: Tensor
    """(N, 1, h, w) in [0, 1]."""
    points: Tensor
    """(N, h*w, 2) resized px: 8 (col, row) + 4 offset."""
    logits: Tensor | None = None
    """(N, h*w, k²) of a detector that chooses among the k² fine pixels around each cell's corner, row by row."""


@dataclass(frozen=True)
class ImageFeatures(Movable):
    """All that is computed of one side alone, whatever its partner."""

    features: Features
    keypoints: Keypoints
    tokens: Tensor
    """(N, h*w, C) adjusted coarse features with their positions, as the coarse transformer takes them."""
    mask: Tensor | None = None
    """(N, h, w) of `ImageBatch`."""
    image: Tensor | None = None
    """(N, 1, H, W) of `ImageBatch`, where MODEL.REFINEMENT is enabled; else None."""

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        parts = (self, self.features, self.keypoints)
        return sum(value.nbytes for part in parts for value in vars(part).values() if isinstance(value, Tensor))


@dataclass(frozen=True)
class EncodedPair(Movable):
    """Both sides after backbone, detector and coarse transformer."""

    features0: Features
    features1: Features
    keypoints0: Keypoints
    keypoints1: Keypoints
    coarse0: Tensor
    """(N, L, C) descriptors after the coarse transformer."""
    coarse1: Tensor
    """(N, S, C)."""
    image0: Tensor | None = None
    """(N, 1, H, W) of `ImageBatch`, where MODEL.REFINEMENT is enabled; else None."""
    image1: Tensor | None = None


@dataclass(frozen=True)
class CoarseMatches(Rows):
    """Sparse matches as indices of cells."""

    batch: Tensor
    """(M,) int64, pair in the batch, ascending for predicted matches."""
    cell0: Tensor
    """(M,) int64."""
    cell1: Tensor
    """(M,) int64."""
    confidence: Tensor
    """(M,) in [0, 1], differentiable in training; 0 for a true match that was filled in."""

    def __len__(self) -> int:
        return self.batch.shape[0]


@dataclass(frozen=True)
class Correlation(Rows):
    """What the correlating fine stage says of each match beside its point."""

    logits: Tensor
    """(M, W²) similarity of the query with every fine pixel of window 1, row by row."""
    centre: Tensor
    """(M, 2) resized px of window 1's middle fine pixel."""
    right: Tensor
    """(M,) logit of the probability that the refined point is right."""


@dataclass(frozen=True)
class FineMatches(Rows):
    """Sub-pixel matches, row i belonging to row i of the coarse matches."""

    points0: Tensor
    """(M, 2) resized px: exactly the keypoints of image 0."""
    points1: Tensor
    """(M, 2) resized px: the place in image 1, refined around its keypoint."""
    expectation: Tensor
    """(M, 3) soft-argmax x, y in [-1, 1] of the window and its standard deviation."""
    score: Tensor
    """(M,) score of keypoint 0."""
    descriptors0: Tensor | None = None
    """(M, C + Cf) coarse and fine descriptor at point 0, when asked for."""
    descriptors1: Tensor | None = None
    correlation: Correlation | None = None
    """Of the correlating fine stage; None of the transformer."""


@dataclass(frozen=True)
class Candidates(Rows):
    """Matches that a consensus judges, with what it sees of each."""

    batch: Tensor
    """(M,) int64, pair in the batch, ascending."""
    points0: Tensor
    """(M, 2) resized px of image 0."""
    points1: Tensor
    """(M, 2) resized px of image 1, refined."""
    evidence: Tensor
    """(M, 4) what the stages before say of a match: see `s2ld.models.consensus.stage.gather_candidates`."""
    descriptors0: Tensor
    """(M, C) coarse descriptors."""
    descriptors1: Tensor
    """(M, C)."""

    def __len__(self) -> int:
        return self.batch.shape[0]


@dataclass(frozen=True)
class Prediction(Movable):
    """All that the network says of a batch of pairs."""

    encoded: EncodedPair
    confidence: Tensor | None
    """(N, L, S) confidence matrix of the sparse stage; None where only matches were asked for."""
    coarse: CoarseMatches
    fine: FineMatches


@dataclass(frozen=True)
class Targets(Movable):
    """What depth, intrinsics and pose say of a batch, computed beside the network from its keypoints."""

    warped0: Tensor
    """(N, L, 2) keypoints of image 0 warped into image 1, resized px of image 1."""
    valid0: Tensor
    """(N, L) bool: depth known, in front of both cameras, inside image 1, consistent with its depth."""
    known0: Tensor
    """(N, L) bool: depth known at the keypoint, so that "no match" is knowledge too."""
    warped1: Tensor
    """(N, S, 2) keypoints of image 1 warped into image 0, resized px of image 0."""
    valid1: Tensor
    known1: Tensor
    batch: Tensor
    """(P,) int64, pair of each true coarse match, ascending."""
    cell0: Tensor
    """(P,) int64."""
    cell1: Tensor
    """(P,) int64."""


@dataclass(frozen=True)
class LossTerms(Movable):
    """Unweighted loss terms, scalars, and their weighted sum."""

    total: Tensor
    coarse: Tensor
    fine: Tensor
    heatmap: Tensor
    verification: Tensor
    keypoint: Tensor
    corner: Tensor
    repeatability: Tensor
    score: Tensor
    regulariser: Tensor
    consensus: Tensor
    teacher: Tensor


@dataclass(frozen=True)
class Extracted:
    """Features of one image: what `Matcher.extract` returns and `Matcher.match` takes."""

    features: ImageFeatures
    """Of a batch of one, on the matcher's device."""
    size: tuple[int, int]
    """(width, height) of the image as given, px."""
    scale: tuple[float, float]
    """Image px per resized px, (x, y)."""


PER_MATCH = ("points0", "points1", "confidence", "score", "descriptors0", "descriptors1")
"""Fields of `Matches` that have a row for each match."""


def _no_points() -> FloatArray:
    return np.zeros((0, 2), np.float32)


@dataclass(frozen=True, repr=False)
class Matches:
    """Matches of one pair in the pixels of the two images as given: the public result of `Matcher`."""

    points0: FloatArray
    """(M, 2) float32 image px of image 0, x right and y down, pixel centres at integers."""
    points1: FloatArray
    """(M, 2) float32 image px of image 1."""
    confidence: FloatArray
    """(M,) float32 in [0, 1], confidence of the sparse match; of a consensus, probability that it is right."""
    score: FloatArray
    """(M,) float32 in [0, 1], repeatability score of keypoint 0."""
    descriptors0: FloatArray | None = None
    """(M, C + Cf) float32, when the configuration asks for descriptors."""
    descriptors1: FloatArray | None = None
    keypoints0: FloatArray = dataclasses.field(default_factory=_no_points)
    """(P, 2) float32 image px: all that was detected in image 0; `points0` are some of them."""
    keypoints1: FloatArray = dataclasses.field(default_factory=_no_points)
    """(Q, 2) float32 image px of image 1; `points1` are refined, beside them."""

    def __len__(self) -> int:
        return len(self.points0)

    def __repr__(self) -> str:
        sure = f", confidence {self.confidence.min():.2f} to {self.confidence.max():.2f}" if len(self) else ""
        return f"Matches({len(self)} of {len(self.keypoints0)} and {len(self.keypoints1)} keypoints{sure})"

    def top(self, k: int) -> Matches:
        """Return the `k` most confident matches, in their order, the first ones of equals; all keypoints stay."""
        rows = np.sort(np.argsort(-self.confidence, kind="stable")[:k])
        return replace(self, **{name: value[rows] for name, value in self.arrays().items()})

    def arrays(self) -> dict[str, FloatArray]:
        """Return those of `PER_MATCH` that are there: what an .npz of matches holds."""
        values = {name: getattr(self, name) for name in PER_MATCH}
        return {name: value for name, value in values.items() if value is not None}

    def estimate(
        self, kind: Kind, threshold: float = 2.0, K0: FloatArray | None = None, K1: FloatArray | None = None
    ) -> TwoView:
        """Fit a "homography", "fundamental" or "essential" matrix; see `s2ld.geometry.two_view.estimate`.

        Returns:
            The matrix, which matches are its inliers, and with "essential", which needs the intrinsics, the pose.
        """
        from s2ld.geometry.two_view import estimate

        return estimate(self.points0, self.points1, kind, threshold, K0, K1)
