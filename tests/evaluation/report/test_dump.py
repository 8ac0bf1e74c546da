"""Reading a dump back: its numbers, its data source, and what it says of confidence."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.config import build_config
from s2ld.config.shipped import find_shipped
from s2ld.errors import S2LDError
from s2ld.evaluation.evaluate import evaluate
from s2ld.evaluation.predictions.cache import CACHE_NAME, CacheHeader, PairPrediction, write_cache
from s2ld.evaluation.protocol import EvaluationSettings, build_protocol
from s2ld.evaluation.report.confidence import draw_precision, precision_curve
from s2ld.evaluation.report.dump import _start_paths_from, read_dump
from s2ld.evaluation.report.files import draw_pose_curves, write_report
from s2ld.geometry.two_view import Pose

K = np.array([[100.0, 0, 63.5], [0, 100, 47.5], [0, 0, 1]], np.float32)
T = np.eye(4, dtype=np.float32)
T[0, 3] = -1.0


class Sideways:
    """Says that the camera moved along x, as it did, where there are matches."""

    name = "sideways"
    settings = "none"
    threshold = confidence = 0.0

    def __call__(self, points0: np.ndarray, *_: object) -> Pose | None:
        return Pose(np.eye(3), T[:3, 3], np.ones(len(points0), bool)) if len(points0) else None


def made(number: int, confidence: list[float], wrong: list[float]) -> PairPrediction:
    """Matches that are `wrong` px away from their epipolar lines, the rows of the image."""
    points0 = np.full((len(wrong), 2), 40, np.float32)
    points1 = points0 + np.stack([np.full(len(wrong), -5.0), wrong], 1).astype("f4")
    values, scale = np.array(confidence, np.float32), np.ones(2, np.float32)
    names, size = ("0.png", f"{number}.png"), (128, 96)
    return PairPrediction(names, (size, size), points0, points1, values, values, K, K, scale, scale, T)


SETTINGS = EvaluationSettings((Sideways(),), resamples=20, repeats=2)
PREDICTIONS = [made(0, [0.9, 0.2], [0.0, 30.0]), made(1, [], []), made(2, [0.7, 0.2], [0.0, 0.0])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dump of the even ones of five pairs, whose images are found from `tmp_path`."""
    (tmp_path / "pairs").mkdir()
    image, entries = np.random.default_rng(0).integers(0, 256, (96, 128), np.uint8), []
    for number in range(5):
        name = f"{number / 2:g}.png"
        cv2.imwrite(str(tmp_path / "pairs" / name), image)
        cameras = {"K0": K.tolist(), "K1": K.tolist(), "T_0to1": T.tolist()}
        entries.append({"image0": "0.png", "image1": name, **cameras})
    (tmp_path / "pairs/pairs.json").write_text(json.dumps(entries))
    settings = ["DATA.POSED_PAIRS.ROOT", "pairs", "DATA.TEST_PAIRS", "0", "DATA.TEST_LONG_SIDE", "128"]
    data = str(build_config((), settings).DATA.dump())
    header = CacheHeader("w.safetensors", "0123456789abcdef", "posed_pairs", 3, "", data, 0.05)
    write_cache(tmp_path / "dump" / CACHE_NAME, header, PREDICTIONS)
    scores = evaluate(PREDICTIONS, SETTINGS)
    write_report(tmp_path / "dump", scores, build_protocol(header, "", PREDICTIONS, SETTINGS))
    return tmp_path / "dump"


def test_a_dump_is_read_as_it_was_measured(folder: Path) -> None:
    dump = read_dump(folder)
    assert dump.numbers == pytest.approx(evaluate(PREDICTIONS, SETTINGS).numbers)
    assert dump.pose_errors == {"sideways": [pytest.approx(0, abs=1e-5), math.inf, pytest.approx(0, abs=1e-5)]}
    assert dump.protocol == build_protocol(dump.header, "", PREDICTIONS, SETTINGS)
    assert [prediction.names[1] for prediction in dump.predictions([2, 0])] == ["2.png", "0.png"]


def test_curve_of_pose_errors_rises_to_the_share_of_pairs(folder: Path) -> None:
    dump = read_dump(folder)
    (axes,) = draw_pose_curves(dump.pose_errors, dump.protocol).axes
    x, y = axes.lines[0].get_data()
    assert y[-1] == pytest.approx(200 / 3)
    assert x[np.argmax(y > 60)] == pytest.approx(0, abs=1e-5)
    assert "sideways: AUC@5/10/20 66.7/66.7/66.7" in axes.get_legend().get_texts()[0].get_text()


def test_pairs_without_a_pose_are_told_from_those_without_an_estimate(folder: Path) -> None:
    header, unknown = read_dump(folder).header, np.full((4, 4), np.nan, np.float32)
    predictions = [PREDICTIONS[0], PREDICTIONS[1], dataclasses.replace(PREDICTIONS[2], T_0to1=unknown)]
    write_report(folder, evaluate(predictions, SETTINGS), build_protocol(header, "", predictions, SETTINGS))
    dump = read_dump(folder)
    assert dump.pose_errors["sideways"][1:] == [math.inf, pytest.approx(math.nan, nan_ok=True)]
    (axes,) = draw_pose_curves(dump.pose_errors, dump.protocol).axes
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(50)
    predictions = [dataclasses.replace(one, T_0to1=unknown) for one in PREDICTIONS]
    write_report(folder, evaluate(predictions, SETTINGS), build_protocol(header, "", predictions, SETTINGS))
    assert read_dump(folder).pose_errors == {}


def test_images_come_from_the_source_of_the_header(folder: Path) -> None:
    dump = read_dump(folder)
    source = dump.source(root=folder.parent)
    assert [source[i].view1.name for i in range(len(source))] == ["0.png", "1.png", "2.png"]
    pictures = list(dump.draw(source, [2, 0]))
    assert len(pictures) == 2
    assert pictures[0].dtype == np.uint8
    with pytest.raises(S2LDError, match=r"pairs\.json"):
        dump.source(root=folder)


def test_images_of_another_pair_are_refused(folder: Path) -> None:
    dump = read_dump(folder)
    source = dump.source(root=folder.parent)
    entries = json.loads((folder.parent / "pairs/pairs.json").read_text())
    (folder.parent / "pairs/pairs.json").write_text(json.dumps(entries[::-1]))
    with pytest.raises(S2LDError, match=r"0\.png - 0\.png: the data source now has 0\.png - 2\.png"):
        next(dump.draw(dump.source(root=folder.parent), [0]))
    moved = dataclasses.replace(PREDICTIONS[0], sizes=((128, 96), (96, 128)))
    write_cache(folder / CACHE_NAME, dump.header, [moved])
    with pytest.raises(S2LDError, match="another size"):
        next(dump.draw(source, [0]))


def test_images_that_are_gone_leave_blank_places(folder: Path) -> None:
    dump = read_dump(folder)
    assert dump.find_source(folder.parent) is not None
    source = dump.source(folder.parent)
    (folder.parent / "pairs/0.png").unlink()
    with pytest.warns(UserWarning, match="pictures without images"):
        assert dump.find_source(folder.parent) is None
    (of_none,), (of_gone,) = dump.draw(None, [0]), dump.draw(source, [0])
    assert np.array_equal(of_none, of_gone)


H = np.array([[1, 0, -5], [0, 1, 0], [0, 0, 1]], np.float32)


def test_pairs_are_ranked_and_drawn_by_what_is_known_of_them(tmp_path: Path) -> None:
    """The first pair has a pose, the second shows a plane, of the third nothing is known."""
    nowhere = np.full((4, 4), np.nan, np.float32)
    plane = dataclasses.replace(made(1, [0.5] * 6, [0.0] * 6), T_0to1=nowhere, homography=H)
    plane = dataclasses.replace(plane, points0=np.float32([[10, 10], [90, 10], [90, 80], [10, 80], [50, 40], [30, 70]]))
    plane = dataclasses.replace(plane, points1=plane.points0 - np.float32([4, 0]))
    unknown = dataclasses.replace(made(2, [0.3], [0.0]), T_0to1=nowhere)
    predictions = [PREDICTIONS[0], plane, unknown]
    header = CacheHeader("w", "0", "posed_pairs", 3, "", "", 0.05)
    write_cache(tmp_path / CACHE_NAME, header, predictions)
    write_report(tmp_path, evaluate(predictions, SETTINGS), build_protocol(header, "", predictions, SETTINGS))
    dump = read_dump(tmp_path)
    assert dump.pair_errors == [
        pytest.approx(0, abs=1e-5),
        pytest.approx(1, abs=1e-3),
        pytest.approx(math.nan, nan_ok=True),
    ]
    assert dump.ranking() == [0, 1]
    assert len(list(dump.draw(None, [0, 1, 2]))) == 3
    assert len(list(dump.curves())) == 3
    assert precision_curve([plane, unknown]).precisions["within 1 px"].tolist() == [0.0]
    assert precision_curve([plane, unknown]).precisions["within 3 px"].tolist() == [1.0]
    assert list(precision_curve(predictions).precisions) == ["precision@1e-4", "precision@5e-4"]
    with pytest.raises(S2LDError, match="no match"):
        precision_curve([unknown])


def test_a_folder_without_a_whole_dump_is_one_line(folder: Path) -> None:
    with pytest.raises(S2LDError, match=r"nothing: no dump of s2ld test here.*--output"):
        read_dump(folder / "nothing")
    rows = (folder / "results.csv").read_text()
    (folder / "results.csv").write_text("\n".join(rows.splitlines()[:-1]))
    with pytest.raises(S2LDError, match=r"results\.csv is not of the 3 pairs"):
        read_dump(folder)
    (folder / "results.json").write_text("{}")
    with pytest.raises(S2LDError, match="damaged or unfinished") as caught:
        read_dump(folder)
    assert "\n" not in str(caught.value)


def test_precision_is_of_the_matches_that_are_confident_enough() -> None:
    curve = precision_curve(PREDICTIONS)
    assert curve.confidence == pytest.approx([0.2, 0.7, 0.9])
    assert curve.kept == pytest.approx([1.0, 0.5, 0.25])
    assert {name: list(values) for name, values in curve.precisions.items()} == {
        name: [0.75, 1.0, 1.0] for name in ("precision@1e-4", "precision@5e-4")
    }
    (axes,) = draw_precision(curve).axes
    assert [line.get_label() for line in axes.lines] == ["precision@1e-4", "precision@5e-4", "matches kept"]
    assert axes.lines[0].get_ydata() == pytest.approx([75, 100, 100])
    with pytest.raises(S2LDError, match="no match"):
        precision_curve([PREDICTIONS[1]])


def test_paths_of_a_config_start_from_the_folder_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "configs/data").mkdir(parents=True)
    (tmp_path / "configs/data/own.txt").touch()
    lists = ["configs/data/own.txt", "configs/data/real_scenes_val.txt"]
    overrides = ["DATA.MEGADEPTH.TEST_ROOT", "['mine', '/absolute']", "DATA.LIGHT.ROOT", "light"]
    config = build_config((), [*overrides, "DATA.MEGADEPTH.TEST_SCENES", str(lists), "DATA.MEGADEPTH.TEST_INDEX", ""])
    _start_paths_from(tmp_path, config)
    assert [str(tmp_path / "mine"), "/absolute"] == config.DATA.MEGADEPTH.TEST_ROOT
    assert str(tmp_path / "light") == config.DATA.LIGHT.ROOT
    assert config.DATA.MEGADEPTH.TEST_INDEX == ""
    own, shipped = config.DATA.MEGADEPTH.TEST_SCENES
    assert own == str(tmp_path / lists[0])
    assert find_shipped(shipped).is_file()
