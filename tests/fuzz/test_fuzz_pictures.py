"""Damaged pictures and COLMAP models are answered or one line (`fuzzing`)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from fuzzing import ROUNDS, fuzz
from PIL import Image, features
from small_models import write_binary, write_text

from s2ld.data.images.reading import read_image
from s2ld.sfm.mapping.read_model import PARTS, read_model

KINDS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000", "AVIF")
OPTIONAL = {"JPEG2000": "jpg_2000", "AVIF": "avif", "WEBP": "webp"}
"""What Pillow may have been built without."""


def picture(kind: str, deep: bool) -> bytes:
    if kind in OPTIONAL and not features.check(OPTIONAL[kind]):
        pytest.skip(f"this Pillow writes no {kind}")
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 3))
    image = Image.fromarray((values[..., 0] * 257).astype(np.uint16) if deep else values.astype(np.uint8))
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_pictures(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(picture(kind, False))
    assert read_image(path).shape == (24, 32, 3)
    fuzz(picture(kind, False), path, read_image)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_of_16_bits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(picture(kind, True))
    assert read_image(path, grey=True).shape == (24, 32)
    fuzz(picture(kind, True), path, lambda path: read_image(path, grey=True))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("suffix", [".bin", ".txt"])
def test_models(tmp_path: Path, part: str, suffix: str) -> None:
    (write_binary if suffix == ".bin" else write_text)(tmp_path)
    path = tmp_path / f"{part}{suffix}"
    assert len(read_model(path.parent).images) == 2
    fuzz(path.read_bytes(), path, lambda path: read_model(path.parent), rounds=2 * ROUNDS)
