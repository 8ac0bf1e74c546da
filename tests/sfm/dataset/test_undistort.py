"""Undistorted images against a picture that is a function of the ray alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from s2ld.data.images.reading import read_image, write_image
from s2ld.errors import S2LDError
from s2ld.sfm.dataset.undistort import MEDIAN_DEPTH, undistort
from s2ld.sfm.mapping.camera_models import ColmapCamera
from s2ld.sfm.mapping.read_model import ColmapImage, ColmapModel

pytest.importorskip("pycolmap")
FOCAL, K1 = 300.0, -0.12
SIZE = (320, 240)
CAMERA = ColmapCamera("SIMPLE_RADIAL", SIZE, (FOCAL, 160.0, 120.0, K1))


def picture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Grey value of the ray (x, y, 1)."""
    return 128 + 60 * np.sin(14 * x) + 50 * np.cos(11 * y + 3 * x)


def distorted(size: tuple[int, int]) -> np.ndarray:
    """What the camera sees, at an image of `size`."""
    scale = size[0] / SIZE[0]
    u, v = np.meshgrid((np.arange(size[0]) + 0.5) / scale, (np.arange(size[1]) + 0.5) / scale)
    xd, yd = (u - 160) / FOCAL, (v - 120) / FOCAL
    x, y = xd.copy(), yd.copy()
    for _ in range(50):  # x (1 + k r^2) = xd
        factor = 1 + K1 * (x * x + y * y)
        x, y = xd / factor, yd / factor
    return np.repeat(picture(x, y)[..., None], 3, 2).clip(0, 255).astype(np.uint8)


def model(names: tuple[str, ...] = ("a.png", "b.jpg")) -> ColmapModel:
    pose = np.eye(4)
    pose[:3, 3] = [0, 0, 2]
    points = np.array([[0.0, 0, 1], [0, 0, 3], [0, 0, 7]])
    images = [ColmapImage(name, 1, pose, np.arange(3)) for name in names]
    return ColmapModel({1: CAMERA}, images, points, np.zeros((3, 3), np.uint8))


@pytest.mark.parametrize(("size", "max_side"), [(SIZE, 800), (SIZE, 160), ((640, 480), 800)])
def test_pixels_show_the_rays_of_their_pinhole_camera(tmp_path: Path, size: tuple[int, int], max_side: int) -> None:
    for name in ("a.png", "b.jpg"):
        write_image(distorted(size), tmp_path / name)
    flat = undistort(model(), tmp_path, tmp_path / "out", max_side, 1, progress=False)
    assert max(flat.model.sizes[0]) <= max_side
    assert flat.model.names == ["a.jpg", "b.jpg"]
    image = read_image(tmp_path / "out/a.jpg", grey=True).astype(float)
    assert image.shape[::-1] == tuple(flat.model.sizes[0])
    K = flat.model.K[0]
    x, y = np.meshgrid(*((np.arange(n) - K[i, 2]) / K[i, i] for i, n in enumerate(image.shape[::-1])))
    error = np.abs(image - picture(x, y))
    assert np.median(error) < 1.5
    shifted = np.abs(image - picture(x + 0.5 / K[0, 0], y + 0.5 / K[1, 1]))
    assert np.median(error) < 0.6 * np.median(shifted)  # half a pixel would show


def test_scenes_are_scaled_to_one_median_depth(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        write_image(distorted(SIZE), tmp_path / name)
    flat = undistort(model(), tmp_path, tmp_path / "out", 100, 1, progress=False)
    assert flat.scale == pytest.approx(MEDIAN_DEPTH / 5)  # z of 3, 5 and 9
    assert np.allclose(flat.model.points[:, 2], [2, 6, 14])
    assert np.allclose(flat.model.poses[0][:3, 3], [0, 0, 4])


def test_images_that_are_not_those_of_the_model_are_named(tmp_path: Path) -> None:
    write_image(distorted(SIZE), tmp_path / "b.jpg")
    write_image(distorted(SIZE)[:, :200], tmp_path / "c.jpg")
    flat = undistort(model(("a.png", "b.jpg", "c.jpg")), tmp_path, tmp_path / "out", 200, 1, progress=False)
    assert flat.sources == ["b.jpg"]
    reasons = dict(flat.rejected)
    assert "cannot read this image" in reasons["a.png"]
    assert "another shape" in reasons["c.jpg"]
    with pytest.raises(S2LDError, match="none of the model's 1 images"):
        undistort(model(("a.png",)), tmp_path, tmp_path / "out", 200, 1, progress=False)


@pytest.mark.parametrize(
    ("size", "params"),
    [
        ((320, 240), (300.0, 1e300, 120.0, 0.0)),
        ((320, 240), (300.0, 160.0, 120.0, 1e300)),
        ((100_000, 240), (300.0,) * 4),
    ],
)
def test_cameras_that_cannot_be_are_told(tmp_path: Path, size: tuple[int, int], params: tuple[float, ...]) -> None:
    write_image(distorted(SIZE), tmp_path / "a.png")
    damaged = replace(model(("a.png",)), cameras={1: ColmapCamera("SIMPLE_RADIAL", size, params)})
    with pytest.raises(S2LDError, match=r"a\.png: a SIMPLE_RADIAL camera of parameters .* cannot be undistorted"):
        undistort(damaged, tmp_path, tmp_path / "out", 200, 1, progress=False)
