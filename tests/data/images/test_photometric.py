"""Photometric change: each effect alone does what its key says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from s2ld.config import CN, build_config
from s2ld.data.images.photometric import augment
from s2ld.data.images.reading import to_grey

OFF = {"EXPOSURE": 0.0, "GAMMA": [1.0, 1.0], "COLOUR_CAST": 0.0, "BLUR": 0.0, "NOISE": 0.0, "SHADOW": 0.0}


def config(**changes: object) -> CN:
    """Nothing but `changes`; the optional effects are certain, JPEG is at its best."""
    keys = {**OFF, "JPEG": [100, 100], "PROBABILITY": 1.0, **changes}
    return build_config(
        [], [str(i) for key, value in keys.items() for i in (f"DATA.PHOTOMETRIC.{key}", value)]
    ).DATA.PHOTOMETRIC


def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(40, 200, (15, 20, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)


def run(node: CN, count: int = 12) -> list[np.ndarray]:
    return [augment(photo(), node, np.random.default_rng(seed)) for seed in range(count)]


def test_disabled_is_plain_grey() -> None:
    assert np.array_equal(augment(photo(), config(ENABLED=False), np.random.default_rng(0)), to_grey(photo()))


def test_all_off_changes_almost_nothing() -> None:
    for grey in run(config()):
        assert grey.dtype == np.uint8
        assert np.abs(grey.astype(int) - to_grey(photo())).max() <= 3


def test_grey_input_is_taken() -> None:
    grey = augment(to_grey(photo()), config(EXPOSURE=0.5), np.random.default_rng(1))
    assert grey.shape == (120, 160)


def test_full_default_keeps_shape_and_is_deterministic() -> None:
    node = build_config().DATA.PHOTOMETRIC
    for seed in range(30):
        first, second = (augment(photo(), node, np.random.default_rng(seed)) for _ in range(2))
        assert first.shape == (120, 160)
        assert np.array_equal(first, second)
    assert len({grey.tobytes() for grey in run(node, 30)}) == 30


def test_exposure_spans_its_stops() -> None:
    ratios = [grey.mean() / to_grey(photo()).mean() for grey in run(config(EXPOSURE=0.3), 40)]
    assert 2**-0.31 <= min(ratios) < 0.9
    assert 1.1 < max(ratios) <= 2**0.31


def test_gamma_darkens_above_one() -> None:
    assert all(grey.mean() < to_grey(photo()).mean() - 5 for grey in run(config(GAMMA=[1.3, 1.5])))


def test_colour_cast_changes_colours_unequally() -> None:
    """Red and blue patches of one grey level come apart."""
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :16], image[:, 16:] = (160, 0, 0), (0, 81, 0)
    gaps = [
        float(g[:, :14].mean() - g[:, 18:].mean())
        for g in (augment(image, config(COLOUR_CAST=0.3), np.random.default_rng(s)) for s in range(20))
    ]
    assert min(gaps) < -4 < 4 < max(gaps)


def test_blur_lowers_contrast_of_detail_and_keeps_the_mean() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    blurred = [augment(image, config(BLUR=2.0), np.random.default_rng(seed)) for seed in range(12)]
    assert all(abs(b.mean() - image.mean()) < 3 for b in blurred)
    assert np.mean([b.std() for b in blurred]) < 0.7 * image.std()


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_blur_has_its_largest_sigma(sigma: float) -> None:
    """Second moment of a blurred dot, over Gaussian and motion blur alike."""
    dot = np.zeros((41, 41), np.uint8)
    dot[20, 20] = 255
    y, x = np.indices(dot.shape) - 20
    widths = []
    for seed in range(30):
        spread = augment(dot, config(BLUR=sigma, PROBABILITY=1.0), np.random.default_rng(seed)).astype(float)
        spread[spread < 3] = 0  # JPEG's ripples
        widths.append(np.sqrt((spread * np.maximum(x**2, y**2)).sum() / spread.sum()))
    assert 0.3 * sigma < max(widths) < 1.6 * sigma


def test_noise_has_its_largest_sigma() -> None:
    flat = np.full((80, 80), 128, np.uint8)
    sigmas = [augment(flat, config(NOISE=0.05), np.random.default_rng(seed)).std() / 255 for seed in range(30)]
    assert 0.035 < max(sigmas) < 0.053


def test_shadow_takes_at_most_its_share() -> None:
    flat = np.full((80, 80), 200, np.uint8)
    shaded = [augment(flat, config(SHADOW=0.5), np.random.default_rng(seed)) for seed in range(30)]
    assert all(grey.min() >= 97 and grey.max() <= 203 for grey in shaded)
    assert min(int(grey.min()) for grey in shaded) < 130


def test_low_quality_jpeg_shows() -> None:
    grey = to_grey(photo())
    coarse = augment(photo(), config(JPEG=[5, 5]), np.random.default_rng(0))
    fine = augment(photo(), config(), np.random.default_rng(0))
    assert np.abs(coarse.astype(int) - grey).mean() > 2 * np.abs(fine.astype(int) - grey).mean()
