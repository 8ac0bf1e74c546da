"""Files of any depth are read in full; what is no picture, or too large a one, is refused before it is decoded."""

from __future__ import annotations

import os
import struct
import sys
import types
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from s2ld.data.images import image_files
from s2ld.data.images.image_files import MOST_PIXELS, check_size, open_header, read_pixels
from s2ld.data.images.reading import read_image, write_image
from s2ld.errors import S2LDError

GREY = np.add.outer(np.arange(24), np.arange(0, 231, 7)).astype(np.uint8)
RGB = np.dstack([GREY, GREY // 2, 255 - GREY])
BGR = np.ascontiguousarray(RGB[..., ::-1])


def by_pillow(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def by_opencv(path: Path, array: np.ndarray) -> None:
    assert cv2.imwrite(str(path), array if array.ndim == 2 else np.ascontiguousarray(array[..., ::-1]))


@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "ppm", "webp", "jp2", "avif", "jpg"])
def test_8_bits_are_what_opencv_reads_of_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    by_pillow(path, RGB)
    assert np.abs(read_image(path).astype(int) - RGB).mean() < (3 if kind in ("jpg", "webp", "avif", "jp2") else 1e-9)
    data = np.fromfile(path, np.uint8)
    assert np.array_equal(read_image(path), cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
    assert np.array_equal(read_image(path, grey=True), cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


@pytest.mark.parametrize(
    ("name", "array", "write"),
    [
        ("a.png", GREY.astype(np.uint16) * 257, by_opencv),
        ("a.png", RGB.astype(np.uint16) * 257, by_opencv),
        ("a.tif", GREY.astype(np.uint16) * 257, by_opencv),
        ("a.tif", RGB.astype(np.uint16) * 257, by_opencv),
        ("a.tif", (GREY.astype(np.uint16) * 257).astype(">u2"), by_pillow),
        ("a.tif", GREY.astype(np.int32) * 257, by_pillow),
        ("a.tif", (GREY / 255).astype(np.float32), by_opencv),
        ("a.tif", (GREY / 255).astype(np.float64), by_opencv),
        ("a.tif", (RGB / 255).astype(np.float32), by_opencv),
        ("a.pgm", GREY.astype(np.uint16) * 257, by_opencv),
    ],
)
def test_deep_files_are_read_in_full(
    tmp_path: Path, name: str, array: np.ndarray, write: object, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    write(path, array)  # type: ignore[operator]
    stored = read_pixels(path)
    assert stored.dtype.itemsize == array.dtype.itemsize
    found = read_image(path)
    assert np.array_equal(found, RGB if array.ndim == 3 else GREY[..., None].repeat(3, 2))
    grey = read_image(path, grey=True)
    assert np.abs(grey.astype(int) - cv2.cvtColor(found, cv2.COLOR_RGB2GRAY)).max() <= 1
    assert capfd.readouterr().err == ""  # no line of OpenCV's own


def test_channels_of_a_tiff_that_lie_apart_keep_their_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile = pytest.importorskip("tifffile")
    planes = np.moveaxis(RGB.astype(np.uint16) * 257, -1, 0)
    tifffile.imwrite(path, planes, planarconfig="separate", photometric="rgb")
    assert np.abs(read_image(path).astype(int) - RGB).max() <= 1


def test_pillow_reads_what_opencv_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=exif)
    upright, stored = read_image(path), read_image(path, upright=False)
    assert upright.shape == (RGB.shape[1], RGB.shape[0], 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    assert np.array_equal(read_image(path), upright)
    assert np.array_equal(read_image(path, upright=False), stored)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds little."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiff_bomb(width: int, height: int) -> bytes:
    """A TIFF of floats, of which Pillow knows the tags alone."""
    tags = [(256, width), (257, height), (258, 64), (259, 1), (262, 1), (277, 1), (339, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("make", [bomb, tiff_bomb])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    path = tmp_path / "a.png"
    path.write_bytes(make(30000, 30000))  # type: ignore[operator]
    with pytest.raises(S2LDError, match=r"a\.png: 30000 x 30000 px are too many to decode; make it smaller") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_large_photographs_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    check_size(16320, 12288, "200 megapixels")
    with open_header(bomb(16320, 12288)) as header:  # no warning, no error
        assert header.size == (16320, 12288)
    assert Image.MAX_IMAGE_PIXELS is not None
    with pytest.raises(S2LDError, match="268 megapixels"):
        check_size(MOST_PIXELS, 2, "a")
    monkeypatch.setattr(image_files, "available_memory", lambda: 3 * 10**8)
    with pytest.raises(S2LDError, match="at most 100 megapixels here"):
        check_size(16320, 12288, "a")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "a HEIC picture; pip install pillow-heif"),
        (b"\0\0\0\x20ftypisom" + bytes(200), "a film"),
        (b"II*\0\xff\xff\xff\xff", "not an image that OpenCV can decode"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image that OpenCV can decode"),
        (b"", "not an image that OpenCV can decode"),
    ],
)
def test_what_is_no_picture_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str) -> None:
    monkeypatch.setattr(image_files, "_reads_heif", lambda: False)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(S2LDError, match=f"a\\.jpg: {words}"):
        read_image(path)


def test_heic_is_read_where_its_reader_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registered: list[bool] = []
    module = types.SimpleNamespace(register_heif_opener=lambda: registered.append(True))
    monkeypatch.setattr(image_files, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    image_files._reads_heif.cache_clear()
    try:
        assert image_files._reads_heif()
        assert registered == [True]
    finally:
        image_files._reads_heif.cache_clear()
    write_image(RGB, tmp_path / "a.heic")  # as JPEG, which readers tell by its content
    assert read_image(tmp_path / "a.heic").shape == RGB.shape


def test_pipes_devices_and_names_that_are_none_end_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, words in (
        (tmp_path / "pipe.jpg", "a pipe or a device"),
        ("/dev/zero", "a pipe or a device"),
        (tmp_path, "directory"),
        ("a\0b.jpg", "null byte"),
        ("\ud800.jpg", "surrogates"),
        (tmp_path / "fa\udce7ade\n.jpg", "No such file"),
    ):
        with pytest.raises(S2LDError, match=f"cannot read this image .*{words}") as caught:
            read_image(path)
        str(caught.value).encode()
        assert "\n" not in str(caught.value)
