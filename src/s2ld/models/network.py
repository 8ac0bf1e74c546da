"""The S2LD network: wiring only, in the order of the paper."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from s2ld.config import CN
from s2ld.errors import S2LDError
from s2ld.models.attention import LocalFeatureTransformer, positional_encoding
from s2ld.models.backbones import build_backbone
from s2ld.models.consensus.densify import DensifySettings, Proposals, densify, merged
from s2ld.models.consensus.photometric import PhotometricRefinement
from s2ld.models.consensus.stage import Consensus, gather_candidates
from s2ld.models.correlation import CorrelationMatching, verified, verify
from s2ld.models.detector import CELL, FeatureAdjuster, build_detector
from s2ld.models.fast.sparse_entries import Entries
from s2ld.models.input import InputNormalisation, checked
from s2ld.models.local_dense import FinePreprocess, LocalDenseMatching, cut_windows, refine_windows
from s2ld.models.sparse_matching import SparseMatching, filter_by_score, most_confident, rows_by_score
from s2ld.types import (
    CoarseMatches,
    EncodedPair,
    Features,
    FineMatches,
    ImageBatch,
    ImageFeatures,
    Keypoints,
    Prediction,
)

TOGETHER = 1280 * 960  # px: images above this pass the backbone one by one on GPUs too, without gradients
REFINED = {"cpu": 1024}  # matches refined at a time, in some MiB of windows
REFINED_ELSEWHERE = 2**15  # accelerators: few launches


class S2LD(nn.Module):
    """Sparse-to-local-dense matching (Li, Zhao and Xia, IEEE TIP 2023).

    Module names are those of released checkpoints, so that these load as they are. It never sees depth or poses.
    """

    def __init__(self, config: CN) -> None:
        """Build from the MODEL node of a config; raises `S2LDError` for settings that do not fit together."""
        super().__init__()
        self.config = config
        coarse_dim, fine_dim = int(config.BACKBONE.DIMS[-1]), int(config.BACKBONE.FINE_DIM)
        self.fine_stride = int(config.BACKBONE.FINE_STRIDE)
        self.normalisation = InputNormalisation(config.INPUT.NORMALISATION)
        self.backbone = build_backbone(config.BACKBONE)
        self.keypoint_detector = build_detector(config.DETECTOR, coarse_dim, fine_dim, self.fine_stride)
        self.feature_adjuster = FeatureAdjuster(coarse_dim, config.ADJUSTER.HIDDEN_DIM)
        coarse, fine = config.COARSE, config.FINE
        self.s2ld_coarse = LocalFeatureTransformer(
            coarse_dim, coarse.HEADS, coarse.LAYERS, coarse.ATTENTION, coarse.AGGREGATE
        )
        self.sparse_matching = SparseMatching(config.MATCH)
        self.local_dense: LocalDenseMatching | CorrelationMatching
        if fine.TYPE == "correlation":
            self.local_dense = CorrelationMatching(coarse_dim, fine_dim, fine.WINDOW, self.fine_stride, fine.HIDDEN_DIM)
        elif fine.TYPE == "transformer":
            self.fine_preprocess = FinePreprocess(coarse_dim, fine_dim)
            self.s2ld_fine = LocalFeatureTransformer(fine_dim, fine.HEADS, fine.LAYERS, fine.ATTENTION)
            self.local_dense = LocalDenseMatching(fine.WINDOW, fine.WINDOW_MODE, self.fine_stride)
        else:
            raise S2LDError(f"MODEL.FINE.TYPE is {fine.TYPE!r}; use transformer or correlation")
        self.consensus: Consensus | None = None
        if config.CONSENSUS.ENABLED:
            self.consensus = Consensus(config.CONSENSUS, coarse_dim)
            self._threshold = self.sparse_matching.threshold  # of what the consensus says
            self.sparse_matching.threshold = float(config.CONSENSUS.FLOOR)
        self.photometric = PhotometricRefinement(config.REFINEMENT) if config.REFINEMENT.ENABLED else None
        self.densification = DensifySettings.of(config) if config.DENSIFY.ENABLED else None

    @property
    def threshold(self) -> float:
        """Confidence that a match must exceed; with a consensus the sparse stage keeps a floor of its own."""
        return self.sparse_matching.threshold if self.consensus is None else self._threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        if self.consensus is None:
            self.sparse_matching.threshold = threshold
        else:
            self._threshold = threshold

    @property
    def window_radius_px(self) -> float:
        """Half the fine window, resized px."""
        return self.local_dense.radius_px

    def forward(self, images0: ImageBatch, images1: ImageBatch, keep_confidence: bool = False) -> Prediction:
        """Match N pairs; see `Prediction`. Sides of the images must be multiples of 8.

        The confidence matrix is made in training, where gradients are recorded, and with `keep_confidence`; matches
        alone take several times less time and memory.
        """
        return self.predict(self.encode(images0, images1), images0.mask, images1.mask, keep_confidence)

    def predict(
        self,
        encoded: EncodedPair,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
        keep_confidence: bool = False,
    ) -> Prediction:
        """Both matching stages on encoded pairs, as in `forward`; masks (N, h, w)."""
        confidence = None
        if keep_confidence or self.training or torch.is_grad_enabled():
            confidence = self.confidence(encoded, mask0, mask1)
            coarse = self.select(confidence, encoded, mask0, mask1)
        else:
            coarse = self.match(encoded, mask0, mask1)
        if self.consensus is not None:
            coarse, fine = self._agreed(encoded, coarse, self.refine(encoded, coarse), (mask0, mask1))
        else:
            coarse, fine = self._verified(encoded, coarse)
        if not self.training and not torch.is_grad_enabled():
            fine = self.refine_photometrically(encoded, coarse, fine, mask0, mask1)
        return Prediction(encoded, confidence, coarse, fine)

    def candidates(
        self, encoded: EncodedPair, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> tuple[CoarseMatches, FineMatches]:
        """Return all that the consensus judges, refined, before any cut; masks (N, h, w).

        Their coarse confidence is that of the sparse stage and not differentiable.
        """
        coarse = self.match(encoded, mask0, mask1)
        return coarse, self.refine(encoded, coarse)

    def judge(self, encoded: EncodedPair, coarse: CoarseMatches, fine: FineMatches) -> tuple[Tensor, Tensor]:
        """Return the confidence (M,) of refined matches, and (M,) bool, which of them are matches of `forward`.

        With a consensus it is the probability that it gives; else the coarse confidence, by which a correlating fine
        stage multiplies its own. The score filter is left out.
        """
        if self.consensus is not None:
            candidates = gather_candidates(encoded, coarse, fine)
            probability = torch.sigmoid(self.consensus(candidates, len(encoded.coarse0)))
            return probability, probability > self.threshold
        if fine.correlation is not None:
            return verify(coarse, fine.correlation, self.config.FINE.THRESHOLD, self.threshold)
        return coarse.confidence, coarse.confidence > self.threshold

    def encode(self, images0: ImageBatch, images1: ImageBatch) -> EncodedPair:
        """Backbone, detector, adjuster and coarse transformer; the backbone takes both images at once where it pays."""
        features0, features1 = self._backbone(images0, images1)
        return self.encode_pair(self._describe(features0, images0), self._describe(features1, images1))

    def extract(self, images: ImageBatch) -> ImageFeatures:
        """Backbone, detector, adjuster and positions of one side: what does not depend on the partner."""
        return self._describe(self._maps(images), images)

    def encode_pair(self, side0: ImageFeatures, side1: ImageFeatures) -> EncodedPair:
        """Run the coarse transformer on two sides."""
        masks, grids = (_flat(side0.mask), _flat(side1.mask)), (_grid(side0.features), _grid(side1.features))
        coarse0, coarse1 = self.s2ld_coarse(side0.tokens, side1.tokens, *masks, grids)
        (features0, keypoints0), (features1, keypoints1) = ((side.features, side.keypoints) for side in (side0, side1))
        return EncodedPair(features0, features1, keypoints0, keypoints1, coarse0, coarse1, side0.image, side1.image)

    def detect(self, images: ImageBatch) -> Keypoints:
        """Keypoints and scores of one side alone."""
        keypoints: Keypoints = self.keypoint_detector(self._maps(images))
        return keypoints

    def confidence(self, encoded: EncodedPair, mask0: Tensor | None = None, mask1: Tensor | None = None) -> Tensor:
        """(N, L, S) confidence of the sparse stage; masks (N, h, w)."""
        confidence: Tensor = self.sparse_matching(encoded.coarse0, encoded.coarse1, _flat(mask0), _flat(mask1))
        return confidence

    def entries(
        self,
        encoded: EncodedPair,
        wanted: tuple[Tensor, Tensor, Tensor],
        floor: float,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> tuple[Tensor, Entries]:
        """Return `confidence` at given (pair, cell0, cell1) and above a floor; see `SparseMatching.entries`."""
        return self.sparse_matching.entries(encoded.coarse0, encoded.coarse1, wanted, floor, mask0, mask1)

    def select_entries(
        self, entries: Entries, encoded: EncodedPair, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> CoarseMatches:
        """Return what `select` picks of `confidence`, from all its entries above a floor; masks (N, h, w)."""
        grids = _grid(encoded.features0), _grid(encoded.features1)
        found = self.sparse_matching.select_entries(entries, len(encoded.coarse0), *grids, mask0, mask1)
        return self._foremost(found, encoded)

    def select(
        self, confidence: Tensor, encoded: EncodedPair, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> CoarseMatches:
        """Matches above the threshold, mutual nearest, off the border; masks (N, h, w).

        With a consensus, its candidates: those above the floor, the most confident ones of each pair.
        """
        grids = _grid(encoded.features0), _grid(encoded.features1)
        return self._foremost(self.sparse_matching.select(confidence, *grids, mask0, mask1), encoded)

    def match(self, encoded: EncodedPair, mask0: Tensor | None = None, mask1: Tensor | None = None) -> CoarseMatches:
        """Return what `select` picks of `confidence`, faster and not differentiable; masks (N, h, w)."""
        grids = _grid(encoded.features0), _grid(encoded.features1)
        found = self.sparse_matching.match(encoded.coarse0, encoded.coarse1, *grids, mask0, mask1)
        return self._foremost(found, encoded)

    def _verified(self, encoded: EncodedPair, coarse: CoarseMatches) -> tuple[CoarseMatches, FineMatches]:
        """Refine the matches of a good score, and keep those that the fine stage holds for right."""
        if self.config.SCORE_FILTER.ENABLED:
            score = _gather_scores(encoded.keypoints0, coarse)
            coarse = filter_by_score(coarse, score, encoded.coarse0.shape[0], self.config.SCORE_FILTER)
        least = self.sparse_matching.threshold
        return verified(coarse, self.refine(encoded, coarse), self.config.FINE.THRESHOLD, least)

    def _agreed(
        self, encoded: EncodedPair, coarse: CoarseMatches, fine: FineMatches, masks: tuple[Tensor | None, Tensor | None]
    ) -> tuple[CoarseMatches, FineMatches]:
        """Keep the candidates that the consensus holds for right, densify, and keep those of a good score."""
        probability, right = self.judge(encoded, coarse, fine)
        keep = right.nonzero()[:, 0]
        coarse, fine, probability = coarse.at(keep), fine.at(keep), probability[keep]
        more = self.densify(encoded, coarse, fine, probability, masks)
        coarse = replace(coarse, confidence=probability)
        if more is not None:
            found = replace(more[0].coarse, confidence=more[2]), more[1]
            coarse, fine, _ = merged((coarse, fine), found, encoded.coarse0.shape[1])
        if not self.config.SCORE_FILTER.ENABLED:
            return coarse, fine
        keep = rows_by_score(coarse.batch, fine.score, encoded.coarse0.shape[0], self.config.SCORE_FILTER)
        return coarse.at(keep), fine.at(keep)

    def densify(
        self,
        encoded: EncodedPair,
        coarse: CoarseMatches,
        fine: FineMatches,
        probability: Tensor,
        masks: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> tuple[Proposals, FineMatches, Tensor] | None:
        """Match keypoints 0 that have none (`s2ld.models.consensus.densify`); None in training and if not enabled."""
        if self.densification is None or self.training or torch.is_grad_enabled():
            return None
        matches, floor = (coarse, fine, probability), self.sparse_matching.threshold
        return densify(encoded, matches, masks, self.densification, self.refine, self.judge, floor)

    def _foremost(self, matches: CoarseMatches, encoded: EncodedPair) -> CoarseMatches:
        if self.consensus is None:
            return matches
        return most_confident(matches, len(encoded.coarse0), self.config.CONSENSUS.CANDIDATES)

    def refine(self, encoded: EncodedPair, matches: CoarseMatches, place: Tensor | None = None) -> FineMatches:
        """Refine any number of matches, none included; without gradients some at a time, which bounds the memory.

        `place` (M, 2), resized px, is where a correlating fine stage looks in image 1; None: around keypoint 1.
        """
        part = REFINED.get(matches.batch.device.type, REFINED_ELSEWHERE)
        if torch.is_grad_enabled() or len(matches) <= part:
            return self._refine(encoded, matches, place)
        rows = torch.split(torch.arange(len(matches), device=matches.batch.device), part)
        return FineMatches.joined(
            [self._refine(encoded, matches.at(some), None if place is None else place[some]) for some in rows]
        )

    def refine_photometrically(
        self,
        encoded: EncodedPair,
        coarse: CoarseMatches,
        fine: FineMatches,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> FineMatches:
        """Move points 1 of final matches as MODEL.REFINEMENT says, not differentiable; masks (N, h, w).

        Points 0 and descriptors stay, and so does all where it is not enabled.
        """
        if self.photometric is None or encoded.image0 is None or encoded.image1 is None:
            return fine
        images, sizes = (encoded.image0, encoded.image1), (_size(mask0), _size(mask1))
        return replace(
            fine,
            points1=self.photometric(images, sizes, coarse.batch, fine.points0, fine.points1, coarse.confidence),
        )

    def _refine(self, encoded: EncodedPair, matches: CoarseMatches, place: Tensor | None) -> FineMatches:
        points0 = encoded.keypoints0.points[matches.batch, matches.cell0]
        correlation = None
        if isinstance(self.local_dense, CorrelationMatching):
            points1, expectation, correlation = self.local_dense(encoded, matches, place)
        else:
            expectation = refine_windows(self.local_dense, self.fine_preprocess, self.s2ld_fine, encoded, matches)
            points1 = encoded.keypoints1.points[matches.batch, matches.cell1]
            points1 = points1 + self.window_radius_px * expectation[:, :2]
        descriptors0 = descriptors1 = None
        if self.config.DESCRIPTORS:
            descriptors0 = self._descriptors(encoded.coarse0, encoded.features0, matches.batch, matches.cell0, points0)
            descriptors1 = self._descriptors(encoded.coarse1, encoded.features1, matches.batch, matches.cell1, points1)
        score = _gather_scores(encoded.keypoints0, matches)
        return FineMatches(points0, points1, expectation, score, descriptors0, descriptors1, correlation)

    def _backbone(self, images0: ImageBatch, images1: ImageBatch) -> tuple[Features, Features]:
        image0, image1 = checked(images0), checked(images1)
        # one batch is faster on a GPU; on a CPU it is not, and takes twice the memory
        apart = image0.device.type == "cpu" or image0.shape[2] * image0.shape[3] > TOGETHER
        if image0.shape != image1.shape or (apart and not torch.is_grad_enabled()):
            return self._maps(images0), self._maps(images1)
        seen = self.normalisation(image0, images0.mask), self.normalisation(image1, images1.mask)
        both: Features = self.backbone(torch.cat(seen))
        (coarse0, coarse1), (fine0, fine1) = both.coarse.chunk(2), both.fine.chunk(2)
        return Features(coarse0, fine0), Features(coarse1, fine1)

    def _maps(self, images: ImageBatch) -> Features:
        maps: Features = self.backbone(self.normalisation(checked(images), images.mask))
        return maps

    def _describe(self, features: Features, images: ImageBatch) -> ImageFeatures:
        keypoints = self.keypoint_detector(features)
        image = None if self.photometric is None else images.image
        return ImageFeatures(features, keypoints, self._tokens(features, keypoints), images.mask, image)

    def _tokens(self, features: Features, keypoints: Keypoints) -> Tensor:
        adjusted = self.feature_adjuster(features.coarse, keypoints.offset)
        channels, h, w = adjusted.shape[1:]
        position = self.config.POSITION
        encoding = positional_encoding(channels, h, w, position.FORM, adjusted, position.LONG_SIDE)
        tokens: Tensor = (adjusted + encoding).flatten(2).transpose(1, 2)
        return tokens

    def _descriptors(self, coarse: Tensor, features: Features, batch: Tensor, cell: Tensor, points: Tensor) -> Tensor:
        fine = cut_windows(features.fine, batch, points / self.fine_stride, 1, subpixel=True)[:, 0]
        return torch.cat([coarse[batch, cell], fine.to(coarse.dtype)], 1)


def _gather_scores(keypoints: Keypoints, matches: CoarseMatches) -> Tensor:
    return keypoints.score.flatten(1)[matches.batch, matches.cell0]


def _grid(features: Features) -> tuple[int, int]:
    return features.coarse.shape[2], features.coarse.shape[3]


def _flat(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.flatten(1)


def _size(mask: Tensor | None) -> Tensor | None:
    """(N, 2) width and height of what a mask leaves of each image, px."""
    return None if mask is None else CELL * torch.stack([mask.any(1).sum(1), mask.any(2).sum(1)], 1)
