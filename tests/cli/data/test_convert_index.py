"""`s2ld convert-index`: both forms in, plain arrays out, one line for each file that is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2ld.cli.data.convert_index import main, script
from s2ld.data.index.files import read_index, read_indices

SHARED = Path(__file__).resolve().parents[4] / "shared"
FIELDS = (
    "image_paths",
    "depth_paths",
    "intrinsics",
    "poses",
    "pairs",
    "overlap",
    "angle_deg",
    "image_sizes",
    "scale_ratio",
)


class Hostile:
    """Pickles as a call of ``os.system``."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


def historical() -> dict[str, Any]:
    image = np.array(["Undistorted_SfM/0000/images/a.jpg", None, "Undistorted_SfM/0000/images/b.jpg"], object)
    K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    cameras, poses = np.empty(3, object), np.empty(3, object)
    for i in (0, 2):
        cameras[i], poses[i] = K, np.eye(4)
    pairs = [((2, 0), 0.25, np.zeros(4)), ((0, 2), 0.5, np.zeros(4))]
    return {"image_paths": image, "depth_paths": image, "intrinsics": cameras, "poses": poses, "pair_infos": pairs}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good files in folders of their own, a list, a hostile file and a damaged one."""
    for name in ("train/0000", "test/0001"):
        path = tmp_path / "in" / f"{name}.npz"
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(historical()))
    (tmp_path / "in/list.txt").write_text("0000\n")
    (tmp_path / "in/train/evil.npz").write_bytes(pickle.dumps({**historical(), "x": Hostile(tmp_path / "trace")}))
    (tmp_path / "in/train/half.npz").write_bytes(pickle.dumps(historical())[:99])
    return tmp_path


def test_a_bad_file_stops_no_other_and_nothing_in_it_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script([str(folder / "in"), str(folder / "out")]) == 1
    output = capsys.readouterr()
    assert "converted 2 index files of 4 pairs, copied 1 lists, refused 2" in output.out
    refused = [line for line in output.err.splitlines() if line.startswith("s2ld convert-index: ")]
    assert len(refused) == 2
    assert "evil.npz: refused: this pickle asks for posix.system" in refused[0]
    assert "half.npz" in refused[1]
    assert not (folder / "trace").exists()
    assert sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.*")) == [
        *("list.txt", "test/0001.npz", "train/0000.npz")
    ]
    with np.load(folder / "out/train/0000.npz", allow_pickle=False) as plain:
        assert plain["pairs"].tolist() == [[1, 0], [0, 1]]
        assert plain["image_sizes"].tolist() == [[640, 480]] * 2


def test_converting_again_and_what_was_converted_changes_nothing(folder: Path) -> None:
    for _ in range(2):
        assert len(main([str(folder / "in"), str(folder / "out")]).written) == 2
    again = main([str(folder / "out"), str(folder / "again")])
    assert (again.refused, len(again.written), again.pairs) == ([], 2, 4)
    for path in again.written:
        same(path, folder / "in" / path.relative_to(folder / "again"))


def same(one: Path, other: Path) -> None:
    first, second = read_index(one), read_index(other)
    assert first.name == second.name
    for field in FIELDS:
        assert np.array_equal(getattr(first, field), getattr(second, field)), field


def test_bad_arguments_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, output in (("nowhere", "out"), ("in", "in"), ("in", "in/deeper")):
        assert script([str(folder / source), str(folder / output)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_the_real_index_survives(tmp_path: Path) -> None:
    source = SHARED / "megadepth_test_1500_scene_info"
    done = main([str(source), str(tmp_path)])
    assert (len(done.written), done.pairs, done.refused) == (5, 1500, [])
    scenes = read_indices(tmp_path, tmp_path / "megadepth_test_1500.txt")
    assert [scene.name for scene in scenes] == (source / "megadepth_test_1500.txt").read_text().split()
    for path in done.written:
        same(path, source / path.name)
