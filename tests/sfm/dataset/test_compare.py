from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from s2ld.cli.sfm.compare_scenes import main, script
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.sfm.dataset.compare import align, camera_centres

SIZE, VIEWS = (64, 48), 5


def plane(folder: Path, scale: float, turn: np.ndarray, shift: np.ndarray, depth_error: float = 0.0) -> Path:
    """Write views of the plane z = 5, then moved by a similarity; depths may be too large by a share."""
    rng = np.random.default_rng(3)
    K = np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    rays = np.stack([(x - 31.5) / 60, (y - 23.5) / 60, np.ones(x.shape)], -1)
    poses = []
    for view in range(VIEWS):
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(rng.normal(0, 0.05, 3))[0]
        centre = rng.normal(0, 0.6, 3)
        pose[:3, 3] = -pose[:3, :3] @ centre
        depth = (5 - centre[2]) / (rays @ pose[:3, :3])[..., 2] * (1 + depth_error) * scale
        path = folder / f"p/depths/{view}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["depth"] = depth.astype(np.float32)
        moved = np.eye(4)
        moved[:3, :3] = pose[:3, :3] @ turn.T
        moved[:3, 3] = -moved[:3, :3] @ (scale * turn @ centre + shift)
        poses.append(moved)
    names = [f"p/images/{view}.jpg" for view in range(VIEWS)]
    depths = [f"p/depths/{view}.h5" for view in range(VIEWS)]
    pairs = np.array([[0, 1]])
    index = SceneIndex(
        "p",
        np.array(names),
        np.array(depths),
        np.tile(K, (VIEWS, 1, 1)),
        np.stack(poses),
        pairs,
        np.ones(1, np.float32),
    )
    write_index(index, folder / "index/p.npz")
    return folder / "index/p.npz"


TURN = np.asarray(cv2.Rodrigues(np.array([0.3, -1.0, 2.0]))[0])


def test_a_similarity_makes_no_difference(tmp_path: Path) -> None:
    reference = plane(tmp_path / "a", 1.0, np.eye(3), np.zeros(3))
    other = plane(tmp_path / "b", 2.5, TURN, np.array([1.0, 2, 3]))
    found = main([str(other), str(reference)])
    assert (found.common, found.images) == (VIEWS, VIEWS)
    assert found.position.max() < 1e-6
    assert found.rotation.max() < 1e-4
    assert found.depth.max() < 1e-3  # the nearest pixel of a tilted plane
    assert found.both > 0.95


def test_differences_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = plane(tmp_path / "a", 1.0, np.eye(3), np.zeros(3))
    other = plane(tmp_path / "b", 1.0, np.eye(3), np.zeros(3), depth_error=0.02)
    found = main([str(other), str(reference)])
    assert np.median(found.depth) == pytest.approx(0.02, abs=1e-3)
    assert script([str(other), str(reference)]) == 0
    assert "depth: median 2.0" in capsys.readouterr().out


def test_a_camera_that_stands_elsewhere_is_found(tmp_path: Path) -> None:
    from s2ld.data.index.files import read_index

    reference = plane(tmp_path / "a", 1.0, np.eye(3), np.zeros(3))
    index = read_index(reference)
    poses = index.poses.copy()
    poses[2, :3, 3] += 0.5
    moved = reference.with_name("moved.npz")
    write_index(replace(index, poses=poses), moved)
    found = main([str(moved), str(reference)])
    assert found.position.argmax() == 2
    assert found.position.max() > 0.05


def test_too_few_common_images_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = plane(tmp_path / "a", 1.0, np.eye(3), np.zeros(3))
    from s2ld.data.index.files import read_index

    index = read_index(reference)
    other = reference.with_name("other.npz")
    write_index(replace(index, image_paths=np.array([f"x{i}.jpg" for i in range(VIEWS)])), other)
    assert script([str(other), str(reference)]) == 2
    assert "0 of" in capsys.readouterr().err


def test_alignment_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(20, 3))
    target = 3 * source @ TURN.T + [1, 2, 3]
    found = align(source, target)
    assert found.scale == pytest.approx(3)
    assert np.allclose(found.R, TURN)
    assert np.allclose(found.apply(source), target)
    noisy = target + 0.1 * rng.normal(size=target.shape)
    best = ((align(source, noisy).apply(source) - noisy) ** 2).sum()
    for scale in (0.99, 1.01):
        nearby = align(source, noisy)
        assert best < ((replace(nearby, scale=nearby.scale * scale).apply(source) - noisy) ** 2).sum()


def test_camera_centres() -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = TURN, [1, 2, 3]
    assert np.allclose(pose[:3, :3] @ camera_centres(pose[None])[0] + pose[:3, 3], 0)
