"""What a validation measures: a row of numbers for each pair, metrics of all rows of a source."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.evaluation.estimators import PoseEstimator
from s2ld.evaluation.metrics import AUC_THRESHOLDS, pose_auc, pose_error_degrees
from s2ld.training.targets import nearest_keypoint
from s2ld.types import EncodedPair, PairBatch, Prediction, Targets

COLUMNS = ("matches", "checked", "right", "covisible", "error", "pose")
"""Of a pair: matches; those with a known truth; those of them that are right; cells of image 0 visible in image 1 (by
depth); median error of the checked ones in resized px; pose error in degrees. NaN where there is none."""

MATCH_PX = 3.0  # resized px: a match within this is right
DETECTOR_PX = 1.0  # resized px: a keypoint within this is the same one
DETECTOR_REACH_PX = 16.0  # resized px: keypoints farther apart are not compared
SCORE_AUC = 10.0  # degrees: of the score of pairs without depth


def matcher_row(
    prediction: Prediction, targets: Targets, batch: PairBatch, estimator: PoseEstimator, seed: int
) -> Tensor:
    """Return `COLUMNS` of one pair, (6,) float64.

    Args:
        prediction: of a batch of one pair.
        targets: from its keypoints.
        batch: that pair.
        estimator: of the pose, whose threshold counts in resized px here.
        seed: of the estimator.
    """
    coarse, fine = prediction.coarse, prediction.fine
    checked = targets.valid0[coarse.batch, coarse.cell0]
    error = (fine.points1 - targets.warped0[coarse.batch, coarse.cell0]).norm(dim=1)[checked]
    arrays = (fine.points0, fine.points1, batch.view0.K[0], batch.view1.K[0], batch.T_0to1[0])
    points0, points1, K0, K1, truth = (array.double().cpu().numpy() for array in arrays)
    pose = pose_error_degrees(estimator(points0, points1, K0, K1, seed), truth)
    return _row(len(coarse), error, targets, MATCH_PX, pose)


def detector_row(encoded: EncodedPair, targets: Targets, batch: PairBatch) -> Tensor:
    """Return `COLUMNS` of one pair, (6,) float64, each keypoint of image 0 matched to the nearest of image 1."""
    _, distance = nearest_keypoint(targets.warped0, encoded.keypoints1.points.float(), batch.view1, DETECTOR_REACH_PX)
    error = distance[targets.valid0]
    return _row(int(distance.isfinite().sum()), error, targets, DETECTOR_PX, float("nan"))


def summarise(rows: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of the pairs (P, 6) of one source.

    ``score`` is the mean over the pairs of ``right / (covisible + wrong)``: 1 if every visible keypoint has found its
    place and nothing is wrong; both silence and wrong matches cost. Without any depth it is the AUC of the pose error.
    """
    matches, checked, right, covisible, error, pose = rows.T
    metrics = {"matches": float(matches.mean())}
    if np.isfinite(error).any():
        metrics["median_error"] = float(np.nanmedian(error))
    if checked.any():
        metrics["precision"] = float(right.sum() / checked.sum())
    if not np.isnan(pose).any():
        metrics |= {f"auc_{threshold:g}": area for threshold, area in zip(AUC_THRESHOLDS, pose_auc(pose), strict=True)}
    if covisible.any():
        metrics["score"] = float(np.mean(right / np.maximum(covisible + checked - right, 1)))
    else:
        metrics["score"] = metrics.get(f"auc_{SCORE_AUC:g}", 0.0)
    return metrics


def _row(matches: int, error: Tensor, targets: Targets, radius: float, pose: float) -> Tensor:
    median = float(error.median()) if len(error) else float("nan")
    values = [matches, len(error), int((error < radius).sum()), int(targets.valid0.sum()), median, pose]
    return torch.tensor(values, dtype=torch.float64)
