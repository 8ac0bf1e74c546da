from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_evaluate import made, plane
from torchmetrics.functional.classification import binary_calibration_error

from s2ld.evaluation.calibration import draw_reliability, match_reliability, reliability
from s2ld.evaluation.predictions.cache import PairPrediction


def test_bins_are_counted_by_hand() -> None:
    confidence = np.array([0.05, 0.15, 0.9, 1.0, 0.8])
    right = np.array([False, True, True, False, True])
    measured = reliability(confidence, right, bins=4)  # [0, .25): two, [.75, 1]: three
    assert np.allclose(measured.confidence, [0.1, 0.9])
    assert np.allclose(measured.right, [1 / 2, 2 / 3])
    assert np.allclose(measured.share, [2 / 5, 3 / 5])
    assert measured.error == pytest.approx(2 / 5 * 0.4 + 3 / 5 * (0.9 - 2 / 3))


def test_the_error_is_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(3000)
    right = rng.random(3000) < confidence**2
    truth = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right).long(), n_bins=15)
    assert reliability(confidence, right).error == pytest.approx(float(truth), abs=1e-6)
    assert reliability(confidence, rng.random(3000) < confidence).error < 0.05 < float(truth)


def of_confidence(prediction: PairPrediction, value: float) -> PairPrediction:
    return replace(prediction, confidence=np.full(len(prediction.points0), value, np.float32))


def test_matches_are_right_by_depth_where_any_pair_has_it() -> None:
    near, far = of_confidence(made(30, 1.0, 0), 0.9), of_confidence(made(10, 5.0, 1), 0.2)
    without = of_confidence(made(50, 0.0, 2, truth=False), 0.5)
    measured = match_reliability([near, far, without, plane(5, 0.0)])
    assert measured is not None
    assert "3 px" in measured.meaning
    assert np.allclose(measured.confidence, [0.2, 0.9])
    assert measured.right.tolist() == [0.0, 1.0]
    assert np.allclose(measured.share, [0.25, 0.75])
    assert measured.error == pytest.approx(0.25 * 0.2 + 0.75 * 0.1, abs=1e-6)


def test_without_depth_they_are_right_by_pose_or_homography() -> None:
    posed = match_reliability([of_confidence(made(20, 0.0, 0, truth=False), 0.7)])
    assert posed is not None
    assert posed.error == pytest.approx(0.3, abs=1e-6)
    assert "epipolar" in posed.meaning
    unposed = replace(plane(20, 4.0), T_0to1=np.full((4, 4), np.nan, "f4"))
    shown = match_reliability([of_confidence(unposed, 0.7)])
    assert shown is not None
    assert shown.error == pytest.approx(0.7, abs=1e-6)
    assert match_reliability([replace(unposed, homography=None)]) is None
    assert match_reliability([of_confidence(made(20, 0.0), 7.0)]) is None
    assert match_reliability([made(0, 0.0)]) is None


def test_the_picture_shows_the_bins_beside_the_diagonal(tmp_path: Path) -> None:
    measured = reliability(np.array([0.1, 0.9, 0.9]), np.array([False, True, False]), meaning="as said")
    figure = draw_reliability(measured, "set; weights")
    (axes,) = figure.axes
    diagonal, line = axes.lines
    assert np.allclose(diagonal.get_ydata(), [0, 100])
    assert np.allclose(line.get_xdata(), [0.1, 0.9])
    assert np.allclose(line.get_ydata(), [0, 50])
    assert "0.300" in str(line.get_label())
    assert axes.get_title() == "set; weights\nright: as said"
    figure.savefig(tmp_path / "reliability.png")
