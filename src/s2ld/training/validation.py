"""What a validation measures: a row of numbers for each pair, metrics of all rows of a source.

``val/score``, which chooses the best checkpoint, is the mean of the ``score`` of the sources (`summarise`): with depth
(homography, synthetic, megadepth) the share of visible keypoints that find their place, wrong matches counted against
it; without (posed_pairs) the AUC of the pose error at 10 degrees. All other metrics are for people to read.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.evaluation.estimators import HomographyRansac, PoseEstimator
from s2ld.evaluation.metrics import (
    AUC_THRESHOLDS,
    CORNER_THRESHOLDS,
    ENDPOINT_THRESHOLDS,
    REPEATABILITY_RADIUS,
    corner_auc,
    homography_error,
    pose_auc,
    pose_error_degrees,
)
from s2ld.training.targets import nearest_keypoint
from s2ld.types import EncodedPair, PairBatch, Prediction, Targets

WITHIN = tuple(f"within_{threshold:g}px" for threshold in ENDPOINT_THRESHOLDS)
COLUMNS = ("matches", "checked", "right", *WITHIN, "covisible", "repeatability", "error", "pose", "corner")
"""Of a pair: matches; those with a known truth; those of them that are right, and that are within so many resized px;
cells of image 0 visible in image 1 (by depth); the share of their keypoints with a keypoint of image 1 within 3 px;
median error of the checked matches in resized px; pose error in degrees; mean corner error of the homography in resized
px. NaN where there is none."""

MATCH_PX = 3.0  # resized px: a match within this is right
DETECTOR_PX = 1.0  # resized px: a keypoint within this is the same one
DETECTOR_REACH_PX = 16.0  # resized px: keypoints farther apart are not compared
NOTHING = float("nan")
SCORE_AUC = 10.0  # degrees: of the score of pairs without depth


def matcher_row(
    prediction: Prediction,
    targets: Targets,
    batch: PairBatch,
    estimator: PoseEstimator,
    homography: HomographyRansac,
    seed: int,
) -> Tensor:
    """Return `COLUMNS` of one pair, float64.

    Args:
        prediction: of a batch of one pair.
        targets: from its keypoints.
        batch: that pair.
        estimator: of the pose, whose threshold counts in resized px here.
        homography: estimator for a pair of one plane.
        seed: of the estimators.
    """
    coarse, fine = prediction.coarse, prediction.fine
    checked = targets.valid0[coarse.batch, coarse.cell0]
    error = (fine.points1 - targets.warped0[coarse.batch, coarse.cell0]).norm(dim=1)[checked]
    arrays = (fine.points0, fine.points1, batch.view0.K[0], batch.view1.K[0], batch.T_0to1[0])
    points0, points1, K0, K1, truth = (array.double().cpu().numpy() for array in arrays)
    pose = pose_error_degrees(estimator(points0, points1, K0, K1, seed), truth)
    corner = NOTHING
    if batch.homography is not None:
        height, width = batch.view0.images.image.shape[-2:]
        true_homography = batch.homography[0].double().cpu().numpy()
        corner = homography_error(homography(points0, points1, seed), true_homography, (width, height))
    keypoints1 = prediction.encoded.keypoints1.points
    return _row(len(coarse), error, MATCH_PX, keypoints1, targets, batch, pose, corner)


def detector_row(encoded: EncodedPair, targets: Targets, batch: PairBatch) -> Tensor:
    """Return `COLUMNS` of one pair, float64, each keypoint of image 0 matched to the nearest of image 1."""
    keypoints1 = encoded.keypoints1.points
    _, distance = nearest_keypoint(targets.warped0, keypoints1.float(), batch.view1, DETECTOR_REACH_PX)
    error = distance[targets.valid0]
    return _row(int(distance.isfinite().sum()), error, DETECTOR_PX, keypoints1, targets, batch)


def summarise(rows: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of the pairs of one source, (P, number of `COLUMNS`).

    - ``matches``: mean number a pair.
    - With depth: ``median_error`` (median over the pairs of their median end-point error, resized px; exact for
      synthetic scenes and homographies), ``within_1px`` ... (share of all matches that can be checked),
      ``repeatability`` (mean over the pairs).
    - ``auc_5`` ...: AUC of the pose error, in [0, 1]; not of a detector.
    - ``corner_auc_3`` ...: AUC of the mean corner error of the homography, in [0, 1], where all pairs show one plane.
    - ``score``: the mean over the pairs of ``right / (covisible + wrong)``: 1 if every visible keypoint has found its
      place and nothing is wrong; both silence and wrong matches cost. Without any depth it is ``auc_10``.
    """
    columns = dict(zip(COLUMNS, rows.T, strict=True))
    checked, right, covisible = columns["checked"], columns["right"], columns["covisible"]
    metrics = {"matches": float(columns["matches"].mean())}
    if np.isfinite(columns["error"]).any():
        metrics["median_error"] = float(np.nanmedian(columns["error"]))
    if checked.any():
        metrics |= {name: float(columns[name].sum() / checked.sum()) for name in WITHIN}
    if np.isfinite(columns["repeatability"]).any():
        metrics["repeatability"] = float(np.nanmean(columns["repeatability"]))
    if not np.isnan(columns["pose"]).any():
        areas = pose_auc(columns["pose"].tolist())
        metrics |= {f"auc_{threshold:g}": area for threshold, area in zip(AUC_THRESHOLDS, areas, strict=True)}
    if not np.isnan(columns["corner"]).any():
        areas = corner_auc(columns["corner"].tolist())
        metrics |= {f"corner_auc_{threshold:g}": area for threshold, area in zip(CORNER_THRESHOLDS, areas, strict=True)}
    if covisible.any():
        metrics["score"] = float(np.mean(right / np.maximum(covisible + checked - right, 1)))
    else:
        metrics["score"] = metrics.get(f"auc_{SCORE_AUC:g}", 0.0)
    return metrics


def _row(
    matches: int,
    error: Tensor,
    radius: float,
    keypoints1: Tensor,
    targets: Targets,
    batch: PairBatch,
    pose: float = NOTHING,
    corner: float = NOTHING,
) -> Tensor:
    """Put a row together; `error` are those of the checked matches, `radius` is how near a right one is."""
    _, distance = nearest_keypoint(targets.warped0, keypoints1.float(), batch.view1, REPEATABILITY_RADIUS)
    repeated = distance.isfinite()[targets.valid0].double()
    values = {
        "matches": matches,
        "checked": len(error),
        "right": int((error < radius).sum()),
        **{name: int((error < limit).sum()) for name, limit in zip(WITHIN, ENDPOINT_THRESHOLDS, strict=True)},
        "covisible": len(repeated),
        "repeatability": float(repeated.mean()),
        "error": float(error.median()) if len(error) else NOTHING,
        "pose": pose,
        "corner": corner,
    }
    return torch.tensor([values[name] for name in COLUMNS], dtype=torch.float64)
