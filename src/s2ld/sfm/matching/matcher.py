"""A matcher for the pairs of a folder: matches as cells, and each refined in both images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from s2ld.matcher import Matcher, joined_features, to_image_px, to_numpy
from s2ld.models.consensus.densify import merged
from s2ld.sfm.matching.keypoints import ImageKeypoints, PairMatches
from s2ld.types import CoarseMatches, EncodedPair, Extracted, FineMatches

RETRIEVAL_CELLS = 512
"""Cells of an image whose coarse features are kept for retrieval."""
BATCH = {"cpu": 1}
BATCH_ELSEWHERE = 8  # pairs at a time on accelerators


class KeypointMatcher(Matcher):
    """A `Matcher` that tells of matches which cells they join, and measures each in both images.

    The network refines the place of keypoint 0 in image 1. Whether two cells match does not depend on the order, so
    that a second run of the fine stage alone, with the sides exchanged, tells where keypoint 1 is in image 0.
    """

    def keypoints(self, extracted: Extracted) -> ImageKeypoints:
        """Return the detections of an image, whatever its partners."""
        features, keypoints = extracted.features.features, extracted.features.keypoints
        score = keypoints.score[0].flatten()
        coarse = features.coarse[0].flatten(1).T.float()
        best = score.topk(min(RETRIEVAL_CELLS, len(score))).indices
        descriptors = torch.nn.functional.normalize(coarse[best], dim=1)
        return ImageKeypoints(
            to_image_px(keypoints.points[0], extracted.scale).astype(np.float32),
            to_numpy(score).astype(np.float32),
            np.asarray(extracted.scale, np.float64),
            descriptors.cpu().numpy().astype(np.float16),
        )

    def match_both_ways(self, pairs: Sequence[tuple[Extracted, Extracted]]) -> list[PairMatches]:
        """Match pairs of what `extract` returned; those of equal sizes that follow each other go together on a GPU.

        Raises:
            S2LDError: a pair does not fit into memory.
        """
        size = BATCH.get(self.device.type, BATCH_ELSEWHERE)
        found: list[PairMatches] = []
        while len(found) < len(pairs):
            first = _shapes(pairs[len(found)])
            batch = [pairs[len(found)]]
            for pair in pairs[len(found) + 1 : len(found) + size]:
                if _shapes(pair) != first:
                    break
                batch.append(pair)
            found += self._match_batch(batch)
        return found

    def _match_batch(self, pairs: Sequence[tuple[Extracted, Extracted]]) -> list[PairMatches]:
        with self._guarded(pairs[0][0].size, pairs[0][1].size, pairs=len(pairs)):
            side0, side1 = (joined_features([pair[side].features for pair in pairs]) for side in (0, 1))
            encoded = self.model.encode_pair(side0, side1)
            coarse, fine, confidence1, place0 = self._match_there(encoded)
            points1 = self._measured(encoded, coarse, fine, confidence1)
            back, reverse = _exchanged(encoded), replace(coarse, cell0=coarse.cell1, cell1=coarse.cell0)
            fine = self.model.refine(back, reverse, place0)
            confidence0 = self._believed(back, reverse, fine)
            points0 = self._measured(back, reverse, fine, confidence0)
        results = []
        for number, (extracted0, extracted1) in enumerate(pairs):
            mine = (coarse.batch == number) & ((confidence0 > 0) | (confidence1 > 0))
            results.append(
                PairMatches(
                    coarse.cell0[mine].cpu().numpy().astype(np.int32),
                    coarse.cell1[mine].cpu().numpy().astype(np.int32),
                    to_image_px(points0[mine], extracted0.scale).astype(np.float32),
                    to_image_px(points1[mine], extracted1.scale).astype(np.float32),
                    to_numpy(confidence0[mine]).astype(np.float32),
                    to_numpy(confidence1[mine]).astype(np.float32),
                )
            )
        return results

    def _match_there(self, encoded: EncodedPair) -> tuple[CoarseMatches, FineMatches, Tensor, Tensor | None]:
        """Return all candidates and what densification adds, by pair, refined in image 1, and `_believed` of them.

        With densification also (M, 2) resized px, around which keypoints 1 are in image 0. Then a cell of image 1 may
        be in several matches; each measures its keypoint by itself.
        """
        coarse = self.model.match(encoded)
        fine = self.model.refine(encoded, coarse)
        confidence = self._believed(encoded, coarse, fine)
        rows = confidence.nonzero()[:, 0]
        more = self.model.densify(encoded, coarse.at(rows), fine.at(rows), confidence[rows])
        if more is None:
            return coarse, fine, confidence, None
        proposals, found, probability = more
        place0 = torch.cat([fine.points0, proposals.place0(encoded)])
        coarse, fine, order = merged((coarse, fine), (proposals.coarse, found), encoded.coarse0.shape[1])
        return coarse, fine, torch.cat([confidence, probability])[order], place0[order]

    def _believed(self, encoded: EncodedPair, coarse: CoarseMatches, fine: FineMatches) -> Tensor:
        """Return the confidence (M,) of refined matches, 0 where they are not believed."""
        confidence, right = self.model.judge(encoded, coarse, fine)
        return confidence * right

    def _measured(self, encoded: EncodedPair, coarse: CoarseMatches, fine: FineMatches, confidence: Tensor) -> Tensor:
        """Return where keypoints 0 are in image 1, (M, 2) resized px, NaN where not believed."""
        rows = confidence.nonzero()[:, 0]  # the others are nobody's neighbours
        kept = replace(coarse, confidence=confidence).at(rows)
        points1 = torch.full_like(fine.points1, torch.nan)
        points1[rows] = self.model.refine_photometrically(encoded, kept, fine.at(rows)).points1
        return points1


def _exchanged(encoded: EncodedPair) -> EncodedPair:
    return EncodedPair(
        encoded.features1,
        encoded.features0,
        encoded.keypoints1,
        encoded.keypoints0,
        encoded.coarse1,
        encoded.coarse0,
        encoded.image1,
        encoded.image0,
    )


def _shapes(pair: tuple[Extracted, Extracted]) -> tuple[torch.Size, ...]:
    return tuple(extracted.features.features.coarse.shape for extracted in pair)
