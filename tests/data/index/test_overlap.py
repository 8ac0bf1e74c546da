"""Overlap, angle and scale of pairs: against analytic planes, a slow loop, and real scenes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from s2ld.data.index.files import read_index
from s2ld.data.index.overlap import measure_pairs

REAL = Path(__file__).resolve().parents[4] / "shared/real_scenes"
K = np.array([[100.0, 0, 49.5], [0, 100, 39.5], [0, 0, 1]])
SHAPE = (80, 100)


def at(x: float, z: float = 0.0) -> np.ndarray:
    """Pose of a camera at (x, 0, z) that looks along z."""
    pose = np.eye(4)
    pose[:3, 3] = [-x, 0, -z]
    return pose


def slow(depths: list[np.ndarray], cameras: np.ndarray, poses: np.ndarray, i: int, j: int, grid: int) -> tuple:
    """Share, angle and scale of image i in image j, pixel by pixel."""
    known, angles, scales = 0, [], []
    for row in range(0, depths[i].shape[0], grid):
        for column in range(0, depths[i].shape[1], grid):
            z = float(depths[i][row, column])
            if z == 0:
                continue
            known += 1
            local = np.linalg.inv(cameras[i]) @ [column, row, 1.0] * z
            world = np.linalg.inv(poses[i]) @ [*local, 1.0]
            x, y, depth, _ = poses[j] @ world
            if depth <= 0:
                continue
            u, v, w = cameras[j] @ [x, y, depth]
            u, v = int(np.floor(u / w + 0.5)), int(np.floor(v / w + 0.5))
            if not (0 <= u < depths[j].shape[1] and 0 <= v < depths[j].shape[0]):
                continue
            there = float(depths[j][v, u])
            if there == 0 or abs(depth - there) > 0.05 * there:
                continue
            rays = [world[:3] - np.linalg.inv(pose)[:3, 3] for pose in (poses[i], poses[j])]
            cosine = rays[0] @ rays[1] / np.linalg.norm(rays[0]) / np.linalg.norm(rays[1])
            angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
            scales.append(cameras[j][0, 0] / depth * z / cameras[i][0, 0])
    return len(angles) / known, np.median(angles), np.median(scales)


def test_a_plane_seen_from_the_side_and_from_afar() -> None:
    depths = [np.full(SHAPE, 10.0, np.float32), np.full(SHAPE, 10.0, np.float32), np.full(SHAPE, 20.0, np.float32)]
    found = measure_pairs(depths, np.stack([K] * 3), np.stack([at(0), at(5), at(0, -10)]), 1, 0.05, progress=False)
    rows = {tuple(pair): row for row, pair in enumerate(found.pairs.tolist())}
    side = rows[0, 1]  # 5 units to the side move the plane by half the image
    assert found.overlap[side] == pytest.approx(0.5, abs=0.01)
    assert found.scale_ratio[side] == pytest.approx(1)
    assert found.angle_deg[side] == pytest.approx(26, abs=3)
    away = rows[0, 2]  # all of image 0 is in image 2, a quarter of image 2 in image 0
    assert found.overlap[away] == pytest.approx(0.25, abs=0.01)
    assert found.scale_ratio[away] == pytest.approx(0.5)


def test_what_is_hidden_or_unknown_does_not_overlap() -> None:
    behind, nearer, unknown = (np.full(SHAPE, value, np.float32) for value in (10.0, 9.0, 0.0))
    poses, cameras = np.stack([at(0)] * 2), np.stack([K] * 2)
    assert len(measure_pairs([behind, nearer], cameras, poses, 5, 0.05, progress=False).pairs) == 0
    assert len(measure_pairs([behind, unknown], cameras, poses, 5, 0.05, progress=False).pairs) == 0
    half = behind.copy()
    half[:, 50:] = 9.0
    found = measure_pairs([behind, half], cameras, poses, 1, 0.05, progress=False)
    assert found.overlap.tolist() == [0.5]


def test_it_agrees_with_a_loop_over_pixels() -> None:
    rng = np.random.default_rng(0)
    depths = [(8 + rng.normal(0, 0.5, SHAPE)).astype(np.float32) * (rng.random(SHAPE) < 0.8) for _ in range(3)]
    poses = np.stack([at(0), at(2, 0.2), at(-1, -0.2)])
    cameras = np.stack([K, 1.2 * K, K])
    cameras[:, 2, 2] = 1
    cameras[1, 0, 1] = 3.0  # skew
    found = measure_pairs(depths, cameras, poses, 5, 0.05, progress=False)
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    for row, (i, j) in enumerate(found.pairs.tolist()):
        there, back = slow(depths, cameras, poses, i, j, 5), slow(depths, cameras, poses, j, i, 5)
        assert found.overlap[row] == pytest.approx(min(there[0], back[0]))
        assert found.angle_deg[row] == pytest.approx(there[1], rel=1e-5)
        assert found.scale_ratio[row] == pytest.approx(there[2], rel=1e-5)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared")
def test_the_overlap_of_a_real_scene_is_reproduced() -> None:
    index = read_index(REAL / "index/sceaux.npz")
    depths = []
    for path in index.depth_paths:
        with h5py.File(REAL / str(path)) as file:
            depths.append(np.asarray(file["depth"], np.float32))
    found = measure_pairs(depths, index.intrinsics, index.poses, 5, 0.05, progress=False)
    rows = {tuple(pair): row for row, pair in enumerate(found.pairs.tolist())}
    ours = np.array([rows[tuple(pair)] for pair in index.pairs.tolist()])
    assert index.angle_deg is not None
    assert np.abs(found.overlap[ours] - index.overlap).max() < 0.01  # of another grid's points
    assert np.abs(found.angle_deg[ours] - index.angle_deg).max() < 1.0
    assert ((found.overlap >= 0.1) & (found.overlap <= 0.8)).sum() == len(index)
