"""`s2ld benchmark depth` on a rendered scene whose own maps are exact."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from s2ld.cli.benchmarks.depth import main, script
from s2ld.data.index.files import SceneIndex, write_index

ROOT = Path(__file__).parents[3]

from planes import Plane, camera, render, waves  # noqa: E402

SIZE = (224, 168)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    cameras = [camera((x, y, 0.0), SIZE, -3 * x) for x, y in ((0, 0), (0.6, 0.05), (-0.6, 0), (0.05, 0.5))]
    for folder in ("images", "depths", "index"):
        (root / folder).mkdir()
    for number, one in enumerate(cameras):
        grey, depth = render([Plane(6.0, 0.3, -0.15, waves(7, 0.1, 1.5, 200))], *one, SIZE)
        cv2.imwrite(str(root / f"images/{number}.png"), np.round(grey).astype(np.uint8))
        with h5py.File(root / f"depths/{number}.h5", "w") as file:
            file["depth"] = depth.astype(np.float32)
    images, depths = ([f"{kind}/{n}.{end}" for n in range(4)] for kind, end in (("images", "png"), ("depths", "h5")))
    K, poses = (np.stack(part) for part in zip(*cameras, strict=True))
    pairs, overlap = np.array([[0, 1]]), np.array([0.9], np.float32)
    scene = SceneIndex("plane", np.array(images), np.array(depths), K, poses, pairs, overlap)
    write_index(scene, root / "index/plane.npz")
    return root / "index/plane.npz"


def test_scores_of_a_plane(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Points that COLMAP triangulated and exact maps both say that the depth is right: so are the centres of pixels."""
    pytest.importorskip("pycolmap")
    (score,) = main([str(index), "--set", "long_side", "112", "--set", "best_views", "2", "--set", "neighbours", "3"])
    assert score.images == 4
    assert score.coverage > 0.4
    assert score.stored_coverage == 1
    assert score.found == pytest.approx(score.coverage)
    assert score.point_error < 0.004
    assert score.map_error < 0.003
    assert score.map_outliers < 0.01
    assert f"plane | 4 | {score.seconds:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "windows", "7"], "no such option; there are agreeing"),
        (["--set", "window", "seven"], "--set window seven"),
        (["--set", "window", "4"], "window must be odd"),
    ],
)
def test_bad_options_are_one_line(index: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert script([str(index), *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_missing_index_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script([str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err


def test_help_is_light() -> None:
    code = (
        "import sys; from s2ld.cli.benchmarks.depth import build_parser; build_parser().format_help(); "
        "print([m for m in ('torch', 'cv2', 'numpy', 'pycolmap') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
