"""`s2ld benchmark data` with a network and pairs so small that it takes seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from s2ld.cli.benchmarks.data import main, mixed, script

TINY = {
    "MODEL": {
        "BACKBONE": {"TYPE": "lite", "STEM_DIM": 8, "DIMS": [8, 16, 32], "BLOCKS": [0, 0, 1], "FINE_DIM": 16},
        "DETECTOR": {"COARSE_DIMS": [16, 16], "FINE_DIMS": [16, 16], "HEAD_DIMS": [16, 16]},
        "ADJUSTER": {"HIDDEN_DIM": 32},
        "COARSE": {"LAYERS": ["self", "cross"], "HEADS": 4},
        "FINE": {"HEADS": 4},
    },
    "TRAIN": {"MAX_STEPS": 100, "WARMUP_STEPS": 2},
    "DATA": {
        "TRAIN_SOURCES": ["homography", "synthetic"],
        "TRAIN_WEIGHTS": [1.0, 3.0],
        "IMAGE_SIZE": [64, 64],
        "BATCH_SIZE": 2,
        "WORKERS": 0,
        "SYNTHETIC": {"SUPERSAMPLE": 1, "TEXTURE_SIDE": 64},
    },
}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    for number in range(2):
        photo = np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), photo)
    counts = ["--pairs", "2", "--batches", "1", "--steps", "2", "--render-batch", "2"]
    return [str(tmp_path / "tiny.yaml"), *counts, "--accelerator", "cpu", "DATA.PHOTOS", str(tmp_path)]


def test_everything_is_measured_and_the_protocol_is_printed(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    report = main(command)
    assert list(report.sources) == ["homography", "synthetic"]
    rates = [rate for source in report.sources.values() for rate in (source.cold, source.cached)]
    assert report.render is not None
    rates += [report.render.drawing, report.render.rendering, report.loader, report.step.pairs, report.together.pairs]
    assert min(rates) > 0
    assert 0 <= report.step.waiting <= report.together.waiting + 1 <= 2
    assert torch.get_num_threads() == threads
    printed = capsys.readouterr().out
    for part in ("cores", "thread(s)", "64x64 px", "2 pairs a batch", "homography 1, synthetic 3; 0 process(es)"):
        assert part in printed
    for row in ("homography, cold", "synthetic, cached", "mixture, computed, cold", "rendering alone, on cpu"):
        assert f"| {row}" in printed or f": {row}" in printed
    assert "the trainer: 0 loader process(es) bring" in printed


def test_a_mixture_is_as_slow_as_its_parts_together() -> None:
    assert mixed([10.0, 2.0], [3.0, 1.0]) == pytest.approx(4 / (0.3 + 0.5))


def test_bad_input_is_one_line_and_status_2(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for extra in (["--pairs", "0"], ["--accelerator", "gpu"], ["DATA.PHOTOS", "/absent"], ["DATA.WORKER", "1"]):
        assert script([*command, *extra]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("measuring ")]
        assert len(error) == 1
        assert error[0].startswith("s2ld benchmark data: ")
