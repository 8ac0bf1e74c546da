"""Guided densification: where the matches around an unmatched keypoint say that it is in the other image.

The coarse stage misses keypoints, most of all where texture repeats and its softmax splits their confidence. Where the
matches around such a keypoint agree on a local affine map, that map says where to look for it. The fine stage looks
there, and the consensus judges what it finds among the matches that there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.geometry.linalg import matvec
from s2ld.geometry.local_affine import local_affine, nearest_matches
from s2ld.models.detector import CELL
from s2ld.models.sparse_matching import foremost_rows
from s2ld.types import CoarseMatches, EncodedPair, FineMatches, Keypoints, Rows

RIVALS = 8  # nearest proposals of a proposal in image 1 that may stand in the same place


@dataclass(frozen=True)
class DensifySettings:
    """When the matches around a keypoint are believed, and what is found of it; px are resized px."""

    verified: float = 0.5
    """Least confidence of a match that others are proposed by."""
    neighbours: int = 12
    """Nearest matches that a map is fitted to."""
    radius: float = 64.0
    """px of image 0: matches beyond it do not count."""
    min_support: float = 6.0
    """Least number of neighbours that agree."""
    max_residual: float = 1.5
    """px of image 1: largest root mean square by which the neighbours miss the map, as weighted."""
    border: int = 2
    """Cells next to the border of the valid region that take no match."""
    most: int = 1000
    """Proposals of a pair, those of the best keypoint score."""
    max_stray: float = 4.0
    """px of image 1: farthest from its place that a keypoint may be found."""
    separation: float = 1.0
    """px of image 1: what is found nearer to a match, or to a better proposal, is there already."""

    @classmethod
    def of(cls, config: CN) -> DensifySettings:
        """Return those of the MODEL node of a config.

        Raises:
            S2LDError: a network without consensus, or whose fine stage can only look around keypoints.
        """
        if not config.CONSENSUS.ENABLED or config.FINE.TYPE != "correlation":
            raise S2LDError("MODEL.DENSIFY needs MODEL.CONSENSUS.ENABLED True and MODEL.FINE.TYPE correlation")
        node = config.DENSIFY
        return cls(
            verified=float(node.VERIFIED),
            neighbours=int(node.NEIGHBOURS),
            radius=float(node.RADIUS),
            min_support=float(node.MIN_SUPPORT),
            max_residual=float(node.MAX_RESIDUAL),
            border=int(config.MATCH.BORDER),
            most=int(node.PROPOSALS),
            max_stray=float(node.MAX_STRAY),
            separation=float(node.SEPARATION),
        )


@dataclass(frozen=True)
class Proposals(Rows):
    """Matches that geometry proposes, for the fine stage to look for."""

    coarse: CoarseMatches
    """Cell 1 is that of the keypoint that is nearest to `place`, and may be in several, and in other matches too."""
    place: Tensor
    """(M, 2) resized px: where keypoint 0 should be in image 1."""
    linear: Tensor
    """(M, 2, 2) px of image 1 a px of image 0, around it."""

    def place0(self, encoded: EncodedPair) -> Tensor:
        """(M, 2) resized px: where keypoint 1 should be in image 0."""
        points0 = encoded.keypoints0.points[self.coarse.batch, self.coarse.cell0]
        points1 = encoded.keypoints1.points[self.coarse.batch, self.coarse.cell1]
        return points0 + matvec(torch.linalg.inv_ex(self.linear).inverse, points1 - self.place)


Refine = Callable[[EncodedPair, CoarseMatches, Tensor], FineMatches]
"""Refines matches around places (M, 2) of image 1, resized px."""
Judge = Callable[[EncodedPair, CoarseMatches, FineMatches], tuple[Tensor, Tensor]]
"""Returns the probabilities (M,) that matches are right, and (M,) bool, which of them are."""


@torch.no_grad()
def densify(
    encoded: EncodedPair,
    matches: tuple[CoarseMatches, FineMatches, Tensor],
    masks: tuple[Tensor | None, Tensor | None],
    settings: DensifySettings,
    refine: Refine,
    judge: Judge,
    floor: float,
) -> tuple[Proposals, FineMatches, Tensor]:
    """Find keypoints 0 that have no match where the matches around them say, not differentiable.

    Args:
        encoded: the pairs.
        matches: as the sparse stage gives them, refined, and the probability (M,) that each is right.
        masks: (N, h, w) bool of the two `ImageBatch`; None where nothing is padded.
        settings: see there.
        refine: the fine stage.
        judge: the consensus.
        floor: confidence of a proposal, for the consensus: the least that a candidate of the sparse stage has.

    Returns:
        What the consensus holds for right among these matches, of the floor's confidence; refined; its probability.
    """
    coarse, fine, probability = matches
    judged = replace(coarse, confidence=probability)
    proposals = propose(encoded.keypoints0, encoded.keypoints1, judged, fine.points1, settings, *masks)
    found = refine(encoded, proposals.coarse, proposals.place)
    rows = plausible_rows(proposals, found.points1, coarse.batch, fine.points1, settings)
    proposals, found = proposals.at(rows), found.at(rows)
    proposed = replace(proposals.coarse, confidence=torch.full_like(proposals.coarse.confidence, floor))
    all_coarse, all_fine, order = merged((coarse, fine), (proposed, found), encoded.coarse0.shape[1])
    rows = order.argsort()[len(coarse) :]  # of the proposals
    probability, right = (x[rows] for x in judge(encoded, all_coarse, all_fine))
    keep = (right & best_in_place(proposed.batch, found.points1, probability, settings.separation)).nonzero()[:, 0]
    return replace(proposals, coarse=proposed).at(keep), found.at(keep), probability[keep]


@torch.no_grad()
def propose(
    keypoints0: Keypoints,
    keypoints1: Keypoints,
    matches: CoarseMatches,
    points1: Tensor,
    settings: DensifySettings | None = None,
    mask0: Tensor | None = None,
    mask1: Tensor | None = None,
) -> Proposals:
    """Propose a match for each keypoint of image 0 that has none and whose neighbours agree, not differentiable.

    Args:
        keypoints0: of image 0, N of them.
        keypoints1: of image 1.
        matches: those that there are; the confidence of verified ones is their weight in the maps, others have none.
        points1: (M, 2) resized px, where the matched keypoints 0 are in image 1.
        settings: when neighbours are believed.
        mask0: (N, h, w) bool of `ImageBatch`.
        mask1: (N, h, w) bool.

    Returns:
        The proposals by pair, then by cell of image 0, of confidence 0; their places are inside image 1 off its border.
    """
    settings = settings or DensifySettings()
    free = torch.ones_like(keypoints0.score[:, 0], dtype=torch.bool).flatten(1)
    free.index_put_((matches.batch, matches.cell0), free.new_zeros(()))
    if mask0 is not None:
        free &= mask0.flatten(1)
    batch, cell0 = free.nonzero(as_tuple=True)
    points, score = keypoints0.points[batch, cell0], keypoints0.score.flatten(1)[batch, cell0]
    points0 = keypoints0.points[matches.batch, matches.cell0]
    nearest = nearest_matches(points, batch, points0, matches.batch, settings.neighbours)
    weight = matches.confidence * (matches.confidence > settings.verified)
    maps = local_affine(points, points0, points1, weight, nearest, settings.radius)
    believed = maps.usable & (maps.support >= settings.min_support) & (maps.residual <= settings.max_residual)
    margin = CELL * settings.border
    size = _size(keypoints1, mask1)[batch]
    inside = ((maps.place >= margin) & (maps.place <= size - 1 - margin)).all(1)
    rows = (believed & inside).nonzero()[:, 0]
    rows = rows[foremost_rows(batch[rows], score[rows], len(free), settings.most)]
    batch, cell0, place = batch[rows], cell0[rows], maps.place[rows]
    cell1 = nearest_keypoint_cell(keypoints1, batch, place)
    coarse = CoarseMatches(batch, cell0, cell1, place.new_zeros(len(place)))
    return Proposals(coarse, place, maps.linear[rows])


def plausible_rows(
    proposals: Proposals, found: Tensor, matched: Tensor, points1: Tensor, settings: DensifySettings
) -> Tensor:
    """Return the rows (K,) int64 of proposals that are found near their place and not where a match is already.

    Args:
        proposals: M of them.
        found: (M, 2) resized px of image 1, by the fine stage.
        matched: (P,) int64, pair of each match.
        points1: (P, 2) resized px of image 1 of the matches.
        settings: how near.
    """
    batch = proposals.coarse.batch
    plausible: Tensor = torch.linalg.vector_norm(found - proposals.place, dim=1) <= settings.max_stray
    _, distance = nearest_matches(found, batch, points1, matched, 1)
    plausible = plausible & (distance >= settings.separation).all(1)
    return plausible.nonzero()[:, 0]


def best_in_place(batch: Tensor, points1: Tensor, probability: Tensor, separation: float) -> Tensor:
    """(M,) bool: whether none of a higher probability, the first ones of equals, is nearer than `separation` px."""
    rival, distance = nearest_matches(points1, batch, points1, batch, RIVALS)
    row, theirs = torch.arange(len(batch), device=batch.device)[:, None], probability[rival]
    better = (theirs > probability[:, None]) | ((theirs == probability[:, None]) & (rival < row))
    beaten: Tensor = (better & (distance < separation)).any(1)
    return beaten.logical_not()


def merged(
    matches: tuple[CoarseMatches, FineMatches], others: tuple[CoarseMatches, FineMatches], cells: int
) -> tuple[CoarseMatches, FineMatches, Tensor]:
    """Join matches by pair, then by cell of image 0, of `cells` an image; also return the order, of both in a row."""
    coarse, fine = CoarseMatches.joined([matches[0], others[0]]), FineMatches.joined([matches[1], others[1]])
    order = (coarse.batch * cells + coarse.cell0).argsort(stable=True)
    return coarse.at(order), fine.at(order), order


def nearest_keypoint_cell(keypoints: Keypoints, batch: Tensor, place: Tensor) -> Tensor:
    """Return the cells (M,) whose keypoints are nearest to places (M, 2) px, of the 3 x 3 cells around each place."""
    rows, columns = keypoints.score.shape[2:]
    steps = torch.arange(-1, 2, device=place.device)
    # keypoints lie around the top-left corner of their cell
    column = (place[:, :1] / CELL).round().long() + steps.repeat(3)
    row = (place[:, 1:] / CELL).round().long() + steps.repeat_interleave(3)
    there = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    cells = row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)
    distance = torch.linalg.vector_norm(keypoints.points[batch[:, None], cells] - place[:, None], dim=2)
    best = distance.masked_fill(~there, torch.inf).argmin(1, keepdim=True)
    return cells.gather(1, best)[:, 0]


def _size(keypoints: Keypoints, mask: Tensor | None) -> Tensor:
    """(N, 2) width and height of the valid part of each image, px."""
    score = keypoints.score[:, 0]
    valid = torch.ones_like(score, dtype=torch.bool) if mask is None else mask
    return CELL * torch.stack([valid.any(1).sum(1), valid.any(2).sum(1)], 1)
