"""What a validation measures: a row of numbers for each pair, metrics of all rows of a source.

``val/score``, which chooses the best checkpoint, is the mean of the ``score`` of the sources by DATA.VAL_WEIGHTS.
That of a source is the mean of two (`summarise`): ``found``, which weighs the number of right matches against their
share of all matches, and the area of the pose or corner errors over several thresholds. The area is what matches are
for, but a few dozen poses hang on chance: the difference of two checkpoints on 32 pairs has a standard deviation of
0.03 in the area and of 0.01 in ``found``, which is a mean over thousands of matches and has room left on easy pairs.
All other metrics are for people to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.evaluation.estimators import HomographyRansac, PoseEstimator
from s2ld.evaluation.metrics import (
    AUC_THRESHOLDS,
    CORNER_THRESHOLDS,
    ENDPOINT_THRESHOLDS,
    PRECISION_THRESHOLDS,
    REPEATABILITY_RADIUS,
    corner_auc,
    homography_error,
    pose_auc,
    pose_error_degrees,
)
from s2ld.geometry.epipolar import essential, symmetric_epipolar_distance
from s2ld.geometry.homography import apply_homography
from s2ld.geometry.warp import inside_view
from s2ld.training.losses.targets import nearest_keypoint, valid_cells
from s2ld.types import EncodedPair, PairBatch, Prediction, Targets

WITHIN = tuple(f"within_{threshold:g}px" for threshold in ENDPOINT_THRESHOLDS)
COUNTS = ("matches", "checked", *WITHIN, "right", "wrong", "visible")
COLUMNS = (*COUNTS, "repeatability", "error", "precision", "pose", "corner")
"""Of a pair: matches; those whose true place is known and visible; those of them that are within so many resized px;
right and wrong ones, and keypoints of image 0 that could be matched (`_Judged`); the share of the visible keypoints
with a keypoint of image 1 within 3 px; median error of the checked matches in resized px; share of all matches that
are right by the epipolar lines or the homography; pose error in degrees; mean corner error of the homography in
resized px. NaN where there is none."""

MATCH_PX = 3.0  # resized px: a match within this is right
EPIPOLAR = PRECISION_THRESHOLDS[0]  # squared distance from the epipolar lines: a match below this is right by the pose
DETECTOR_PX = 1.0  # resized px: a keypoint within this is the same one
DETECTOR_REACH_PX = 16.0  # resized px: keypoints farther apart are not compared
NOTHING = float("nan")
STRICT_AUC = (1.0, 2.0)
"""Degrees: the score's area of pose errors is the mean of those up to these and `AUC_THRESHOLDS`: easy pairs count."""
SEEDS = 3  # of each estimation, whose median error counts: one draws lots


@dataclass(frozen=True)
class _Judged:
    """What is known of the matches of one pair."""

    right: int
    wrong: int
    """A match is neither where its true place is not known."""
    visible: int
    """Keypoints of image 0 that could be matched."""
    precision: float
    """Share of all matches that are right by the pose or, of a plane, by its homography; 0 without a match."""


def matcher_row(
    prediction: Prediction,
    targets: Targets,
    batch: PairBatch,
    estimator: PoseEstimator,
    homography: HomographyRansac,
    seed: int,
) -> Tensor:
    """Return `COLUMNS` of one pair, float64. A pair of one plane has a corner error, any other a pose error.

    Args:
        prediction: of a batch of one pair.
        targets: from its keypoints.
        batch: that pair.
        estimator: of the pose, whose threshold counts in resized px here.
        homography: estimator for a pair of one plane.
        seed: first one of the estimators, which run `SEEDS` times.
    """
    coarse, fine = prediction.coarse, prediction.fine
    valid = targets.valid0[coarse.batch, coarse.cell0]
    error = (fine.points1 - targets.warped0[coarse.batch, coarse.cell0]).norm(dim=1)
    arrays = (fine.points0, fine.points1, batch.view0.K[0], batch.view1.K[0], batch.T_0to1[0])
    points0, points1, K0, K1, truth = (array.double().cpu().numpy() for array in arrays)
    pose = corner = NOTHING
    if batch.homography is None:
        poses = (estimator(points0, points1, K0, K1, each) for each in range(seed, seed + SEEDS))
        pose = float(np.median([pose_error_degrees(estimate, truth) for estimate in poses]))
    else:
        height, width = batch.view0.images.image.shape[-2:]
        true_homography = batch.homography[0].double().cpu().numpy()
        planes = (homography(points0, points1, each) for each in range(seed, seed + SEEDS))
        corner = float(np.median([homography_error(H, true_homography, (width, height)) for H in planes]))
    judged = _judge(prediction, targets, batch, error)
    return _row(len(coarse), error[valid], judged, prediction.encoded, targets, batch, pose, corner)


def _judge(prediction: Prediction, targets: Targets, batch: PairBatch, error: Tensor) -> _Judged:
    """Judge the matches by depth where there is any, else by the homography of a plane, else by the epipolar lines.

    By depth a match is wrong too if the true place of its keypoint is hidden or outside of the image, and neither right
    nor wrong if the depth is not known. By the epipolar lines any keypoint could be matched, for none knows which.

    Args:
        prediction: of a batch of one pair.
        targets: from its keypoints.
        batch: that pair.
        error: (M,) distance of each match from where depth takes its keypoint, resized px.
    """
    coarse, fine = prediction.coarse, prediction.fine
    points0, points1 = fine.points0.double(), fine.points1.double()
    keypoints = valid_cells(batch.view0)
    if batch.homography is not None:
        H = batch.homography[0].double()
        agree = (apply_homography(H, points0) - points1).norm(dim=1) < MATCH_PX
        own = prediction.encoded.keypoints0.points.double()
        keypoints = keypoints & inside_view(apply_homography(H, own[0])[None], batch.view1)
    else:
        E = essential(batch.T_0to1[0].double())
        K0, K1 = batch.view0.K[0].double(), batch.view1.K[0].double()
        agree = symmetric_epipolar_distance(points0, points1, E, K0, K1) < EPIPOLAR
    right, wrong, visible = agree, ~agree, keypoints
    if bool(targets.known0.any()):
        place = coarse.batch, coarse.cell0
        right = targets.valid0[place] & (error < MATCH_PX)
        wrong = targets.known0[place] & (error >= MATCH_PX)
        visible = targets.valid0
    precision = float(agree.double().mean()) if len(agree) else 0.0
    return _Judged(int(right.sum()), int(wrong.sum()), int(visible.sum()), precision)


def detector_row(encoded: EncodedPair, targets: Targets, batch: PairBatch) -> Tensor:
    """Return `COLUMNS` of one pair, float64, each keypoint of image 0 matched to the nearest of image 1."""
    _, distance = nearest_keypoint(targets.warped0, encoded.keypoints1.points.float(), batch.view1, DETECTOR_REACH_PX)
    error = distance[targets.valid0]
    right = int((error < DETECTOR_PX).sum())
    judged = _Judged(right, len(error) - right, len(error), NOTHING)
    return _row(int(distance.isfinite().sum()), error, judged, encoded, targets, batch)


def summarise(rows: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of the pairs of one source, (P, number of `COLUMNS`).

    - ``matches``: mean number a pair.
    - With depth: ``median_error`` (median over the pairs of their median end-point error, resized px; exact for
      synthetic scenes and homographies), ``within_1px`` ... (share of all matches that can be checked),
      ``repeatability`` (mean over the pairs).
    - ``found``: the mean over the pairs of ``sqrt(right / visible * right / (right + wrong))``, the geometric mean of
      recall and precision (Fowlkes and Mallows, 1983): 1 if every visible keypoint has found its place and nothing
      is wrong. Precision alone would choose the checkpoint that says least, recall alone the one that says most.
    - ``precision``: the mean over the pairs of the share of their matches whose squared symmetric epipolar distance is
      below 1e-4, or that are within 3 px of where the homography of a plane takes them; not of a detector.
    - ``auc_5`` ...: AUC of the pose error, in [0, 1], where pairs are not of one plane; not of a detector.
    - ``corner_auc_3`` ...: AUC of the mean corner error of the homography, in [0, 1], where all pairs show one plane.
    - ``score``: the mean of ``found`` and, but of a detector, the mean area, up to `STRICT_AUC` and `AUC_THRESHOLDS` of
      the pose error or up to `CORNER_THRESHOLDS` of the corner error.
    """
    columns = dict(zip(COLUMNS, rows.T, strict=True))
    checked = columns["checked"]
    metrics = {"matches": float(columns["matches"].mean())}
    if np.isfinite(columns["error"]).any():
        metrics["median_error"] = float(np.nanmedian(columns["error"]))
    if checked.any():
        metrics |= {name: float(columns[name].sum() / checked.sum()) for name in WITHIN}
    if np.isfinite(columns["repeatability"]).any():
        metrics["repeatability"] = float(np.nanmean(columns["repeatability"]))
    right, wrong, visible = columns["right"], columns["wrong"], columns["visible"]
    metrics["found"] = float(np.mean(right / np.sqrt(np.maximum(visible * (right + wrong), 1))))
    parts = [metrics["found"]]
    if np.isfinite(columns["precision"]).all():
        metrics["precision"] = float(columns["precision"].mean())
    if not np.isnan(columns["pose"]).any():
        areas = pose_auc(columns["pose"].tolist())
        metrics |= {f"auc_{threshold:g}": area for threshold, area in zip(AUC_THRESHOLDS, areas, strict=True)}
        parts.append(float(np.mean(areas + pose_auc(columns["pose"].tolist(), STRICT_AUC))))
    if not np.isnan(columns["corner"]).any():
        areas = corner_auc(columns["corner"].tolist())
        metrics |= {f"corner_auc_{threshold:g}": area for threshold, area in zip(CORNER_THRESHOLDS, areas, strict=True)}
        parts.append(float(np.mean(areas)))
    return metrics | {"score": float(np.mean(parts))}


def weighted_score(scores: Sequence[float | None], weights: Sequence[float]) -> float:
    """Return the mean of the sources' scores by their weights; one without a score is left out with its weight.

    Args:
        scores: of each source, None where none of its pairs could be read.
        weights: of each source, at least 0.

    Returns:
        The mean; NaN where no source with a weight has a score.
    """
    there = [(score, weight) for score, weight in zip(scores, weights, strict=True) if score is not None and weight]
    if not there:
        return NOTHING
    return float(np.average([score for score, _ in there], weights=[weight for _, weight in there]))


def _row(
    matches: int,
    error: Tensor,
    judged: _Judged,
    encoded: EncodedPair,
    targets: Targets,
    batch: PairBatch,
    pose: float = NOTHING,
    corner: float = NOTHING,
) -> Tensor:
    """Put a row together; `error` are those of the checked matches."""
    points1 = encoded.keypoints1.points.float()
    _, distance = nearest_keypoint(targets.warped0, points1, batch.view1, REPEATABILITY_RADIUS)
    values = {
        "matches": matches,
        "checked": len(error),
        **{name: int((error < limit).sum()) for name, limit in zip(WITHIN, ENDPOINT_THRESHOLDS, strict=True)},
        "right": judged.right,
        "wrong": judged.wrong,
        "visible": judged.visible,
        "repeatability": float(distance.isfinite()[targets.valid0].double().mean()),
        "error": float(error.median()) if len(error) else NOTHING,
        "precision": judged.precision,
        "pose": pose,
        "corner": corner,
    }
    return torch.tensor([values[name] for name in COLUMNS], dtype=torch.float64)
