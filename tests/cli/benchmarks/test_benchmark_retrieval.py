"""`s2ld benchmark retrieval` on a scene of a few views."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.cli.benchmarks.retrieval import main, script
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.errors import S2LDError


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Two walls of noise, three views each, in MegaDepth's form."""
    random, paths = np.random.default_rng(0), []
    for view in range(6):
        if view % 3 == 0:
            wall = cv2.resize(random.integers(0, 255, (20, 30), np.uint8), (240, 160), interpolation=cv2.INTER_CUBIC)
        path = tmp_path / f"data/walls/images/{view:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), wall[:, 16 * (view % 3) :][:, :160])
        paths.append(str(path.relative_to(tmp_path / "data")))
    pairs = np.array([[0, 1], [1, 2], [0, 2], [3, 4], [4, 5], [0, 5]])
    overlap = np.array([0.9, 0.9, 0.8, 0.9, 0.9, 0.1], np.float32)
    cameras, poses = np.tile(np.eye(3), (6, 1, 1)), np.tile(np.eye(4), (6, 1, 1))
    write_index(
        SceneIndex("walls", np.array(paths), np.array([""] * 6), cameras, poses, pairs, overlap),
        tmp_path / "data/index/walls.npz",
    )
    return tmp_path / "data"


def test_a_table_of_shares(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        str(tmp_path / "out"),
        "--scenes",
        str(scenes),
        "--methods",
        "s2ld",
        "name",
        "--neighbours",
        "2",
        "--resize",
        "160",
    ]
    table = main(words)
    said = capsys.readouterr().out
    assert "6 photographs, 2 partners each, overlap > 0.3" in said
    assert table in said
    assert (tmp_path / "out/table.md").read_text() == table
    head, _, row, mean = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    assert head == ["scene", "overlapping pairs", "s2ld", "name", "most overlapping"]
    assert row[:2] == ["walls", "5"]
    assert [int(cell.removesuffix(" %")) for cell in row[3:]] == [80, 100]  # 0-2 is not beside by name
    assert int(row[2].removesuffix(" %")) >= 60
    assert mean[2:] == row[2:]
    assert main(words) == table  # from the features that are there


def test_bad_arguments(scenes: Path, tmp_path: Path) -> None:
    words = [str(tmp_path / "out"), "--scenes", str(scenes), "--overlap", "1"]
    with pytest.raises(S2LDError, match=r"--overlap must be in \[0, 1\), not 1"):
        main(words)
    assert script(words) == 2
    assert script([str(tmp_path / "out"), "--scenes", str(tmp_path / "none")]) == 2
