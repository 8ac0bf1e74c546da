"""Pixels of any type become the same picture of 8 bits, and little range becomes all of it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from s2ld.data.images import pixels
from s2ld.data.images.pixels import to_uint8
from s2ld.errors import S2LDError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_told", pixels.threading.Event())


def quietly(array: np.ndarray, measured: bool = False) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_uint8(array, "a.tif", measured)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    "wide",
    [
        RAMP.astype(np.uint16) * 257,
        (RAMP.astype(np.uint16) * 257).astype(">u2"),
        RAMP.astype(np.uint16),  # 8 bits in a wider type
        RAMP.astype(np.int32) * 257,
        RAMP.astype(np.int16),
        RAMP.astype(np.uint32),
        RAMP / 255,
        (RAMP / 255).astype(np.float32),
        (RAMP / 255).astype(">f4"),
        (RAMP / 255).astype(np.float16),
    ],
    ids=lambda array: f"{array.dtype.str}-{array.max():g}",
)
def test_a_full_range_is_kept_and_nothing_is_told(wide: np.ndarray, measured: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(to_uint8(wide, "a", measured), RAMP)


@pytest.mark.parametrize(
    ("wide", "measured"),
    [
        *((RAMP.astype(np.uint16) << bits, False) for bits in (2, 4, 6)),  # 10, 12, 14 bits
        (7400 + RAMP.astype(np.uint16), False),  # thermal
        (RAMP.astype(np.int16) - 128, False),
        (RAMP.astype(np.int32) * 1000, False),
        (RAMP / 2550 + 0.3, False),  # a reflectance
        (RAMP / 10.0 - 5, True),  # degrees
        (RAMP.astype(np.int64) * 1000, True),
        (RAMP * 1e9, True),
    ],
)
def test_little_range_or_another_unit_is_stretched(wide: np.ndarray, measured: bool) -> None:
    found = quietly(wide, measured)
    assert np.abs(found.astype(int) - RAMP).max() <= 2  # the ends that are cut are a pixel of so few
    assert (found.min(), found.max()) == (0, 255)


def test_pixels_without_a_value_and_single_hot_ones_do_not_count() -> None:
    thermal = np.tile(7400 + RAMP.astype(np.uint16), (4, 4))
    framed = np.pad(thermal, 8)
    framed[20, 20] = 65535
    found = quietly(framed)
    assert np.abs(found[8:-8, 8:-8].astype(int) - np.tile(RAMP, (4, 4)))[20:].max() <= 1
    assert (found[:8] == 0).all()


def test_colours_are_stretched_together_and_transparency_does_not_count() -> None:
    colours = np.stack([RAMP, RAMP // 2, RAMP // 4], -1).astype(np.uint16) * 4
    found = quietly(np.dstack([colours, np.full(RAMP.shape, 65535, np.uint16)]))
    assert np.abs(found[..., :3].astype(int) - colours // 4).max() <= 2


def test_it_is_told_once(recwarn: pytest.WarningsRecorder) -> None:
    for name in ("a.png", "b.png"):
        to_uint8(RAMP.astype(np.uint16) * 4, name)
    (told,) = [str(warning.message) for warning in recwarn]
    assert told.startswith("a.png: its values, 0 to 1020, use little of their range")
    assert "\n" not in told


@pytest.mark.parametrize("value", [0, 7, 60000])
def test_an_even_picture_stays_as_it_is(value: int) -> None:
    found = to_uint8(np.full((4, 5), value, np.uint16), "a")
    assert (found == (value if value < 256 else round(value / 257))).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_rounding_leaves_outside_is_clipped(dtype: Any) -> None:
    wide = (RAMP / 255).astype(dtype)
    wide[0, 0], wide[-1, -1] = np.nextafter(dtype(0), dtype(-1)), np.nextafter(dtype(1), dtype(2))
    assert np.array_equal(to_uint8(wide, "a"), RAMP)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[0, 1.004]], np.float32), r"in \[0, 1\.00399995\]"),
        (np.array([[-0.0492148213, 1.06906712]]), r"in \[-0\.0492148213, 1\.06906712\]"),
        (np.array([[np.inf, 0]]), "NaN or infinite"),
        (np.zeros((2, 2), np.uint64), "type uint64"),
        (np.zeros((2, 2), np.complex64), "type complex64"),
        (np.zeros((2, 2), object), "type object"),
    ],
)
def test_what_arrays_cannot_be(array: np.ndarray, words: str) -> None:
    with pytest.raises(S2LDError, match=words):
        to_uint8(array, "a")


def test_strips_join(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (37, 5, 3), np.uint16)
    whole = to_uint8(wide, "a")
    monkeypatch.setattr(pixels, "_STRIP", 64)
    assert np.array_equal(to_uint8(wide, "a"), whole)
    assert np.array_equal(whole, np.rint(wide / 257.0))
