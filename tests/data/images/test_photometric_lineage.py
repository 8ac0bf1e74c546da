"""The kinds dark and mobile: what each is known for, over many draws."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from s2ld.config import build_config
from s2ld.data.images import photometric_lineage as lineage
from s2ld.data.images.photometric import augment
from s2ld.data.images.photometric_lineage import Effect
from s2ld.data.images.reading import UInt8Image, to_grey

KINDS = ("dark", "mobile")


def photo(height: int = 120, width: int = 160) -> UInt8Image:
    coarse = np.random.default_rng(0).integers(40, 240, (15, 20, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def draws(kind: str, image: UInt8Image, count: int) -> list[UInt8Image]:
    node = build_config([], ["DATA.PHOTOMETRIC.KIND", kind]).DATA.PHOTOMETRIC
    return [augment(image, node, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grey", [False, True])
def test_grey_of_the_same_size_and_a_function_of_the_generator(kind: str, grey: bool) -> None:
    image = to_grey(photo()) if grey else photo()
    before = image.copy()
    first, second = (draws(kind, image, 40) for _ in range(2))
    assert all(one.shape == (120, 160) and one.dtype == np.uint8 for one in first)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert np.array_equal(image, before)
    assert len({one.tobytes() for one in first}) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_a_few_px_is_taken(kind: str) -> None:
    assert all(one.shape == (16, 16) for one in draws(kind, photo(16, 16), 60))


def test_dark_is_darker_and_leaves_about_a_third_alone() -> None:
    plain = to_grey(photo())
    ratios = [one.mean() / plain.mean() for one in draws("dark", photo(), 400)]
    assert np.mean(ratios) < 0.8
    assert min(ratios) < 0.2
    # 0.25, and 0.75 times the chance that no effect is drawn
    untouched = 0.25 + 0.75 * 0.25 * 0.9 * 0.8 * 0.9 * 0.9
    share = np.mean([np.array_equal(one, plain) for one in draws("dark", photo(), 400)])
    assert share == pytest.approx(untouched, abs=0.08)


def test_mobile_keeps_the_brightness_on_average() -> None:
    plain = to_grey(photo())
    ratios = [one.mean() / plain.mean() for one in draws("mobile", photo(), 200)]
    assert 0.9 < np.mean(ratios) < 1.15


def spread(effect: Effect, image: UInt8Image, count: int = 30) -> list[float]:
    return [float(effect(image, np.random.default_rng(seed)).mean()) for seed in range(count)]


def test_each_effect_alone() -> None:
    flat = np.full((60, 80, 3), 200, np.uint8)
    assert 0 <= min(spread(lineage._dim, flat)) < 80
    assert 200 < max(spread(lineage._dim, flat)) <= 255
    bright = spread(lineage._gamma, np.full((4, 4, 3), 64, np.uint8))
    assert 255 * (64 / 255) ** 0.65 - 1 <= min(bright) < max(bright) <= 255 * (64 / 255) ** 0.15
    assert 100 <= min(spread(lineage._darken_value, flat)) < max(spread(lineage._darken_value, flat)) <= 162
    assert all(130 < mean < 165 for mean in spread(lineage._rain, flat))
    assert min(spread(lineage._sun_flare, np.zeros((60, 80, 3), np.uint8))) > 100
    assert all(mean > 100 for mean in spread(lineage._sensor_noise, photo()))
    for mean in spread(lineage._jpeg, photo()):
        assert mean == pytest.approx(photo().mean(), abs=0.5)


def test_blurs_keep_the_mean_and_the_shape_of_a_dot_in_reach() -> None:
    dot = np.zeros((61, 61, 3), np.uint8)
    dot[30, 30] = 255
    y, x = np.indices((61, 61)) - 30
    for effect, reach in ((lineage._box_blur, 4), (lineage._motion_blur(25), 12), (lineage._motion_blur(7), 3)):
        for seed in range(30):
            blurred = effect(dot, np.random.default_rng(seed))[..., 0]
            assert blurred[np.maximum(abs(x), abs(y)) > reach].max(initial=0) == 0
            assert 1 < np.count_nonzero(blurred) <= (2 * reach + 1) ** 2
            assert int(blurred.sum()) == pytest.approx(255, rel=0.35)  # rounded to whole levels


def test_jitter_moves_brightness_both_ways_and_grey_stays_grey() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    levels = [lineage._jitter(grey, np.random.default_rng(seed))[0, 0] for seed in range(60)]
    assert all(np.ptp(level) == 0 for level in levels)
    assert 79 <= min(level[0] for level in levels) < 90 < 110 < max(level[0] for level in levels) <= 121
