from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from s2ld.viz.reconstruction import ColouredModel, draw_model, upright_axes

CORNERS = np.array([[-0.6, -0.4], [0.6, -0.4], [0.6, 0.4], [-0.6, 0.4]])


def poses(centres: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Cameras that look along the world's z axis, y down; the world then turned by a rotation."""
    result = np.tile(np.eye(4), (len(centres), 1, 1))
    result[:, :3, :3] = turn.T
    result[:, :3, 3] = -centres
    return result


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_axes_are_the_cameras_right_up_and_back() -> None:
    turn = rotation(1)
    axes = upright_axes(poses(np.array([[0.0, 0, 0], [1, 0, 0]]), turn))
    assert np.allclose(axes @ turn, np.diag([1, -1, -1]))
    assert np.isclose(np.linalg.det(axes), 1)


def test_cameras_all_around_or_straight_down_have_axes_too() -> None:
    around = np.tile(np.eye(4), (4, 1, 1))
    for k in range(4):
        c, s = np.cos(k * np.pi / 2), np.sin(k * np.pi / 2)
        around[k, :3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    assert np.allclose(upright_axes(around)[1], [0, -1, 0])
    assert np.isfinite(upright_axes(around)).all()


def told(points: int) -> dict[str, Any]:
    """What a model of two images tells beside its geometry."""
    return {"names": ["a.jpg", "</script>.jpg"], "seen": np.full(points, 2), "observed": np.full(2, points)}


def test_picture_shows_points_in_their_colours_and_cameras_in_red(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    points = random.uniform([-1, -1, 4], [1, 1, 6], (4000, 3))
    colours = np.tile(np.array([[0, 0, 255]], np.uint8), (4000, 1))
    colours[points[:, 0] > 0] = [0, 255, 0]
    model = ColouredModel(
        points, colours, poses(np.array([[0.0, 0, 0], [1, 0, 0]]), np.eye(3)), np.tile(CORNERS, (2, 1, 1)), **told(4000)
    )
    draw_model(model, "two $cameras", tmp_path / "model.png")
    with Image.open(tmp_path / "model.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    third = pixels[:, : pixels.shape[1] // 3]
    blue, green = (np.abs(third - colour).sum(2) < 30 for colour in ([0, 0, 255], [0, 255, 0]))
    assert 0 < blue.nonzero()[1].mean() < green.nonzero()[1].mean()  # x to the right, seen from the front
    assert (np.abs(pixels - [255, 0, 0]).sum(2) < 60).any()


def test_a_model_without_points_is_drawn(tmp_path: Path) -> None:
    nothing = np.zeros((0, 3))
    model = ColouredModel(
        nothing, nothing.astype(np.uint8), poses(np.eye(3)[:2], np.eye(3)), np.tile(CORNERS, (2, 1, 1)), **told(0)
    )
    draw_model(model, "", tmp_path / "model.png")
    assert (tmp_path / "model.png").is_file()
