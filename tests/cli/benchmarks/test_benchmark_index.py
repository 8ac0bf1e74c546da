"""`s2ld benchmark index` on a small index."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.cli.benchmarks.index import POINTS, main, script, write_scenes
from s2ld.data.index.files import read_indices

LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")


@LINUX
def test_memory_is_told_at_every_point(capsys: pytest.CaptureFixture[str]) -> None:
    counts = ["--scenes", "3", "--pairs", "1000", "--ranks", "1", "--workers", "1", "--draws", "256"]
    report = main(counts)
    assert [memory.drawn for memory in report] == [0, 64, 128, 192, 256]
    assert all(0 < memory.private <= memory.total for memory in report)
    printed = capsys.readouterr().out
    assert "3 plain index files of 1,000 pairs" in printed
    assert "1 ranks (spawned) x 1 loader processes" in printed
    assert len([line for line in printed.splitlines() if line.startswith(" ")]) == POINTS + 1


def test_the_scenes_hold_all_pairs(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3, 1000)
    scenes = read_indices(tmp_path)
    assert [len(scene) for scene in scenes] == [333, 333, 334]
    assert all(scene.mapped_from for scene in scenes)


@LINUX
def test_bad_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--ranks", "0"], ["--scenes", "3", "--pairs", "2"], ["--workers", "-1"]):
        assert script(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
