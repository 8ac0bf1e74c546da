"""Photographs of two unrelated rendered places in one folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from s2ld.config import build_config
from s2ld.data.synthetic.export import write_megadepth

KEYS = ["DATA.IMAGE_SIZE", "[320, 240]", "DATA.SYNTHETIC.TEXTURE_SIDE", "128", "DATA.SYNTHETIC.SUPERSAMPLE", "2"]
VIEWS = 6
"""Of each place."""
SIDE = 320
"""Longer side, px."""


def write_two_places(folder: Path) -> Path:
    """Write `folder`/photos with the folders 0 and 1, and return it."""
    write_megadepth(folder / "scenes", build_config([], KEYS).DATA, seed=1, scenes=2, views=VIEWS)
    for place in range(2):
        shutil.copytree(folder / f"scenes/synthetic_{place:04d}/images", folder / f"photos/{place}")
    return folder / "photos"
