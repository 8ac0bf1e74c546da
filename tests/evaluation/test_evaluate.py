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

from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.evaluation.estimators import HomographyRansac, OpenCVRansac
from s2ld.evaluation.evaluate import Scores, evaluate, threshold_name
from s2ld.evaluation.predictions.cache import CacheHeader, PairPrediction, PairTruth
from s2ld.evaluation.protocol import EvaluationProtocol, EvaluationSettings, build_protocol
from s2ld.evaluation.report.files import draw_mma, write_report
from s2ld.evaluation.report.tables import to_markdown, to_text
from s2ld.geometry.two_view import Pose, PoseLibRansac

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
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
    threshold = confidence = 0.0

    def __call__(self, *_: object) -> Pose | None:
        return None


NEVER = EvaluationSettings((Never(),))
SETTINGS = EvaluationSettings((OpenCVRansac(), PoseLibRansac(), Never()), resamples=100, benchmark="made")


def scores() -> Scores:
    return evaluate([made(200, 0.0, 0), made(200, 4.0, 1), made(0, 0.0, 2)], SETTINGS)


def protocol(settings: EvaluationSettings = SETTINGS) -> EvaluationProtocol:
    return build_protocol(HEADER, "MATCH.THRESHOLD 0.2", [made(5, 0)], settings)


def test_true_matches_score_fully() -> None:
    numbers = evaluate([made(300, 0.0, seed) for seed in range(2)], replace(SETTINGS, estimators=TWO)).numbers
    for name in ("opencv", "poselib"):
        assert numbers[f"{name}/auc@5"] > 98
        assert (numbers[f"{name}/failed"], numbers[f"{name}/inliers"], numbers[f"{name}/inlier_ratio"]) == (0, 300, 100)
    assert numbers["precision@1e-4"] == numbers["precision@5e-4"] == numbers["MMA@5E-4"] == 100
    assert numbers["matches"] == numbers["matches/low"] == numbers["matches/high"] == 300
    assert numbers["endpoint/median_px"] < 1e-3
    assert numbers["endpoint/within_1px"] == 100
    assert numbers["endpoint/repeatability"] == 75


TWO = (OpenCVRansac(), PoseLibRansac())


def test_wrong_matches_score_what_they_should() -> None:
    result = scores()
    numbers, poses = result.numbers, result.pairs[2].poses
    assert numbers["never/auc@20"] == numbers["never/auc@20/high"] == numbers["never/inliers"] == 0
    assert numbers["never/failed"] == 100
    assert numbers["opencv/failed"] == pytest.approx(100 / 3)
    assert poses is not None
    assert poses["poselib"].error == math.inf
    assert result.pairs[2].precisions == (0.0, 0.0)  # a pair without a match counts as 0
    second = result.pairs[1].precisions
    assert second is not None
    assert numbers["precision@1e-4"] == pytest.approx(100 * (1 + second[0]) / 3)
    assert numbers["precision@1e-4/low"] < numbers["precision@1e-4"] < numbers["precision@1e-4/high"]
    assert numbers["matches"] == pytest.approx(400 / 3)
    assert (numbers["endpoint/within_1px"], numbers["endpoint/within_5px"]) == (50, 100)
    assert numbers["endpoint/mean_px"] == pytest.approx(2.0, abs=1e-3)


def test_the_lineage_frame_is_half_a_pixel_off() -> None:
    errors = []
    for frame in ("edge", "lineage"):
        (pair,) = evaluate([made(300, 0.0, 4)], EvaluationSettings((PoseLibRansac(),), frame)).pairs  # type: ignore[arg-type]
        assert pair.poses is not None
        assert pair.precisions is not None
        assert pair.precisions[0] == 1.0  # half a pixel is below the threshold ...
        errors.append(pair.poses["poselib"].error)
    assert errors[0] < errors[1]  # ... but not nothing


def test_repeats_are_averaged_and_their_spread_is_told() -> None:
    pairs = [made(40, 3.0, seed) for seed in range(4)]
    settings = EvaluationSettings((OpenCVRansac(),), seed=5, repeats=3)
    single = [evaluate(pairs, replace(settings, seed=seed, repeats=1)).numbers["opencv/auc@20"] for seed in (5, 6, 7)]
    result = evaluate(pairs, settings)
    assert result.numbers["opencv/auc@20"] == pytest.approx(np.mean(single))
    assert result.numbers["opencv/auc@20/spread"] == pytest.approx(np.std(single, ddof=1))
    assert len(set(single)) > 1
    outcome = (result.pairs[0].poses or {})["opencv"]
    assert outcome.error == sorted(outcome.errors)[1]
    assert "±" in to_text(result.numbers, protocol(settings))
    assert protocol(settings).estimators[0].repeats == 3
    assert "; 3 repeats" in "\n".join(protocol(settings).lines())


def test_what_no_pair_has_is_absent_from_numbers_and_tables(tmp_path: Path) -> None:
    numbers = evaluate([made(50, 0.0, truth=False)], NEVER).numbers
    assert not any(name.startswith(("endpoint", "corner", "mma")) for name in numbers)
    with pytest.raises(S2LDError, match="no pair"):
        evaluate([], NEVER)
    unposed = [
        replace(pair, T_0to1=np.full((4, 4), np.nan, "f4"), truth=None) for pair in (plane(9, 0.0), plane(0, 0.0))
    ]
    result = evaluate(unposed, SETTINGS)
    assert {name.split("/")[0].split("@")[0] for name in result.numbers} == {"pairs", "matches", "corner", "mma"}
    told = build_protocol(HEADER, "", unposed, SETTINGS)
    assert [one.name for one in told.estimators] == ["homography"]
    assert not any(line.startswith(("pose error", "precision")) for line in told.lines())
    assert any("px of image 1 as given" in line for line in told.lines())
    assert not any(line.startswith("homographies") for line in protocol().lines())
    assert "AUC@5 " not in to_text(result.numbers, told)
    write_report(tmp_path, result, told)
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.csv", "table.md", "mma.png"}
    assert "pose_error" not in (tmp_path / "results.csv").read_text()
    assert "Method" not in (tmp_path / "table.md").read_text()


def test_pairs_of_several_kinds_are_each_scored_by_what_they_have() -> None:
    unposed = replace(plane(60, 0.0), T_0to1=np.full((4, 4), np.nan, "f4"), truth=None)
    result = evaluate([made(200, 0.0), unposed, made(0, 0.0, 1)], SETTINGS)
    assert (result.numbers["pairs"], result.numbers["pairs_with_pose"]) == (3, 2)
    assert result.numbers["opencv/failed"] == result.numbers["precision@1e-4"] == 50
    assert result.numbers["corner/no_homography"] == 0


def test_homographies_score_by_their_corners(tmp_path: Path) -> None:
    numbers = evaluate([plane(100, 0.0)] * 2, replace(NEVER, unit="image")).numbers
    assert [numbers[f"corner/auc@{px}px"] for px in (3, 5, 10)] == pytest.approx([100] * 3, abs=1e-2)
    assert numbers["corner/no_homography"] == 0
    # 5 px off: nothing below 3 or 5 px, a triangle and full recall up to 10 px
    (pair,) = evaluate([plane(100, 5.0)], NEVER).pairs
    assert pair.corner_error == pytest.approx(5, abs=1e-3)
    pairs = [plane(100, 5.0), plane(3, 0.0), plane(100, 0.0, homography=False)]
    result = evaluate(pairs, NEVER)
    numbers = result.numbers
    assert numbers["corner/auc@10px"] == pytest.approx(100 * (0.5 * 5 / 2 + 0.5 * 5) / 10, abs=0.02)
    assert (numbers["corner/auc@3px"], numbers["corner/no_homography"]) == (0, 50)
    told = build_protocol(HEADER, "", pairs, NEVER)
    assert "findHomography" in told.estimators[-1].settings
    text = to_text(numbers, told)
    assert "corner: auc@3px 0.00  auc@5px" in text
    assert "no_homography 50.00" in text
    write_report(tmp_path, result, told)
    with (tmp_path / "results.csv").open() as file:
        errors = [row["corner/error_px"] for row in csv.DictReader(file)]
    assert float(errors[0]) == pytest.approx(5, abs=1e-3)
    assert errors[1:] == ["inf", ""]


def test_mma_is_in_px_of_the_image_as_given_and_told_for_each_kind() -> None:
    shifted = replace(plane(50, 3.0), scale1=np.full(2, 2.0, "f4"), source="hpatches/viewpoint")  # 6 px as given
    exact = replace(plane(50, 0.0), source="hpatches/illumination")
    numbers = evaluate([shifted, exact], NEVER).numbers
    curves = {name: [numbers[f"{name}@{px}px"] for px in range(1, 11)] for name in ("mma", "mma/viewpoint")}
    assert curves["mma/viewpoint"] == pytest.approx([0] * 5 + [numbers["mma/viewpoint@6px"]] + [100] * 4)
    assert curves["mma"] == pytest.approx([(value + 100) / 2 for value in curves["mma/viewpoint"]])
    assert numbers["mma/illumination@1px"] == 100
    text = to_text(numbers, protocol()).splitlines()
    assert [line.split()[:2] for line in text[-3:]] == [
        ["all", "pairs"],
        ["illumination", "100.0"],
        ["viewpoint", "0.0"],
    ]
    assert len(draw_mma(numbers, protocol()).axes[0].lines) == 3


def test_the_estimator_of_homographies_is_the_one_given() -> None:
    pairs = [plane(100, 0.0)]
    pairs[0].points1[::3, 0] += 20
    strict, lax = (
        evaluate(pairs, replace(NEVER, homography=HomographyRansac(threshold))).pairs[0].corner_error
        for threshold in (1.0, 50.0)
    )
    assert strict is not None
    assert lax is not None
    assert strict < 0.01 < 1 < lax


def test_several_processes_give_the_numbers_of_one() -> None:
    pairs = [*(made(60, 1.0, seed) for seed in range(4)), plane(40, 1.0)]
    settings = replace(SETTINGS, estimators=TWO, repeats=2)
    one, two = (evaluate(pairs, settings, jobs=jobs) for jobs in (1, 2))
    assert one.numbers == two.numbers
    assert [pair.poses for pair in one.pairs] == [pair.poses for pair in two.pairs]


def test_settings_come_from_the_config_of_the_benchmark() -> None:
    config = build_config([CONFIGS / "data/megadepth_test_1500.yaml"], ["EVAL.SEED", "3", "EVAL.REPEATS", "2"])
    settings = EvaluationSettings.of(config.EVAL)
    assert (settings.frame, settings.unit, list(settings.seeds)) == ("lineage", "image", [3, 4])
    assert "MegaDepth-1500" in settings.benchmark
    assert settings.estimators == (OpenCVRansac(0.5), PoseLibRansac(1.0))
    assert settings.resamples == 1000


def test_protocol_names_everything_that_numbers_depend_on() -> None:
    text = "\n".join(protocol().lines())
    parts = ["made", "synthetic, 3 pairs", "320x240 px", "w.safetensors", "0123456789ab", "THRESHOLD 0.2", "0.5 px"]
    parts += ["resized images", "never: finds nothing", "edge", "5, 10, 20", "0.0001, 0.0005", "seed: 0", "MMA@5E-4"]
    parts += ["quirk of the lineage", "95%, percentiles of 100"]
    for part in parts:
        assert part in text
    one = protocol().estimators[0]
    assert (one.name, one.threshold, one.confidence, one.repeats) == ("opencv", 0.5, 0.99999, 1)


def test_report_files_agree_with_the_scores(tmp_path: Path) -> None:
    result = scores()
    write_report(tmp_path / "dump", result, protocol())
    content = json.loads((tmp_path / "dump/results.json").read_text())
    assert content["scores"] == pytest.approx(result.numbers)
    assert EvaluationProtocol.of(content["protocol"]) == protocol()
    with (tmp_path / "dump/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image0"] for row in rows] == ["0a", "1a", "2a"]
    assert float(rows[2]["opencv/pose_error_deg"]) == math.inf
    assert float(rows[0]["opencv/inliers"]) > 150 > float(rows[2]["opencv/inliers"]) == 0
    precisions = result.pairs[1].precisions
    assert precisions is not None
    assert float(rows[1]["precision@1e-4"]) == pytest.approx(precisions[0], rel=1e-5)
    assert (tmp_path / "dump/curve.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "dump/table.md").read_text()
    assert table == to_markdown(result.numbers, protocol())
    assert table.splitlines()[0] == "| Method | Type | AUC@5° | AUC@10° | AUC@20° | MMA@5E-4 |"  # as in the README
    areas = " | ".join(f"{result.numbers[f'poselib/auc@{angle}']:.2f}%" for angle in (5, 10, 20))
    assert f"| w, poselib | Sparse-to-Dense | {areas} | {result.numbers['precision@5e-4']:.2f}% |" in table
    assert "| w, opencv | Dense |" in to_markdown(result.numbers, protocol(), "Dense")
    low, high = (f"{result.numbers[f'opencv/auc@5/{end}']:.1f}" for end in ("low", "high"))
    assert f" | {low} to {high} | " in table


def test_printed_table_shows_protocol_and_numbers() -> None:
    numbers = scores().numbers
    text = to_text(numbers, protocol())
    area, low, high = (numbers[f"opencv/auc@5{end}"] for end in ("", "/low", "/high"))
    assert f"{area:.2f} [{low:.1f}, {high:.1f}]" in text
    assert f"precision@5e-4 {numbers['precision@5e-4']:.2f} [" in text
    assert "median_px" in text
    assert all(line in text for line in protocol().lines())
    plain = {name: value for name, value in numbers.items() if not name.endswith(("/low", "/high"))}
    assert "[" not in to_text(plain, protocol()).split("intervals: ")[1]


def test_a_number_that_could_not_be_measured_is_null(tmp_path: Path) -> None:
    write_report(tmp_path, evaluate([made(0, 0.0)], NEVER), protocol())
    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert content["scores"]["endpoint/median_px"] is None


def test_threshold_names() -> None:
    assert [threshold_name(value) for value in (1e-4, 5e-4, 2.5e-3)] == ["1e-4", "5e-4", "2.5e-3"]
