"""Photographs of rendered scenes, whose cameras and depth are known."""

from __future__ import annotations

import shutil
from pathlib import Path

from s2ld.config import build_config
from s2ld.data.synthetic.export import write_megadepth

ROOT = Path(__file__).resolve().parents[2]


def render(folder: Path, views: int, seed: int, size: tuple[int, int] = (320, 240)) -> Path:
    """Write one scene in MegaDepth's form; return its index file. All views have one camera."""
    overrides = {
        "DATA.IMAGE_SIZE": str(list(size)),
        "DATA.SYNTHETIC.ZOOM": "[1.0, 1.0]",
        "DATA.SYNTHETIC.BASELINE": "[0.1, 0.3]",
        "DATA.SYNTHETIC.OVERLAP": "[0.5, 1.0]",
    }
    words = [word for item in overrides.items() for word in item]
    data = build_config([ROOT / "configs/data/synthetic.yaml"], words).DATA
    return write_megadepth(folder, data, seed, 1, views)[0]


def photographs(index: Path) -> list[Path]:
    """Return the images of a scene that `render` wrote."""
    return sorted((index.parents[1] / index.stem / "images").iterdir())


def copy(paths: list[Path], folder: Path, prefix: str = "") -> None:
    """Copy images alone into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, folder / f"{prefix}{path.name}")
