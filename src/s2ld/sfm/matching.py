"""A matcher for the pairs of a folder: matches as cells, and each refined in both images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from s2ld.matcher import Matcher, joined_features, to_image_px, to_numpy
from s2ld.sfm.keypoints import ImageKeypoints, PairMatches
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
            coarse = self.model.match(encoded)
            points1, confidence1 = self._refine(encoded, coarse)
            points0, confidence0 = self._refine(
                _exchanged(encoded), replace(coarse, cell0=coarse.cell1, cell1=coarse.cell0)
            )
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

    def _refine(self, encoded: EncodedPair, coarse: CoarseMatches) -> tuple[Tensor, Tensor]:
        """Return where keypoints 0 are in image 1, (M, 2) resized px, NaN with confidence 0 where not believed."""
        fine: FineMatches = self.model.refine(encoded, coarse)
        confidence, right = self.model.judge(encoded, coarse, fine)
        rows = right.nonzero()[:, 0]  # the others are nobody's neighbours
        kept = replace(coarse, confidence=confidence).at(rows)
        points1 = torch.full_like(fine.points1, torch.nan)
        points1[rows] = self.model.refine_photometrically(encoded, kept, fine.at(rows)).points1
        return points1, confidence * right


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
