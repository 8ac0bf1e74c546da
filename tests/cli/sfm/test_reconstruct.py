"""From rendered photographs to models, by the commands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rendered_places import SIDE, VIEWS, write_two_places

from s2ld.cli.benchmarks import sfm as benchmark_sfm
from s2ld.cli.match import folder as match_folder
from s2ld.cli.sfm import reconstruct

pycolmap = pytest.importorskip("pycolmap")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_places(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="module")
def output(places: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reconstruction")
    (places / "broken.jpg").write_bytes(b"no image")
    assert reconstruct.script([str(places), str(folder), "--resize", str(SIDE), "--device", "cpu"]) == 1
    (places / "broken.jpg").unlink()
    return folder


def test_two_places_are_two_models_with_points_and_a_picture(output: Path) -> None:
    for number in range(2):
        model = pycolmap.Reconstruction(output / f"sparse/{number}")
        assert model.num_reg_images() == VIEWS
        assert len({image.name.split("/")[0] for image in model.images.values()}) == 1
        assert model.compute_mean_track_length() > 3.5
        assert model.compute_mean_reprojection_error() < 1.0
        colours = np.array([point.color for point in model.points3D.values()])
        assert colours.std(0).min() > 5
        assert (output / f"sparse/{number}/points.ply").read_bytes().startswith(b"ply")
        with Image.open(output / f"model-{number}.png") as picture:
            assert picture.size[0] > 2 * picture.size[1]
            red = (np.asarray(picture.convert("RGB")).astype(int) - [255, 0, 0]).__abs__().sum(2) < 60
        assert red.sum() > 50  # cameras
        page = (output / f"model-{number}.html").read_text()
        assert f"model {number}: {VIEWS} of" in page
        assert "://" not in page  # no network
    assert not (output / "sparse/2").exists()
    assert [path.name for path in output.glob("mapping-*")] == []
    assert (output / "rejected.txt").read_text().startswith("broken.jpg: ")


def test_the_global_mapper(places: Path, output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")  # matched already
    words = [str(places), str(tmp_path / "out"), "--resize", str(SIDE), "--device", "cpu", "--mapper", "global"]
    reconstruct.script(words)
    model = pycolmap.Reconstruction(tmp_path / "out/sparse/0")
    assert model.num_reg_images() >= 4
    assert model.compute_mean_track_length() > 3
    assert model.compute_mean_reprojection_error() < 1.5


def test_sift_and_switched_off_identity_go_the_same_way(
    places: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = tmp_path / "place"
    shutil.copytree(places / "0", single)
    (tmp_path / "bench/place").mkdir(parents=True)
    shutil.copy(output / "matches.journal", tmp_path / "bench/place/matches.journal")
    arguments = [str(tmp_path / "bench"), str(single), "--resize", str(SIDE), "--device", "cpu"]
    rows = {row.method: row for row in benchmark_sfm.main(arguments)}
    assert list(rows) == list(benchmark_sfm.METHODS)
    assert rows["s2ld"].models[0].registered == VIEWS
    assert rows["s2ld"].match_seconds is None  # done by an earlier run
    assert all(row.photos == VIEWS and row.pairs == VIEWS * (VIEWS - 1) // 2 for row in rows.values())
    for row in rows.values():
        assert (
            row.method == "s2ld" or not row.models or row.models[0].track_length < rows["s2ld"].models[0].track_length
        )
    table = (tmp_path / "bench/table.md").read_text()
    assert table.count("\n| place |") == 4
    capsys.readouterr()
    again = benchmark_sfm.main(arguments)
    assert again == list(rows.values())  # kept, not done again
    assert json.loads((tmp_path / "bench/place/sift/row.json").read_text())["row"]["method"] == "sift"


def test_options_out_of_range_are_one_line(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--jobs", "0"], ["--grid", "0"], ["--grid", "1", "--least-pairs", "2"], ["--merge-radius", "-1"]):
        assert match_folder.script([str(places), "/nowhere", *wrong]) == 2
        assert re.fullmatch(r"s2ld match-folder: [^\n]+\n", capsys.readouterr().err)
