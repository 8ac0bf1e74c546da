"""Warped photographs against a slow reference: many samples a pixel of the full photograph."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import build_config
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.sources.wall_cameras import look_at
from s2ld.data.sources.wall_views import texture_scale, warp_filtered
from s2ld.geometry.homography import apply_homography

SIZE = (128, 96)


def stripes() -> np.ndarray:
    photo = np.zeros((240, 320, 3), np.uint8)
    photo[:, ::4] = photo[:, 1::4] = 255
    photo[::20] = 0
    return photo


def camera_homography(tilt: float, texture_px: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return look_at(
        np.array([160.0, 120.0]), texture_px, tilt, rng.uniform(-40, 40), np.array(SIZE, float), [60, 60.1], rng
    ).wall_to_image


def reference(photo: np.ndarray, H: np.ndarray, backdrop: np.ndarray) -> np.ndarray:
    """16 x 16 samples a pixel."""
    factor, fine = 16, (SIZE[0] * 16, SIZE[1] * 16)
    image = cv2.resize(backdrop, fine, interpolation=cv2.INTER_LINEAR)
    S = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
    cv2.warpPerspective(photo, S @ H, fine, image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    return cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA).astype(float)


@pytest.mark.parametrize(("tilt", "texture_px"), [(0, 0.5), (0, 2.7), (40, 1.5), (62, 2.0), (62, 5.0)])
def test_a_strongly_tilted_photograph_does_not_alias(tilt: float, texture_px: float) -> None:
    backdrop = np.full((30, 40, 3), 90, np.uint8)
    for seed in range(3):
        H = camera_homography(tilt, texture_px, seed)
        error = np.abs(warp_filtered(stripes(), H, SIZE, backdrop) - reference(stripes(), H, backdrop))
        plain = cv2.resize(backdrop, SIZE)
        cv2.warpPerspective(stripes(), H, SIZE, plain, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
        aliased = np.abs(plain - reference(stripes(), H, backdrop))
        assert error.mean() < (8 if texture_px > 1 else 4)
        if texture_px > 1:
            assert error.mean() < 0.5 * aliased.mean()


@pytest.mark.parametrize("seed", range(4))
def test_the_scale_is_the_largest_step_of_a_pixel(seed: int) -> None:
    H = camera_homography(55, 1.5, seed)
    found = texture_scale(H, SIZE, 320, 240)
    rows, columns = found.shape
    inverse = torch.from_numpy(np.linalg.inv(H))
    for row, column in ((0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1), (rows // 2, 0)):
        at = torch.tensor([(column + 0.5) * SIZE[0] / columns, (row + 0.5) * SIZE[1] / rows], dtype=torch.float64)
        angle = torch.linspace(0, 2 * np.pi, 721, dtype=torch.float64)
        step = 1e-3 * torch.stack([angle.cos(), angle.sin()], 1)
        there = apply_homography(inverse, torch.cat([at[None], at + step]))
        if bool(((there[0] >= 0) & (there[0] < torch.tensor([320, 240]))).all()):
            longest = float((there[1:] - there[0]).norm(dim=1).max()) / 1e-3
            assert found[row, column] == pytest.approx(longest, rel=1e-2)


def test_a_photograph_out_of_sight_leaves_the_backdrop() -> None:
    H = np.array([[1.0, 0, 1e4], [0, 1, 1e4], [0, 0, 1]])
    backdrop = np.full((96, 128, 3), 70, np.uint8)
    assert np.array_equal(warp_filtered(stripes(), H, SIZE, backdrop), backdrop)
    assert (texture_scale(H, SIZE, 320, 240) == 1).all()


@pytest.mark.parametrize("index", range(6))
def test_the_second_view_of_a_wide_pair_shows_what_the_homography_says(index: int) -> None:
    wide = ["DATA.HOMOGRAPHY.WIDE", "True", "DATA.HOMOGRAPHY.TILT", "60.0", "DATA.HOMOGRAPHY.ZOOM", "[0.25, 1.0]"]
    config = build_config(
        overrides=["DATA.IMAGE_SIZE", str(list(SIZE)), "DATA.PHOTOMETRIC.ENABLED", "False", *wide]
    ).DATA
    sample = HomographyPairs(config, 1, 10)[index]
    assert sample.homography is not None
    assert sample.view0.depth is not None
    x, y = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="xy")
    points = apply_homography(sample.homography.double(), torch.stack([x, y], -1).reshape(-1, 2).double())
    inside = ((points >= 0) & (points <= torch.tensor(SIZE) - 1)).all(1) & (sample.view0.depth.flatten() > 0)
    place = points.float().reshape(SIZE[1], SIZE[0], 2).numpy()
    warped = cv2.remap(sample.view1.image[0].numpy(), place, None, cv2.INTER_LINEAR).reshape(-1)[inside.numpy()]
    own = sample.view0.image[0].numpy().reshape(-1)[inside.numpy()]
    assert len(own) > 50
    assert np.median(np.abs(warped - own)) < 0.08
