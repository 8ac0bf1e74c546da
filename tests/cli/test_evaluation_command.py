"""`test.py` from configs to report, with a small random network on two small photographs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld.cli.evaluate.test import main, script
from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LITE = CONFIGS / "s2ld/outdoor/s2ld_lite.yaml"


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 34), np.uint8)
    image = cv2.resize(coarse, (136, 96), interpolation=cv2.INTER_CUBIC)
    entries = []
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image[:, 2 * number : 2 * number + 128])
        K = [[100.0, 0, 63.5], [0, 100.0, 47.5], [0, 0, 1]]
        T = np.eye(4)
        T[0, 3] = -1.0
        entries.append({"image0": "0.png", "image1": f"{number}.png", "K0": K, "K1": K, "T_0to1": T.tolist()})
    (tmp_path / "pairs.json").write_text(json.dumps(entries))
    torch.manual_seed(0)
    config = build_config([LITE])
    save_weights(tmp_path / "w.safetensors", S2LD(config.MODEL).state_dict(), config)
    arguments = [CONFIGS / "data/posed_pairs.yaml", LITE, "--weight", tmp_path / "w.safetensors"]
    arguments += ["--dump", tmp_path / "dump", "--device", "cpu", "DATA.POSED_PAIRS.ROOT", tmp_path]
    overrides = ["DATA.TEST_LONG_SIDE", "128", "DATA.WORKERS", "0", "MODEL.MATCH.THRESHOLD", "0.0"]
    return [*map(str, arguments), *overrides]


def test_report_is_written_and_the_cache_is_reused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str]
) -> None:
    numbers = main(command)
    assert numbers["pairs"] == 3
    assert numbers["matches"] > 0
    printed = capsys.readouterr().out
    assert "pixel frame: edge" in printed
    assert "MATCH.THRESHOLD 0.0" in printed
    assert not [line for line in told if "come from the weights" in line]
    names = {path.name for path in (tmp_path / "dump").iterdir()}
    assert {"predictions.h5", "results.json", "results.csv", "table.md", "curve.png"} < names
    assert {name for name in names if name.startswith("pair")} == {f"pair_rank{rank:04d}.jpg" for rank in range(3)}
    content = json.loads((tmp_path / "dump/results.json").read_text())
    assert content["scores"] == pytest.approx(numbers)
    again = main([*command, "EVAL.OPENCV_THRESHOLD", "1.0", "EVAL.BOOTSTRAP", "0"])
    assert any("are kept" in line for line in told)
    assert again["matches"] == numbers["matches"]
    assert {name for name in numbers if name not in again} == {n for n in numbers if n.endswith(("/low", "/high"))}
    assert main([*command, "--limit", "2"])["pairs"] == 2


def test_estimators_repeats_and_a_sweep_are_measured_from_the_cache_by_processes(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[str]
) -> None:
    main(command)
    settings = ["EVAL.ESTIMATORS", "['opencv_corrected', 'magsac']", "EVAL.REPEATS", "2"]
    numbers = main([*command, *settings, "--sweep", "2,0.5", "--jobs", "2"])
    printed = capsys.readouterr().out
    assert any("are kept" in line for line in told)
    assert {"opencv_corrected/auc@5/spread", "magsac/inliers"} < numbers.keys()
    assert "opencv/auc@5" not in numbers
    assert "magsac            0.5" in printed
    content = json.loads((tmp_path / "dump/results.json").read_text())
    assert content["sweep"]["thresholds"] == [0.5, 2.0]
    assert [one["repeats"] for one in content["protocol"]["estimators"]] == [2, 2]
    assert (tmp_path / "dump/sweep.png").is_file()


def test_homographies_are_scored_by_their_corners(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["DATA.TEST_SOURCE", "homography", "DATA.TEST_PAIRS", "2", "DATA.IMAGE_SIZE", "[128, 96]"]
    numbers = main([*command, *overrides, "EVAL.HOMOGRAPHY_THRESHOLD", "2.0"])
    assert {
        "corner/auc@3px",
        "corner/auc@5px",
        "corner/auc@10px",
        "endpoint/median_px",
        "opencv/auc@5",
    } <= numbers.keys()
    printed = capsys.readouterr().out
    assert "findHomography RANSAC, 2 resized px" in printed
    assert "corner: auc@3px" in printed
    assert "calibration error" in printed


def test_settings_of_weights_and_of_the_command_are_told_apart(command: list[str], told: list[str]) -> None:
    main([*command, "--limit", "1", "MODEL.POSITION.FORM", "released", "MODEL.MATCH.BORDER", "1"])
    line = next(line for line in told if "come from the weights" in line)
    assert "MODEL.POSITION.FORM intended (not released)" in line
    assert "MATCH" not in line


def test_another_matcher_goes_the_same_way(
    command: list[str], capsys: pytest.CaptureFixture[str], told: list[str]
) -> None:
    ours, weight = command, command.index("--weight")
    command = ours[:weight] + ours[weight + 2 :]
    numbers = main([*command, "--matcher", "sift"])
    assert numbers["pairs"] == 3
    printed = capsys.readouterr().out
    assert "matching: SIFT: at most" in printed
    assert main([*command, "--matcher", "sift"])["matches"] == numbers["matches"]
    assert any("are kept" in line for line in told)
    main(ours)
    assert any("predicting anew; changed: weights w.safetensors (was OpenCV" in line for line in told)


def test_a_folder_that_another_process_writes_to_is_left_alone(
    command: list[str], tmp_path: Path, take_output: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    take_output(tmp_path / "dump")
    assert script(command) == 2
    assert "another process is writing to this output" in capsys.readouterr().err
    assert list((tmp_path / "dump").iterdir()) == []


def test_bad_input_is_one_line_and_status_2(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (Path(command[command.index("--dump") + 1]).parent / "file").write_text("")
    no_folder = ["--dump", str(Path(command[command.index("--dump") + 1]).parent / "file")]
    for extra in (
        no_folder,
        ["EVAL.SEED", "-1"],
        ["--limit", "0"],
        ["--jobs", "0"],
        ["--sweep", "0.5,-1"],
        ["--sweep", "wide"],
        ["EVAL.ESTIMATORS", "['opencv', 'opencv']"],
        ["MODEL.MATCH.TRESHOLD", "0.1"],
        ["--weight", "absent.pt"],
        ["--matcher", "sift"],  # beside --weight
        ["--device", "tpu9"],
    ):
        assert script([*command, *extra]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1
        assert error[0].startswith("s2ld test: ")


def test_another_backbone_wants_the_authors_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configs = [CONFIGS / "data/posed_pairs.yaml", CONFIGS / "s2ld/outdoor/s2ld_kp_ds_dense.yaml"]
    with pytest.raises(S2LDError, match=r"s2ld-e2e-inference\.pt.*https"):
        main([str(path) for path in configs])
