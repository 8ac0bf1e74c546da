"""A small COLMAP model, as text and as binary files."""

from __future__ import annotations

import struct
from pathlib import Path

CAMERAS = "# comment\n1 SIMPLE_RADIAL 640 480 500 320 240 0.1\n4 PINHOLE 64 48 50 51 32 24\n"
QUARTER = "0.7071067811865476 0 0 0.7071067811865476"  # about z
IMAGES = f"""# comment
7 1 0 0 0 1 2 3 4 b.jpg
1.5 2.5 10 3 4 -1 5 6 30 7 8 10
9 {QUARTER} 0 0 0 1 a folder/a.jpg

"""
POINTS = "30 1 2 3 0 0 0 0.5 7 2\n10 -1 0 9 0 0 0 0.5 7 0\n20 0 0 0 0 0 0 0.5\n"


def write_text(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("cameras", CAMERAS), ("images", IMAGES), ("points3D", POINTS)):
        (folder / f"{name}.txt").write_text(text)


def write_binary(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cameras = struct.pack("<Q", 2) + struct.pack("<IiQQ4d", 1, 2, 640, 480, 500, 320, 240, 0.1)
    (folder / "cameras.bin").write_bytes(cameras + struct.pack("<IiQQ4d", 4, 1, 64, 48, 50, 51, 32, 24))
    images = struct.pack("<QI7dI", 2, 7, 1, 0, 0, 0, 1, 2, 3, 4) + b"b.jpg\0" + struct.pack("<Q", 4)
    for x, y, point in ((1.5, 2.5, 10), (3, 4, 2**64 - 1), (5, 6, 30), (7, 8, 10)):
        images += struct.pack("<ddQ", x, y, point)
    root = 0.5**0.5
    images += struct.pack("<I7dI", 9, root, 0, 0, root, 0, 0, 0, 1) + b"a folder/a.jpg\0" + struct.pack("<Q", 0)
    (folder / "images.bin").write_bytes(images)
    points = struct.pack("<Q", 3)
    for number, xyz, track in ((30, (1, 2, 3), (7, 2)), (10, (-1, 0, 9), (7, 0)), (20, (0, 0, 0), ())):
        points += struct.pack("<Q3d3BdQ", number, *xyz, 0, 0, 0, 0.5, len(track) // 2)
        points += struct.pack(f"<{len(track)}I", *track)
    (folder / "points3D.bin").write_bytes(points)
