"""Of damaged pictures this program prints its own line alone."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from s2ld.cli.status import BAD_INPUT, exit_status
from s2ld.data.images.decoders import QUIET, quiet_decoders
from s2ld.data.images.reading import read_image
from s2ld.errors import S2LDError


def encoded(suffix: str) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return bytes(cv2.imencode(suffix, image)[1])


def with_profile(png: bytes) -> bytes:
    """Return a good picture whose colour profile libpng warns of."""
    data = b"iCCPsRGB\0\0" + zlib.compress(b"no profile")
    chunk = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    return png[:33] + chunk + png[33:]


PICTURES = {
    "flipped.png": bytes([*encoded(".png")[:300], 1, 2, 3, *encoded(".png")[303:]]),
    "short.png": encoded(".png")[:-3000],
    "profile.png": with_profile(encoded(".png")),
    "flipped.jpg": bytes([*encoded(".jpg")[:1500], 0xFF, 0xD9, 3, *encoded(".jpg")[1503:]]),
    "short.tif": encoded(".tif")[:-1000],
}


@pytest.mark.parametrize("name", PICTURES)
def test_decoders_print_nothing_beside_a_command(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(PICTURES[name])

    def body() -> int:
        read_image(path)
        return 0

    status = exit_status("x.py", body)
    printed = capfd.readouterr().err
    assert printed == ("" if status == 0 else f"x.py: {printed[6:].splitlines()[0]}\n")
    assert status in (0, BAD_INPUT)
    assert status == 0 or str(path) in printed


def test_outside_commands_decoders_may_print(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(QUIET, raising=False)
    (tmp_path / "a.png").write_bytes(PICTURES["short.png"])
    with pytest.raises(S2LDError):
        read_image(tmp_path / "a.png")
    assert "libpng error" in capfd.readouterr().err


def test_what_others_print_meanwhile_comes_out(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(QUIET, "1")
    with quiet_decoders():
        os.write(2, b"one\nlibpng warning: iCCP: known incorrect sRGB profile\ntwo ")
        with quiet_decoders():  # another thread
            os.write(2, b"three\n[ WARN:0@0.068] global grfmt_tiff.cpp:117 TIFF_Error\n")
        assert capfd.readouterr().err == "one\ntwo three\n"
        print("four", file=sys.stderr)
    assert capfd.readouterr().err == "four\n"
    os.write(2, b"libpng error: outside\n")
    assert capfd.readouterr().err == "libpng error: outside\n"
