"""Scenes of other conventions are named with their remedy; right ones, however poor, are not accused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from s2ld.cli.data.check_data import main, script
from s2ld.cli.data.write_synthetic import main as write_synthetic
from s2ld.config import build_config
from s2ld.data.conventions import DepthView, another_convention, choose_pairs
from s2ld.data.images.photo_files import photo_files
from s2ld.data.index.files import SceneIndex, read_index
from s2ld.data.scene_geometry import judge, odd_scenes, scene_pairs

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
Change = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene of eight views."""
    root = tmp_path_factory.mktemp("scene")
    keys = ["DATA.IMAGE_SIZE", "[160, 120]", "DATA.SYNTHETIC.TEXTURE_SIDE", "64", "DATA.SYNTHETIC.SUPERSAMPLE", "1"]
    keys += ["DATA.SYNTHETIC.OVERLAP", "[0.5, 1.0]", "DATA.SYNTHETIC.ZOOM", "[1.0, 1.0]"]
    write_synthetic([str(ROOT / "configs/data/synthetic.yaml"), str(root), "--scenes", "1", "--views", "8", *keys])
    return root


def read_depth(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file["depth"])


def along_rays(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(*(np.arange(side) for side in depth.shape[::-1]))
    return depth * np.sqrt(1 + ((x - K[0, 2]) / K[0, 0]) ** 2 + ((y - K[1, 2]) / K[1, 1]) ** 2)


def resized(factor: float) -> Change:
    return lambda depth, K, pose: (depth, np.diag([factor, factor, 1.0]) @ K, pose)


def centred(pose: np.ndarray) -> np.ndarray:
    return np.block([[pose[:3, :3], np.linalg.inv(pose)[:3, 3:]], [pose[3:]]])


def thinned(depth: np.ndarray) -> np.ndarray:
    return np.where(np.random.default_rng(int(depth.sum())).random(depth.shape) < 0.03, depth, 0)


def noisy(depth: np.ndarray) -> np.ndarray:
    return depth * np.random.default_rng(0).normal(1.0, 0.05, depth.shape)


RIGHT: dict[str, Change] = {
    "as it is": lambda depth, K, pose: (depth, K, pose),
    "noisy": lambda depth, K, pose: (noisy(depth), K, pose),
    "thin": lambda depth, K, pose: (thinned(depth), K, pose),
    "large units": lambda depth, K, pose: (1000 * depth, K, np.vstack([pose[:3] * [1, 1, 1, 1000], pose[3:]])),
    "unknown depth": lambda depth, K, pose: (0 * depth, K, pose),
}
WRONG: dict[str, tuple[Change, str]] = {
    "inverse": (lambda depth, K, pose: (depth, K, np.linalg.inv(pose)), "poses are camera to world; write their inv"),
    "OpenGL": (lambda depth, K, pose: (depth, K, FLIP @ pose), "poses have OpenGL's axes"),
    "NeRF": (lambda depth, K, pose: (depth, K, np.linalg.inv(pose) @ FLIP), "camera to world with OpenGL's axes"),
    "mm": (lambda depth, K, pose: (1000 * depth, K, pose), "millimetres beside metres); multiply it by about 0.001"),
    "feet": (lambda depth, K, pose: (3.28 * depth, K, pose), "another unit than the poses; multiply it by about 0.3"),
    "half": (resized(0.5), "images of 0.5 times the size; multiply their first two rows by about 2, or give image_s"),
    "double": (resized(2.0), "images of 2 times the size"),
    "ray": (lambda depth, K, pose: (along_rays(depth, K), K, pose), "the distance along the ray; write z"),
    "centre": (lambda depth, K, pose: (depth, K, centred(pose)), "the camera's centre C; write t = -R C"),
    "both": (lambda depth, K, pose: (1000 * depth, K, np.linalg.inv(pose)), "inverses; and depth is in another unit"),
    "rows": (lambda depth, K, pose: (depth, K, pose[[1, 2, 0, 3]]), "depth carries 0% of the pixels to the same"),
}


def said(root: Path, index: SceneIndex, change: Change) -> str:
    rows = choose_pairs(index.pairs, index.overlap)
    views = [
        DepthView(*change(read_depth(root / str(path)).astype(np.float64), np.array(K), np.array(pose)))
        for path, K, pose in zip(index.depth_paths, index.intrinsics, index.poses, strict=True)
    ]
    pairs = [(views[int(i)], views[int(j)]) for i, j in index.pairs[rows]]
    return another_convention(pairs, float(np.median(index.overlap[rows])))


@pytest.mark.parametrize("name", RIGHT)
def test_right_scenes_are_not_accused(rendered: Path, name: str) -> None:
    assert said(rendered, read_index(next((rendered / "index").glob("*.npz"))), RIGHT[name]) == ""


@pytest.mark.parametrize("name", WRONG)
def test_another_convention_is_named(rendered: Path, name: str) -> None:
    change, words = WRONG[name]
    assert words in said(rendered, read_index(next((rendered / "index").glob("*.npz"))), change)


def test_pairs_are_of_middling_overlap_and_of_many_images() -> None:
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [3, 4]])
    assert choose_pairs(pairs, np.array([0.9, 0.5, 0.4, 0.1, 0.45])).tolist() == [1, 4, 2, 3]
    assert len(choose_pairs(pairs[:0], np.zeros(0))) == 0


def own_data(rendered: Path, folder: Path) -> list[str]:
    """A copy whose poses are camera to world, and the keys that name it."""
    shutil.copytree(rendered, folder / "data")
    (path,) = (folder / "data/index").glob("*.npz")
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "poses": np.linalg.inv(arrays["poses"])})
    (folder / "data.yaml").write_text("DATA: {TRAIN_SOURCES: [megadepth], VAL_SOURCES: [megadepth]}\n")
    places = ["DATA.MEGADEPTH.ROOT", str(folder / "data"), "DATA.MEGADEPTH.INDEX", str(folder / "data/index")]
    return [str(folder / "data.yaml"), *places, "DATA.MEGADEPTH.OVERLAP", "[0.0, 1.0]"]


def test_check_data_names_it_and_is_not_content(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = own_data(rendered, tmp_path)
    assert script([*arguments, "--workers", "0", "--split", "train"]) == 1
    printed = capsys.readouterr().out
    assert "another convention: synthetic_0000: poses are camera to world; write their inverses" in printed
    assert "not all can be used" in printed
    assert "a run skips what it cannot read" not in printed
    (report,) = main([*arguments, "--workers", "0", "--split", "train", "--fast"])
    assert report.is_clean  # nothing is decoded


def test_scenes_without_rigid_poses_are_left_to_other_checks(rendered: Path, tmp_path: Path) -> None:
    items = own_data(rendered, tmp_path)
    (path,) = (tmp_path / "data/index").glob("*.npz")
    np.savez(path, **{**dict(np.load(path)), "poses": np.zeros((8, 4, 4))})
    assert list(odd_scenes(build_config(items[:1], items[1:]).DATA)) == []


def test_a_training_is_warned(rendered: Path, tmp_path: Path) -> None:
    files, keys = (lambda items: (items[:1], items[1:]))(own_data(rendered, tmp_path))
    (line,) = odd_scenes(build_config(files, keys).DATA)
    assert line.startswith("scene synthetic_0000: poses are camera to world; write their inverses")
    assert list(odd_scenes(build_config(files, [*keys, "DATA.MEGADEPTH.ROOT", "nowhere"]).DATA)) == []
    assert list(odd_scenes(build_config(files, [*keys, "DATA.TRAIN_SOURCES", "['synthetic']"]).DATA)) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_no_real_scene_is_accused() -> None:
    root, config = SHARED / "real_scenes", build_config().DATA.MEGADEPTH
    for path in sorted((root / "index").glob("*.npz")):
        index = read_index(path)
        files = partial(photo_files, root, index, layout="undistorted_sfm", with_depth=True)
        pairs = scene_pairs(index, index.select(), files, config)
        assert pairs is not None
        assert judge(pairs) == "", path
