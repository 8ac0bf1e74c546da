"""The sweep over thresholds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_evaluate import made, plane, protocol

from s2ld.errors import S2LDError
from s2ld.evaluation.estimators import OpenCVRansac
from s2ld.evaluation.evaluate import evaluate
from s2ld.evaluation.protocol import EvaluationSettings
from s2ld.evaluation.report.files import write_report
from s2ld.evaluation.sweep import draw_sweep, sweep_table, sweep_thresholds
from s2ld.geometry.two_view import PoseLibRansac

PAIRS = [made(80, 1.5, 0), made(80, 0.5, 1), plane(20, 0.0)]
SETTINGS = EvaluationSettings((OpenCVRansac(), PoseLibRansac()), repeats=2)


def test_each_threshold_gives_what_an_evaluation_with_it_gives(tmp_path: Path) -> None:
    sweep = sweep_thresholds(PAIRS, SETTINGS, [2.0, 0.5, 2.0])
    assert sweep.thresholds == (0.5, 2.0)
    for index, threshold in enumerate(sweep.thresholds):
        estimators = tuple(replace(one, threshold=threshold) for one in SETTINGS.estimators)  # type: ignore[type-var]
        numbers = evaluate(PAIRS, replace(SETTINGS, estimators=estimators)).numbers
        for name in ("opencv", "poselib"):
            assert sweep.areas[name][index] == pytest.approx([numbers[f"{name}/auc@{angle}"] for angle in (5, 10, 20)])
    assert len(set(sweep.areas["opencv"])) == 2
    table = sweep_table(sweep).splitlines()
    assert table[2].split() == ["opencv", "2", *(f"{area:.2f}" for area in sweep.areas["opencv"][1])]
    line = draw_sweep(sweep).axes[0].lines[0]
    assert np.allclose(line.get_ydata(), [areas[0] for areas in sweep.areas["opencv"]])
    write_report(tmp_path, evaluate(PAIRS, SETTINGS), protocol(SETTINGS), sweep)
    assert '"sweep"' in (tmp_path / "results.json").read_text()
    assert (tmp_path / "sweep.png").is_file()


def test_a_sweep_needs_poses_and_thresholds() -> None:
    with pytest.raises(S2LDError, match="above 0"):
        sweep_thresholds(PAIRS, SETTINGS, [0.0, 1.0])
    unposed = [replace(PAIRS[2], T_0to1=np.full((4, 4), np.nan, "f4"))]
    with pytest.raises(S2LDError, match="nothing to sweep"):
        sweep_thresholds(unposed, SETTINGS, [1.0])
