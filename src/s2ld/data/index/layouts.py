"""Where the files of MegaDepth lie: the paths of its index files, in the layouts that people have.

The index files of LoFTR and its descendants name images as ``Undistorted_SfM/<scene>/images/<name>.jpg`` (D2-Net's
preprocessing, no longer to be downloaded) and depth maps as
``phoenix/S6/zl548/MegaDepth_v1/<scene>/dense<k>/depths/<name>.h5``. Any other path is passed through as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

LAYOUTS = ("undistorted_sfm", "megadepth_v1", "glue_factory")
"""undistorted_sfm: the paths as they are; megadepth_v1: images lie in ``imgs`` beside the ``depths`` of the original
download; glue_factory: depth maps lie as ``depth_undistorted/<scene>/<name>.h5``, images as in the index."""

_IMAGE = re.compile(r"Undistorted_SfM/(?P<scene>[^/]+)/images/(?P<name>[^/]+)\.(?P<kind>\w+)")
_DEPTH = re.compile(r"(?P<dense>phoenix/S6/zl548/MegaDepth_v1/[^/]+/dense\d+)/depths/(?P<name>[^/]+)\.h5")
_KINDS = (".jpg", ".JPG", ".png", ".jpeg", ".JPEG", ".PNG")


def is_megadepth(image: str) -> bool:
    """Tell whether the path of an image has the form of MegaDepth's index files."""
    return _IMAGE.fullmatch(image) is not None


def image_path(layout: str, image: str, depth: str) -> str:
    """Return the path of an image in a layout.

    Args:
        layout: one of `LAYOUTS`.
        image: path of the image in the index.
        depth: path of its depth map in the index, which alone says of which reconstruction (``dense<k>``) it is.
    """
    of_image, of_depth = _IMAGE.fullmatch(image), _DEPTH.fullmatch(depth)
    if layout != "megadepth_v1" or of_image is None or of_depth is None:
        return image
    return f"{of_depth['dense']}/imgs/{of_depth['name']}.{of_image['kind']}"


def depth_path(layout: str, image: str, depth: str) -> str:
    """Return the path of a depth map in a layout; the arguments are those of `image_path`."""
    of_image = _IMAGE.fullmatch(image)
    if layout != "glue_factory" or of_image is None or not depth:
        return depth
    return f"depth_undistorted/{of_image['scene']}/{of_image['name']}.h5"


def find_image(path: Path) -> Path | None:
    """Return the file at `path`, or the one beside it with the ending that another copy of the data gave it, or None.

    Copies of MegaDepth differ in ``.jpg``, ``.JPG`` and ``.png``, and the index knows only one of them.
    """
    others = (path.with_suffix(kind) for kind in _KINDS if kind != path.suffix)
    return next((candidate for candidate in (path, *others) if candidate.is_file()), None)
