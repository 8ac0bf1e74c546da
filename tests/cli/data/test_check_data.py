"""`s2ld check-data`: each kind of damage, done to small scenes, is found, counted and cleaned away."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from s2ld.cli.data.check import SourceReport
from s2ld.cli.data.check_data import main, script
from s2ld.config import build_config
from s2ld.data.images.photo_files import PROBLEMS
from s2ld.data.index.files import SceneIndex, read_index, read_indices, write_index
from s2ld.data.index.matrices import is_rigid
from s2ld.data.preflight import NO_DEPTH, NOT_RIGID
from s2ld.data.sources.megadepth import MegaDepthPairs, megadepth_source

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared"
WIDTH, HEIGHT, IMAGES = 32, 24, 10
PHOENIX = "phoenix/S6/zl548/MegaDepth_v1"


def make_scene(root: Path, number: str) -> SceneIndex:
    """Ten images in MegaDepth's form, each a pair with the next one."""
    images = [f"Undistorted_SfM/{number}/images/{i}.jpg" for i in range(IMAGES)]
    depths = [f"{PHOENIX}/{number}/dense0/depths/{i}.h5" for i in range(IMAGES)]
    rng = np.random.default_rng(0)
    for image, depth in zip(images, depths, strict=True):
        for path in (root / image, root / depth):
            path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / image), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
        write_depth(root / depth, np.ones((HEIGHT, WIDTH), np.float32))
    K = np.array([[30.0, 0, WIDTH / 2], [0, 30, HEIGHT / 2], [0, 0, 1]])
    pairs = np.array([[i, i + 1] for i in range(IMAGES - 1)])
    return SceneIndex(
        f"{number}_0.1_0.3",
        np.array(images),
        np.array(depths),
        np.tile(K, (IMAGES, 1, 1)),
        np.tile(np.eye(4), (IMAGES, 1, 1)),
        pairs,
        np.linspace(0.1, 0.3, len(pairs), dtype=np.float32),
        np.linspace(1, 50, len(pairs), dtype=np.float32),
    )


def write_depth(path: Path, depth: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["depth"] = depth


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two whole scenes and their index."""
    for number in ("0000", "0001"):
        write_index(make_scene(tmp_path / "data", number), tmp_path / "index" / f"{number}_0.1_0.3.npz")
    (tmp_path / "data.yaml").write_text("DATA:\n  TRAIN_SOURCES: [megadepth]\n  VAL_SOURCES: [megadepth]\n")
    return tmp_path


def keys(data: Path) -> list[str]:
    return ["DATA.MEGADEPTH.ROOT", str(data / "data"), "DATA.MEGADEPTH.INDEX", str(data / "index")]


def command(data: Path, *more: str) -> list[str]:
    return [str(data / "data.yaml"), "--jobs", "0", "--split", "train", *more, *keys(data)]


def damage(data: Path) -> None:
    """One image of scene 0001 for each kind of damage, from image 0 on; image 9 is resized, which is none."""
    images, depths = data / "data/Undistorted_SfM/0001/images", data / "data" / PHOENIX / "0001/dense0/depths"
    (images / "0.jpg").unlink()
    (images / "1.jpg").write_bytes((images / "2.jpg").read_bytes()[:20])
    cv2.imwrite(str(images / "2.jpg"), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    (depths / "3.h5").unlink()
    (depths / "4.h5").write_bytes(b"no depth")
    write_depth(depths / "5.h5", np.ones((HEIGHT, WIDTH + 1), np.float32))
    write_depth(depths / "6.h5", np.zeros((HEIGHT, WIDTH), np.float32))
    cv2.imwrite(str(images / "9.jpg"), np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))
    index = read_index(data / "index/0001_0.1_0.3.npz")
    poses = np.array(index.poses)
    poses[7, :3, :3] *= 1.1
    write_index(replace(index, poses=poses), data / "index/0001_0.1_0.3.npz")


def test_whole_data_is_clean(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script(command(data)) == 0
    printed = capsys.readouterr().out
    assert "all that a run reads is there" in printed
    assert printed.split("\ntotal")[1].split()[:4] == ["20", "18", "0", "0"]


def test_every_kind_of_damage_is_counted_and_cleaned_away(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(data)
    clean = data / "clean"
    (report,) = main(command(data, "--write-clean-index", str(clean), "--json", str(data / "report.json")))
    whole, damaged = report.scenes
    assert (whole.pairs_lost, set(whole.counts.values())) == (0, {0})
    assert damaged.counts == dict.fromkeys([*PROBLEMS, NO_DEPTH, NOT_RIGID], 1)
    assert (damaged.images, damaged.pairs, damaged.rescaled, damaged.pairs_lost) == (10, 9, 1, 8)
    printed = capsys.readouterr().out
    assert "damaged or cut short" in printed
    use = next(line.split() for line in printed.splitlines() if line.strip().startswith("DATA.MEGADEPTH.INDEX "))
    stored = json.loads((data / "report.json").read_text())
    assert stored[0]["scenes"][1]["lines"][NO_DEPTH][0].split(":")[0].endswith("6.h5")

    index = read_indices(clean / "train", clean / "train.txt")
    assert [len(scene) for scene in index] == [9, 1]
    assert [Path(path).name for path in index[1].image_paths] == ["8.jpg", "9.jpg"]
    assert index[1].overlap.tolist() == pytest.approx([0.3])
    assert index[1].angle_deg is not None
    assert index[1].angle_deg.tolist() == [50]
    config = build_config([data / "data.yaml"], [*keys(data), *use, "DATA.IMAGE_SIZE", "[32, 32]"])
    source = megadepth_source(config.DATA, "val")
    assert isinstance(source, MegaDepthPairs)
    with pytest.warns(UserWarning, match="rescaled"):
        assert all(source[i].view0.depth is not None for i in range(len(source)))
    assert script([str(data / "data.yaml"), "--jobs", "0", "--split", "train", *keys(data), *use]) == 0


def test_fast_sees_all_but_what_only_decoding_shows(data: Path) -> None:
    damage(data)
    (report,) = main(command(data, "--fast"))
    assert [report.scenes[1].counts[check] for check in (*PROBLEMS, NO_DEPTH, NOT_RIGID)] == [1, 1, 1, 1, 1, 1, 0, 1]
    assert report.scenes[1].rescaled == 1


def test_processes_find_the_same(data: Path) -> None:
    damage(data)
    arguments = command(data)
    assert main(arguments)[0].scenes == main([*arguments[:2], "2", *arguments[3:]])[0].scenes


def test_filters_of_the_config_hold(data: Path) -> None:
    damage(data)
    (report,) = main([*command(data), "DATA.MEGADEPTH.OVERLAP", "[0.29, 1.0]"])
    assert [(scene.images, scene.pairs, scene.pairs_lost) for scene in report.scenes] == [(2, 1, 0), (2, 1, 0)]


def test_one_bad_index_file_is_told_and_the_others_are_walked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "index/0000_0.1_0.3.npz").write_bytes(b"no index")
    assert script(command(data, "--write-clean-index", str(data / "clean"))) == 1
    printed = capsys.readouterr().out
    assert "0000_0.1_0.3 (no index)" in printed
    assert "cannot be read: " in printed
    assert (data / "clean/train.txt").read_text().split() == ["0001_0.1_0.3"]


def helped(report: SourceReport) -> str:
    assert not report.is_clean
    return "\n".join(report.help)


def test_images_of_another_layout_are_found(data: Path) -> None:
    for number in ("0000", "0001"):
        (data / f"data/Undistorted_SfM/{number}/images").rename(data / f"data/{PHOENIX}/{number}/dense0/imgs")
    assert "DATA.MEGADEPTH.LAYOUT megadepth_v1  (20 of 20" in helped(main(command(data))[0])
    assert main([*command(data), "DATA.MEGADEPTH.LAYOUT", "megadepth_v1"])[0].is_clean


def test_depths_of_another_layout_are_found(data: Path) -> None:
    (data / "data/depth_undistorted").mkdir()
    for number in ("0000", "0001"):
        (data / f"data/{PHOENIX}/{number}/dense0/depths").rename(data / f"data/depth_undistorted/{number}")
    assert "DATA.MEGADEPTH.LAYOUT glue_factory  (20 of 20" in helped(main(command(data))[0])
    assert main([*command(data), "DATA.MEGADEPTH.LAYOUT", "glue_factory"])[0].is_clean


def test_a_missing_link_and_another_root_are_named(data: Path) -> None:
    shutil.move(data / "data/phoenix", data / "elsewhere/phoenix")
    assert f"ln -s /path/to/megadepth/phoenix {data / 'data'}" in helped(main(command(data))[0])
    known = main([*command(data), "DATA.MEGADEPTH.TEST_ROOT", str(data / "elsewhere")])[0]
    assert f"DATA.MEGADEPTH.ROOT {data / 'elsewhere'}" in helped(known)
    shutil.move(data / "elsewhere/phoenix", data / "data/phoenix")
    shutil.rmtree(data / "data/Undistorted_SfM")
    (data / "data/Undistorted_SfM").symlink_to(data / "nowhere")
    assert f"ln -sfn /path/to/megadepth/Undistorted_SfM {data / 'data'}" in helped(main(command(data))[0])


def test_a_missing_index_folder_is_told_with_its_remedy(data: Path) -> None:
    shutil.rmtree(data / "index")
    (report,) = main(command(data))
    assert f"ln -s /path/to/megadepth_indices/* {data}" in helped(report)
    assert "DATA.MEGADEPTH.*INDEX" in report.errors[0]


def test_training_and_validation_on_the_same_files_are_walked_once(data: Path) -> None:
    reports = main([str(data / "data.yaml"), "--jobs", "0", *keys(data)])
    assert [report.title for report in reports] == [
        *("megadepth, train and val", "photographs, test: none, textures are drawn")
    ]


def test_photographs_and_posed_pairs_are_read(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data / "data/Undistorted_SfM/0000/images"
    (folder / "0.jpg").write_bytes(b"no image")
    K, T = [[30, 0, 16], [0, 30, 12], [0, 0, 1]], np.eye(4).tolist()
    pair = {"image0": "0.jpg", "image1": "1.jpg", "K0": K, "K1": K, "T_0to1": T}
    (folder / "pairs.json").write_text(json.dumps([pair, {**pair, "image0": "2.jpg"}]))
    sources = ["DATA.TRAIN_SOURCES", "['synthetic']", "DATA.VAL_SOURCES", "['posed_pairs']"]
    places = ["DATA.PHOTOS", str(folder), "DATA.POSED_PAIRS.ROOT", str(folder)]
    reports = main([str(data / "data.yaml"), "--jobs", "0", *sources, *places])
    assert [(report.title, len(report.errors)) for report in reports] == [
        ("photographs, train: 10 items", 1),
        ("posed_pairs, val: 2 items", 1),
    ]
    assert all("0.jpg" in report.errors[0] for report in reports)
    assert "cannot be read: " in capsys.readouterr().out


def test_validation_sets_are_walked_as_what_they_test(data: Path) -> None:
    images = data / "data/Undistorted_SfM/0000/images"
    K, T = [[30, 0, 16], [0, 30, 12], [0, 0, 1]], np.eye(4).tolist()
    (images / "pairs.json").write_text(
        json.dumps([{"image0": "a.jpg", "image1": "1.jpg", "K0": K, "K1": K, "T_0to1": T}])
    )
    own = data / "posed.yaml"
    own.write_text(f"DATA: {{TEST_SOURCE: posed_pairs, TEST_PAIRS: 0, POSED_PAIRS: {{ROOT: {images}}}}}\n")
    arguments = [str(data / "data.yaml"), "--jobs", "0", "DATA.VAL_SOURCES", "[]", "DATA.VAL_SETS", str([str(own)])]
    reports = main([*arguments, "--split", "val"])
    assert [(report.title, len(report.errors)) for report in reports] == [("posed_pairs, test: 1 items", 1)]
    assert not [report for report in main([*arguments, "--split", "test"]) if "posed" in report.title]


def test_bad_arguments_are_one_line_and_status_2(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in (["--jobs", "-1"], ["DATA.MEGADEPTH.LAYOUT", "phoenix"], ["DATA.MEGADEPTH.ROTO", "x"]):
        assert script([*command(data), *extra]) == 2
        error = capsys.readouterr().err.splitlines()
        assert len(error) == 1
        assert error[0].startswith("s2ld check-data: ")


def test_rigid_poses() -> None:
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[1, 0, 0] = -1  # a mirror
    poses[2, 3, 0] = 0.5
    poses[3, :3, 3] = 7.0
    assert [is_rigid(pose) for pose in poses] == [True, False, False, True]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_the_real_index_without_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["DATA.MEGADEPTH.TEST_INDEX", str(SHARED / "megadepth_test_1500_scene_info")]
    config = str(ROOT / "configs/data/megadepth_test_1500.yaml")
    assert script([config, "--split", "test", "--jobs", "0", *overrides]) == 1
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.startswith(("00", "total"))]
    assert [row[2] for row in rows] == ["300"] * 5 + ["1500"]
    assert all(row[1] == row[3] and row[-1] == row[2] for row in rows)
    assert "ln -s /path/to/megadepth/Undistorted_SfM" in printed
    assert "DATA.MEGADEPTH.LAYOUT megadepth_v1" in printed


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize("form", ["index", "index_pickled"])
def test_real_scenes_by_their_headers(tmp_path: Path, form: str) -> None:
    (tmp_path / "data.yaml").write_text("DATA:\n  TRAIN_SOURCES: [megadepth]\n")
    places = [
        "DATA.MEGADEPTH.ROOT",
        str(SHARED / "real_scenes"),
        "DATA.MEGADEPTH.INDEX",
        str(SHARED / f"real_scenes/{form}"),
    ]
    (report,) = main([str(tmp_path / "data.yaml"), "--split", "train", "--fast", "--jobs", "0", *places])
    assert report.is_clean
    assert sum(scene.pairs for scene in report.scenes) == 4719
    assert sum(scene.rescaled for scene in report.scenes) == 0
