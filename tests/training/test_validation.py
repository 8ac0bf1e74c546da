"""What a validation measures, on predictions whose quality is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_module import fit
from tiny_runs import OnePair, tiny_config
from torch import Tensor

from s2ld.config import CN
from s2ld.data.sample import collate
from s2ld.data.sources.by_name import build_source
from s2ld.evaluation.estimators import HomographyRansac
from s2ld.geometry.two_view import PoseLibRansac
from s2ld.training.loop.module import S2LDModule
from s2ld.training.losses.targets import build_targets
from s2ld.training.validation import COLUMNS, COUNTS, detector_row, matcher_row, summarise, weighted_score
from s2ld.types import (
    CoarseMatches,
    EncodedPair,
    Features,
    FineMatches,
    ImageBatch,
    Keypoints,
    PairBatch,
    Prediction,
    View,
)

SIDE = 96  # px
NAN = float("nan")
NONE = Features(torch.zeros(0), torch.zeros(0))


def corners(shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Keypoints at the corners of the cells, moved by `shift` px."""
    x, y = torch.meshgrid(torch.arange(0.0, SIDE, 8), torch.arange(0.0, SIDE, 8), indexing="xy")
    return torch.stack([x, y], -1).reshape(1, -1, 2) + torch.tensor(shift)


def encoded(points0: Tensor, points1: Tensor) -> EncodedPair:
    keypoints = [Keypoints(torch.zeros(0), torch.zeros(0), points) for points in (points0, points1)]
    return EncodedPair(NONE, NONE, keypoints[0], keypoints[1], torch.zeros(0), torch.zeros(0))


def still_pair() -> PairBatch:
    """A wall and a camera that does not move."""
    K = torch.tensor([[[100.0, 0, 47.5], [0, 100, 47.5], [0, 0, 1]]])
    view = View(ImageBatch(torch.zeros(1, 1, SIDE, SIDE)), torch.ones(1, 2), K, torch.full((1, SIDE, SIDE), 4.0))
    return PairBatch(view, view, torch.eye(4)[None], homography=torch.eye(3)[None])


def row_of(batch: PairBatch, config: CN, move: Tensor, keypoints1: Tensor) -> dict[str, float]:
    """Measure true matches of all visible keypoints, moved by `move` px in image 1."""
    pair = encoded(corners(), keypoints1)
    targets = build_targets(pair, batch, config.TARGETS)
    cells = targets.valid0[0].nonzero()[:, 0]
    return matched_row(batch, config, cells, targets.warped0[0, cells] + move, keypoints1)


def matched_row(
    batch: PairBatch, config: CN, cells: Tensor, points1: Tensor, keypoints1: Tensor | None = None
) -> dict[str, float]:
    """Measure matches of the keypoints of `cells` (M,) of image 0 with `points1` (M, 2)."""
    pair = encoded(corners(), corners() if keypoints1 is None else keypoints1)
    coarse = CoarseMatches(torch.zeros_like(cells), cells, cells, torch.ones(len(cells)))
    fine = FineMatches(corners()[0, cells], points1, torch.zeros(len(cells), 3), torch.ones(len(cells)))
    prediction = Prediction(pair, torch.zeros(0), coarse, fine)
    targets = build_targets(pair, batch, config.TARGETS)
    row = matcher_row(prediction, targets, batch, PoseLibRansac(), HomographyRansac(), 0)
    return dict(zip(COLUMNS, row.tolist(), strict=True))


def moving_pair() -> PairBatch:
    """Walls 2 and 4 away, left and right half, and a camera that moves to the right: 20 or 10 px."""
    batch = still_pair()
    depth = torch.full((1, SIDE, SIDE), 4.0)
    depth[..., : SIDE // 2] = 2.0
    T = torch.eye(4)[None]
    T[0, 0, 3] = -0.4
    view0, view1 = replace(batch.view0, depth=depth), replace(batch.view1, depth=None)
    return replace(batch, view0=view0, view1=view1, T_0to1=T, homography=None)


def table(*rows: dict[str, float]) -> np.ndarray:
    """Rows in the order of the columns; a missing count is 0, a missing measure NaN."""
    return np.array([[row.get(name, 0.0 if name in COUNTS else NAN) for name in COLUMNS] for row in rows])


@pytest.fixture
def config(tmp_path: Path) -> CN:
    return tiny_config(tmp_path, "DATA.IMAGE_SIZE", f"[{SIDE},{SIDE}]")


def test_a_perfect_prediction_of_a_homography_scores_one(config: CN) -> None:
    source = build_source("homography", config, "val")
    rows = [row_of(collate([source[i]]), config, torch.zeros(2), corners()) for i in range(2)]
    metrics = summarise(table(*rows))
    assert metrics["precision"] == 1
    assert metrics["found"] == pytest.approx(1)
    assert metrics["score"] == pytest.approx(1, abs=1e-3)
    assert metrics["median_error"] < 1e-3
    assert "auc_5" not in metrics
    assert [metrics[f"corner_auc_{threshold}"] for threshold in (3, 5, 10)] == pytest.approx([1, 1, 1], abs=1e-2)
    assert [metrics[f"within_{threshold}px"] for threshold in (1, 3, 5)] == [1, 1, 1]


def test_matches_that_are_off_score_what_they_should(config: CN) -> None:
    row = row_of(still_pair(), config, torch.tensor([0.0, 4.0]), corners())
    assert row["matches"] == row["checked"] == row["visible"] == row["wrong"] == (SIDE // 8) ** 2
    assert row["error"] == pytest.approx(4)
    assert row["corner"] == pytest.approx(4, abs=1e-3)
    assert math.isnan(row["pose"])  # of one plane
    metrics = summarise(table(row))
    assert metrics["found"] == metrics["precision"] == 0
    assert [metrics[f"within_{threshold}px"] for threshold in (1, 3, 5)] == [0, 0, 1]
    assert metrics["corner_auc_3"] == 0
    assert metrics["corner_auc_5"] == pytest.approx((4 / 2 + 1) / 5, abs=1e-3)
    assert metrics["corner_auc_10"] == pytest.approx((4 / 2 + 6) / 10, abs=1e-3)
    assert metrics["score"] == pytest.approx((3 / 5 + 8 / 10) / 3 / 2, abs=1e-3)


def test_repeatability_asks_for_a_keypoint_within_three_px(config: CN) -> None:
    for shift, share in (((0.0, 2.9), 1.0), ((2.2, 2.2), 0.0), ((0.0, 3.1), 0.0)):
        row = row_of(still_pair(), config, torch.zeros(2), corners(shift))
        assert row["repeatability"] == share
    half = corners()
    half[0, ::2] += 4.0  # every second column
    row = row_of(still_pair(), config, torch.zeros(2), half)
    assert row["repeatability"] == 0.5
    assert summarise(table(row, {"pose": 1.0}))["repeatability"] == 0.5


def test_a_detector_is_measured_by_its_keypoints(config: CN) -> None:
    pair, batch = encoded(corners(), corners((0.0, 2.0))), still_pair()
    row = detector_row(pair, build_targets(pair, batch, config.TARGETS), batch)
    values = dict(zip(COLUMNS, row.tolist(), strict=True))
    assert values["repeatability"] == 1
    assert values["error"] == 2
    assert values["right"] == 0  # 1 px asked
    assert values["wrong"] == values["visible"] == (SIDE // 8) ** 2
    assert all(math.isnan(values[name]) for name in ("precision", "pose", "corner"))
    assert summarise(row[None].numpy())["score"] == 0


def test_matches_are_judged_by_depth_and_by_the_epipolar_lines(config: CN) -> None:
    batch, pair = moving_pair(), encoded(corners(), corners())
    targets = build_targets(pair, batch, config.TARGETS)
    cells = torch.arange((SIDE // 8) ** 2)
    place = corners()[0] - torch.where(
        corners()[0, :, :1] < SIDE // 2, torch.tensor([20.0, 0]), torch.tensor([10.0, 0])
    )
    outside = place[:, 0] < -0.5
    assert (targets.valid0[0] == ~outside).all()
    row = matched_row(batch, config, cells, place)
    assert (row["right"], row["wrong"], row["visible"]) == (int((~outside).sum()), 0, int((~outside).sum()))
    assert row["precision"] == 1
    assert row["pose"] < 0.1
    along = matched_row(batch, config, cells, place + torch.tensor([4.0, 0]))  # on its line, at another place
    assert (along["right"], along["wrong"], along["precision"]) == (0, len(cells), 1)
    across = matched_row(batch, config, cells, place + torch.tensor([0, 4.0]))
    assert (across["wrong"], across["precision"]) == (len(cells), 0)
    blind = replace(batch, view0=replace(batch.view0, depth=None))
    mixed = place + torch.tensor([0, 4.0]) * (cells % 4 == 0)[:, None]
    posed = matched_row(blind, config, cells, mixed)
    assert (posed["right"], posed["wrong"], posed["visible"]) == (0.75 * len(cells), 0.25 * len(cells), len(cells))
    assert posed["precision"] == 0.75
    assert summarise(table(posed))["found"] == pytest.approx(0.75)


def test_matches_of_a_plane_without_depth_are_judged_by_its_homography(config: CN) -> None:
    H = torch.eye(3)[None]
    H[0, 0, 2] = 32.0  # px: a third of the keypoints leaves the image
    blind = replace(still_pair().view0, depth=None)
    batch = replace(still_pair(), view0=blind, view1=blind, homography=H)
    cells = torch.arange(40)
    moved = corners()[0, cells] + torch.tensor([32.0, 0])
    moved[:10] += 40.0
    row = matched_row(batch, config, cells, moved)
    assert (row["right"], row["wrong"], row["visible"]) == (30, 10, 8 * 12)
    assert row["precision"] == 0.75
    assert row["corner"] < 1e-3
    assert math.isnan(row["pose"])


def test_score_by_hand() -> None:
    rows = table(
        {
            **{"matches": 12, "checked": 10, "right": 8, "wrong": 3, "within_1px": 5, "visible": 20},
            **{"error": 1.0, "precision": 0.75, "pose": 4.0},
        },
        {"visible": 10, "precision": 0.0, "pose": math.inf},
    )
    metrics = summarise(rows)
    assert metrics["found"] == pytest.approx(0.5 * math.sqrt(8 / 20 * 8 / 11))
    assert metrics["precision"] == pytest.approx(0.375)
    areas = [0, 0, 0.5 * (4 / 2 + 1) / 5, 0.5 * (4 / 2 + 6) / 10, 0.5 * (4 / 2 + 16) / 20]
    assert [metrics[f"auc_{threshold}"] for threshold in (5, 10, 20)] == pytest.approx(areas[2:])
    assert metrics["score"] == pytest.approx(np.mean([metrics["found"], np.mean(areas)]))
    assert metrics["within_1px"] == pytest.approx(0.5)
    assert metrics["median_error"] == pytest.approx(1.0)
    assert metrics["matches"] == 6
    assert "corner_auc_3" not in metrics
    strict = summarise(table({"matches": 12, "pose": 0.5}))
    assert strict["score"] == pytest.approx(np.mean([0, np.mean([1 - 0.25 / t for t in (1, 2, 5, 10, 20)])]))
    assert not {"median_error", "within_1px", "repeatability", "precision"} & strict.keys()


def test_scores_are_weighted_and_absent_ones_left_out() -> None:
    assert weighted_score([0.2, 0.8], [1, 1]) == pytest.approx(0.5)
    assert weighted_score([0.2, 0.8], [3, 1]) == pytest.approx(0.35)
    assert weighted_score([0.2, None, 0.8], [1, 5, 0]) == pytest.approx(0.2)
    assert math.isnan(weighted_score([None, 0.8], [1, 0]))
    assert math.isnan(weighted_score([], []))


def test_without_a_visible_keypoint_nothing_but_the_pose_is_measured(config: CN) -> None:
    batch = still_pair()
    blind = replace(batch.view0, depth=torch.zeros(1, SIDE, SIDE))
    row = row_of(replace(batch, view0=blind, view1=blind, homography=None), config, torch.zeros(2), corners())
    assert (row["matches"], row["checked"], row["precision"], row["pose"]) == (0, 0, 0, math.inf)
    assert row["visible"] == (SIDE // 8) ** 2  # nobody knows which
    assert all(math.isnan(row[name]) for name in ("repeatability", "error", "corner"))
    names = ("matches", "found", "precision", "auc_5", "auc_10", "auc_20", "score")
    assert summarise(table(row)) == dict.fromkeys(names, 0)


@pytest.mark.filterwarnings("ignore:.*(in eval mode|LeafSpec)")
def test_every_kind_of_source_enters_the_score(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 128), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), cv2.GaussianBlur(image, (0, 0), 2))
    K = [[100.0, 0, 63.5], [0, 100.0, 47.5], [0, 0, 1]]
    T = np.eye(4)
    T[0, 3] = 1.0
    entry = {"image0": "a.png", "image1": "a.png", "K0": K, "K1": K, "T_0to1": T.tolist()}
    (tmp_path / "pairs.json").write_text(json.dumps([entry]))
    overrides = [
        "TRAIN.MAX_STEPS",
        "1",
        "TRAIN.WARMUP_STEPS",
        "0",
        "MODEL.MATCH.THRESHOLD",
        "0.0",
        "DATA.POSED_PAIRS.ROOT",
        str(tmp_path),
    ]
    overrides += ["DATA.TEST_LONG_SIDE", "128", "DATA.SYNTHETIC.TEXTURE_SIDE", "64", "DATA.SYNTHETIC.SUPERSAMPLE", "1"]
    config = tiny_config(tmp_path, *overrides)
    val = {name: build_source(name, config, "val") for name in ("posed_pairs", "homography", "synthetic")}
    assert val["posed_pairs"][0].view0.image.shape == (1, 96, 128)  # the size of a test, not DATA.IMAGE_SIZE
    train = OnePair(build_source("homography", config, "train"), 0)
    logged = fit(S2LDModule(config), config, val, train).callback_metrics
    assert float(logged["val/score"]) == pytest.approx(np.mean([float(logged[f"val_{name}/score"]) for name in val]))
    assert {"val_posed_pairs/auc_10", "val_posed_pairs/precision"} <= logged.keys()
    assert {"val_homography/corner_auc_3", "val_homography/repeatability"} <= logged.keys()
    assert {"val_synthetic/within_1px", "val_synthetic/repeatability"} <= logged.keys()
    assert "val_synthetic/corner_auc_3" not in logged
