"""`s2ld benchmark folder` on folders so small that it takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from s2ld.benchmarks import folder_growth
from s2ld.cli.benchmarks.folder import main, script
from s2ld.errors import S2LDError


def test_a_table_and_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(work: Callable[..., object], *arguments: object) -> object:
        return work(*arguments)  # a process of its own takes seconds to start

    monkeypatch.setattr(folder_growth, "run_alone", here)
    pytest.importorskip("pycolmap")
    rows = main([str(tmp_path / "out"), "--photos", "6", "3", "--detections", "120", "--partners", "4"])
    assert [(row.photos, row.pairs) for row in rows] == [(3, 3), (6, 9)]
    assert list(rows[0].seconds) == ["journal", "tables", "hloc", "COLMAP"]
    assert rows[1].matches > rows[0].matches > 0
    assert (tmp_path / "out/table.md").read_text() in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "out/growth.png")) is not None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["growth.png", "table.md"]


@pytest.mark.parametrize("words", [["--photos", "1"], ["--detections", "2"], ["--partners", "1"]])
def test_numbers_out_of_range_are_named(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(S2LDError, match=f"{words[0]} must be at least"):
        main([str(tmp_path), *words])
    assert script([str(tmp_path), *words]) == 2
