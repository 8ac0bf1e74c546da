"""Scores and reports of predictions whose quality is known."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.evaluation.cache import CacheHeader, PairPrediction, PairTruth
from s2ld.evaluation.estimators import HomographyRansac, OpenCVRansac, Pose, PoseLibRansac
from s2ld.evaluation.evaluate import Scores, as_numbers, evaluate, threshold_name
from s2ld.evaluation.protocol import EvaluationProtocol, build_protocol
from s2ld.evaluation.report import to_markdown, to_text, write_report

K = np.array([[300.0, 0, 159.5], [0, 310, 119.5], [0, 0, 1]], np.float32)
HEADER = CacheHeader("w.safetensors", "0123456789abcdef", "synthetic", 3, "model", "data", 0.05)


def made(count: int, noise: float, seed: int = 0, truth: bool = True) -> PairPrediction:
    """True matches of random points, moved by `noise` px in image 1; image 0 is twice as large as resized."""
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    c, s = np.cos(0.2), np.sin(0.2)
    T[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    T[:3, 3] = [-1, 0.1, 0.2]
    X0 = np.stack([rng.uniform(-1.5, 1.5, count), rng.uniform(-1, 1, count), rng.uniform(3, 7, count)], 1)
    X1 = X0 @ T[:3, :3].T + T[:3, 3]
    points0, warped = ((X @ K.astype(float).T)[:, :2] / X[:, 2:] for X in (X0, X1))
    direction = rng.normal(size=(count, 2))
    points1 = warped + noise * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    known = np.ones(count, bool)
    told = PairTruth(warped.astype("f4"), known, known, np.array([1.0, 4.0, 2.0, 2.5], "f4")) if truth else None
    ones, size = np.ones(count, np.float32), (320, 240)
    return PairPrediction(
        (f"{seed}a", f"{seed}b"), (size, size), points0.astype("f4"), points1.astype("f4"), ones, ones,
        K, K, np.full(2, 2.0, "f4"), np.ones(2, "f4"), T.astype("f4"), told,
    )  # fmt: skip


def plane(count: int, shift: float, homography: bool = True) -> PairPrediction:
    """Matches of random points of a plane, all moved by `shift` px along x in image 1."""
    H = np.array([[0.9, -0.1, 20.0], [0.1, 1.1, -10.0], [2e-4, -1e-4, 1.0]])
    points0 = np.random.default_rng(0).uniform((0, 0), (320, 240), (count, 2))
    points1 = cv2.perspectiveTransform(points0[None], H)[0] + (shift, 0) if count else points0
    told, size = made(count, 0.0, truth=False), (320, 240)
    return replace(
        told, sizes=(size, (640, 480)), points0=points0.astype("f4"), points1=points1.astype("f4"),
        homography=H.astype("f4") if homography else None,
    )  # fmt: skip


class Never:
    """An estimator that finds nothing."""

    name = "never"
    settings = "finds nothing"

    def __call__(self, *_: object) -> Pose | None:
        return None


def scores() -> Scores:
    return evaluate(
        [made(200, 0.0, 0), made(200, 4.0, 1), made(0, 0.0, 2)],
        [OpenCVRansac(), PoseLibRansac(), Never()],
        "edge",
        "resized",
        0,
    )


def protocol() -> EvaluationProtocol:
    return build_protocol(HEADER, "MATCH.THRESHOLD 0.2", [made(5, 0)], [OpenCVRansac(), Never()], "edge", "resized", 0)


def test_true_matches_score_fully() -> None:
    result = evaluate(
        [made(300, 0.0, seed) for seed in range(2)], [OpenCVRansac(), PoseLibRansac()], "edge", "resized", 0
    )
    for pose in result.poses.values():
        assert min(pose.auc) > 0.98
        assert pose.failed == 0
    assert result.precisions == (1.0, 1.0)
    assert result.matches == 300
    assert result.endpoint is not None
    assert result.endpoint.median < 1e-3
    assert result.endpoint.within == (1.0, 1.0, 1.0)
    assert result.endpoint.repeatability == 0.75


def test_wrong_matches_score_what_they_should() -> None:
    result = scores()
    assert result.poses["never"].auc == (0.0, 0.0, 0.0)
    assert result.poses["never"].failed == 1.0
    assert result.poses["opencv"].failed == pytest.approx(1 / 3)
    assert result.pairs[2].pose_errors["poselib"] == math.inf
    assert result.pairs[2].precisions == (0.0, 0.0)  # a pair without a match counts as 0
    assert result.precisions[0] == pytest.approx((1 + result.pairs[1].precisions[0]) / 3)
    assert result.matches == pytest.approx(400 / 3)
    assert result.endpoint is not None
    assert result.endpoint.within == (0.5, 0.5, 1.0)
    assert result.endpoint.mean == pytest.approx(2.0, abs=1e-3)


def test_the_lineage_frame_is_half_a_pixel_off() -> None:
    edge, lineage = (evaluate([made(200, 0.0)], [Never()], frame, "resized", 0) for frame in ("edge", "lineage"))  # type: ignore[arg-type]
    assert edge.pairs[0].precisions[0] == 1.0
    assert lineage.precisions[0] == 1.0  # half a pixel is below the threshold ...
    exact, shifted = (
        evaluate([made(300, 0.0, 4)], [PoseLibRansac()], frame, "resized", 0).pairs[0].pose_errors["poselib"]
        for frame in ("edge", "lineage")  # type: ignore[arg-type]
    )
    assert exact < shifted  # ... but not nothing


def test_without_depth_there_are_no_endpoint_scores_and_without_pairs_no_scores() -> None:
    result = evaluate([made(50, 0.0, truth=False)], [Never()], "edge", "resized", 0)
    assert result.endpoint is None
    assert result.corners is None
    assert not any(name.startswith(("endpoint", "corner")) for name in as_numbers(result))
    with pytest.raises(S2LDError, match="no pair"):
        evaluate([], [Never()], "edge", "resized", 0)


def test_homographies_score_by_their_corners(tmp_path: Path) -> None:
    perfect = evaluate([plane(100, 0.0)] * 2, [Never()], "edge", "image", 0).corners
    assert perfect is not None
    assert perfect.auc == pytest.approx((1, 1, 1), abs=1e-4)
    assert perfect.failed == 0
    # 5 px off: nothing below 3 or 5 px, a triangle and full recall up to 10 px
    (pair,) = evaluate([plane(100, 5.0)], [Never()], "edge", "image", 0).pairs
    assert pair.corner_error == pytest.approx(5, abs=1e-3)
    result = evaluate(
        [plane(100, 5.0), plane(3, 0.0), plane(100, 0.0, homography=False)], [Never()], "edge", "image", 0
    )
    numbers = as_numbers(result)
    assert numbers["corner/auc@10px"] == pytest.approx(100 * (0.5 * 5 / 2 + 0.5 * 5) / 10, abs=0.02)
    assert (numbers["corner/auc@3px"], numbers["corner/no_homography"]) == (0, 50)
    text = to_text(numbers, protocol())
    assert "corner: auc@3px 0.00  auc@5px" in text
    assert "no_homography 50.00" in text
    write_report(tmp_path, result, protocol())
    with (tmp_path / "results.csv").open() as file:
        errors = [row["corner/error_px"] for row in csv.DictReader(file)]
    assert float(errors[0]) == pytest.approx(5, abs=1e-3)
    assert errors[1:] == ["inf", ""]


def test_the_estimator_of_homographies_is_the_one_given() -> None:
    pairs = [plane(100, 0.0)]
    pairs[0].points1[::3, 0] += 20
    strict, lax = (
        evaluate(pairs, [Never()], "edge", "resized", 0, homography=HomographyRansac(threshold)).pairs[0].corner_error
        for threshold in (1.0, 50.0)
    )
    assert strict is not None
    assert lax is not None
    assert strict < 0.01 < 1 < lax


def test_protocol_names_everything_that_numbers_depend_on() -> None:
    text = "\n".join(protocol().lines())
    parts = ["synthetic, 3 pairs", "320x240 px", "w.safetensors", "0123456789ab", "THRESHOLD 0.2", "0.5 px"]
    parts += ["resized images", "never: finds nothing", "edge", "5, 10, 20", "0.0001, 0.0005", "seed: 0"]
    for part in parts:
        assert part in text


def test_report_files_agree_with_the_scores(tmp_path: Path) -> None:
    result = scores()
    write_report(tmp_path / "dump", result, protocol())
    content = json.loads((tmp_path / "dump/results.json").read_text())
    assert content["scores"] == pytest.approx(as_numbers(result))
    assert content["protocol"]["seed"] == 0
    with (tmp_path / "dump/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image0"] for row in rows] == ["0a", "1a", "2a"]
    assert float(rows[2]["opencv/pose_error_deg"]) == math.inf
    assert float(rows[1]["precision@1e-4"]) == pytest.approx(result.pairs[1].precisions[0], rel=1e-5)
    assert (tmp_path / "dump/curve.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "dump/table.md").read_text().splitlines()
    assert table[0].count("|") == table[1].count("|") == table[2].count("|")
    assert (tmp_path / "dump/table.md").read_text() == to_markdown(result, protocol())


def test_printed_table_shows_protocol_and_numbers() -> None:
    result = scores()
    text = to_text(as_numbers(result), protocol())
    assert "AUC@5" in text
    assert f"{100 * result.poses['opencv'].auc[0]:.2f}" in text
    assert f"precision@5e-4 {100 * result.precisions[1]:.2f}" in text
    assert "median_px" in text
    assert all(line in text for line in protocol().lines())


def test_a_number_that_could_not_be_measured_is_null(tmp_path: Path) -> None:
    write_report(tmp_path, evaluate([made(0, 0.0)], [Never()], "edge", "resized", 0), protocol())
    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert content["scores"]["endpoint/median_px"] is None


def test_threshold_names() -> None:
    assert [threshold_name(value) for value in (1e-4, 5e-4, 2.5e-3)] == ["1e-4", "5e-4", "2.5e-3"]
