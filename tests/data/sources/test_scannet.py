"""A tiny folder in the form of LoFTR's ScanNet-1500."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.sample import collate
from s2ld.data.sources.by_name import build_source
from s2ld.data.sources.scannet import ScanNetPairs
from s2ld.errors import S2LDError
from s2ld.geometry.warp import warp_by_depth

K = np.array([[577.0, 0, 318.0], [0, 579.0, 242.0], [0, 0, 1.0]])
SCENE = "scene0707_00"


def config(root: Path, *overrides: object) -> CN:
    keys = ("DATA.SCANNET.ROOT", root, "DATA.SCANNET.INDEX", root / "index", *overrides)
    return build_config([], [str(item) for item in keys])


def pose(x: float) -> np.ndarray:
    """Camera to world: `x` metres to the right, turned by a quarter about the axis of view."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    matrix[0, 3] = x
    return matrix


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Frames 15, 30 and 45 of a wall 2 m away, the photographs larger than the depth maps, as ScanNet's are."""
    for part in ("color", "pose", "depth"):
        (tmp_path / SCENE / part).mkdir(parents=True)
    for number, frame in enumerate((15, 30, 45)):
        ramp = np.tile(np.linspace(0, 255, 1296).astype(np.uint8), (968, 1))
        cv2.imwrite(str(tmp_path / SCENE / f"color/{frame}.jpg"), ramp)
        np.savetxt(tmp_path / SCENE / f"pose/{frame}.txt", pose(0.1 * number))
        depth = np.full((480, 640), 2000, np.uint16)
        depth[:, :320] = 0 if frame == 15 else 2000
        cv2.imwrite(str(tmp_path / SCENE / f"depth/{frame}.png"), depth)
    write_index(tmp_path, name=np.array([[707, 0, 15, 30], [707, 0, 15, 45]], np.uint16))
    return tmp_path


def write_index(root: Path, **arrays: np.ndarray) -> None:
    (root / "index").mkdir(exist_ok=True)
    np.savez(root / "index/test.npz", **arrays)
    np.savez(root / "index/intrinsics.npz", **{SCENE: K})


def test_a_pair_has_the_pose_and_the_intrinsics_of_the_depth_camera(root: Path) -> None:
    source = build_source("scannet", config(root, "DATA.TEST_PAIRS", 0), "test")
    assert len(source) == 2
    sample = source[1]
    assert sample.source == f"scannet/{SCENE}"
    assert (sample.view0.name, sample.view1.name) == (f"{SCENE}/color/15.jpg", f"{SCENE}/color/45.jpg")
    assert sample.view0.image.shape == (1, 480, 640)
    assert sample.view0.scale == (1296 / 640, 968 / 480)
    assert sample.view0.depth is None
    torch.testing.assert_close(sample.view0.K, torch.from_numpy(K).float())
    expected = torch.eye(4)
    expected[1, 3] = 0.2  # 0.2 m to the world's right is upwards in the turned camera, so points move down
    torch.testing.assert_close(sample.T_0to1, expected)


def test_another_size_has_its_own_intrinsics(root: Path) -> None:
    sample = ScanNetPairs(config(root, "DATA.SCANNET.SIZE", [327, 240]).DATA)[0]
    assert sample.view0.image.shape == (1, 240, 320)  # rounded down to multiples of 8
    expected = [[288.5, 0, (318.5 / 2) - 0.5], [0, 289.5, (242.5 / 2) - 0.5], [0, 0, 1]]
    torch.testing.assert_close(sample.view0.K, torch.tensor(expected))
    one = ScanNetPairs(config(root, "DATA.SCANNET.SIZE", [327, 240], "DATA.POSED_PAIRS.MULTIPLE", 1).DATA)
    assert one.size == (327, 240)


@pytest.mark.parametrize("size", [(640, 480), (320, 240)])
def test_depth_agrees_with_pose_and_intrinsics(root: Path, size: tuple[int, int]) -> None:
    sample = ScanNetPairs(config(root, "DATA.SCANNET.DEPTH", True, "DATA.SCANNET.SIZE", list(size)).DATA)[0]
    assert sample.view0.depth is not None
    assert sample.view0.depth.unique().tolist() == [0.0, 2.0]
    assert (sample.view0.depth[:, : size[0] // 2] == 0).all()
    batch = collate([sample])
    points = torch.tensor([[[0.25, 0.5], [0.75, 0.5]]]) * torch.tensor(size)
    warped = warp_by_depth(points, batch.view0, batch.view1, batch.T_0to1, 0.05)
    assert warped.known[0].tolist() == [False, True]
    down = 0.1 / 2 * 579 * size[1] / 480
    torch.testing.assert_close(warped.points[0, 1], points[0, 1] + torch.tensor([0.0, down]))


def test_pairs_of_lost_poses_are_left_out(root: Path) -> None:
    (root / SCENE / "pose/45.txt").write_text("-inf " * 16)
    with pytest.warns(UserWarning, match=r"1 of 2 ScanNet pairs are left out: 1 poses are not finite.*45\.txt"):
        assert len(ScanNetPairs(config(root).DATA)) == 1
    (root / SCENE / "pose/15.txt").write_text("nan " * 16)
    with pytest.raises(S2LDError, match=r"no pair of which both poses are finite.*15\.txt"):
        ScanNetPairs(config(root).DATA)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return open, ("hostile-was-here", "w")


def test_pickled_objects_are_refused_and_nothing_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    write_index(root, name=np.array([[Hostile()] * 4], object))
    with pytest.raises(S2LDError, match=r"test\.npz: not an \.npz of plain arrays \(it holds pickled objects\)"):
        ScanNetPairs(config(root).DATA)
    assert not Path("hostile-was-here").exists()


def test_a_malformed_index_is_told_in_one_line(root: Path) -> None:
    def fails() -> str:
        with pytest.raises(S2LDError) as error:
            ScanNetPairs(config(root).DATA)
        assert "\n" not in str(error.value)
        return str(error.value)

    index = root / "index"
    for names in (np.zeros((0, 4), int), np.zeros((2, 3), int), np.zeros((2, 4))):
        write_index(root, name=names)
        assert "'name' must be whole numbers (pairs, 4)" in fails()
    write_index(root, other=np.zeros(1))
    assert "test.npz: no array " in fails()
    write_index(root, name=np.array([[707, 0, 15, 30], [708, 1, 15, 30]]))
    assert "intrinsics.npz: no array scene0708_01" in fails()
    write_index(root, name=np.array([[707, 0, 15, 30]]))
    for bad in (np.zeros((3, 3)), np.eye(4), np.full((3, 3), np.nan), np.array("K"), K * 1j):
        np.savez(index / "intrinsics.npz", **{SCENE: bad})
        assert f"{SCENE} has no 3 x 3 intrinsics" in fails()
    for content in (b"", b"text", b"PK\x03\x04 cut"):
        (index / "test.npz").write_bytes(content)
        assert "test.npz: not an .npz of plain arrays" in fails()
    np.save(index / "array.npy", np.zeros(3))
    (index / "array.npy").rename(index / "test.npz")
    assert "test.npz: not an .npz of plain arrays" in fails()
    (index / "test.npz").unlink()
    assert "set DATA.SCANNET.INDEX" in fails()


def test_missing_and_bad_files_are_named(root: Path) -> None:
    def fails(*overrides: object) -> str:
        with pytest.raises(S2LDError) as error:
            ScanNetPairs(config(root, *overrides).DATA)[0]
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "set DATA.SCANNET.ROOT" in fails("DATA.SCANNET.ROOT", root / "absent")
    depth = root / SCENE / "depth/30.png"
    cv2.imwrite(str(depth), np.zeros((480, 640), np.uint8))
    assert f"{depth}: no depth map of 640 x 480 px of 16 bits" in fails("DATA.SCANNET.DEPTH", True)
    depth.unlink()
    os.mkfifo(depth)
    assert f"{depth}: no depth map" in fails("DATA.SCANNET.DEPTH", True)
    depth.unlink()
    assert "set DATA.SCANNET.DEPTH False" in fails("DATA.SCANNET.DEPTH", True)
    (root / SCENE / "color/30.jpg").unlink()
    assert f"{root / SCENE / 'color/30'}: no such image" in fails()
    np.savetxt(root / SCENE / "pose/30.txt", 2 * np.eye(4))
    assert "30.txt: not a rigid motion" in fails()
    (root / SCENE / "pose/30.txt").unlink()
    assert "30.txt: cannot read this matrix" in fails()


def test_it_is_not_for_training(root: Path) -> None:
    with pytest.raises(S2LDError, match="cannot be trained on"):
        build_source("scannet", config(root), "train")
