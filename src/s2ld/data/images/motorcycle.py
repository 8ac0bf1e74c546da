"""The real stereo pair that installs from a package registry: Middlebury's motorcycle, with its true disparity.

Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth", GCPR 2014, quarter size, as
scikit-image ships it inside its wheel (nothing is downloaded).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2ld.data.images.reading import UInt8Image, read_image
from s2ld.errors import S2LDError
from s2ld.extras import install
from s2ld.types import FloatArray

FOCAL = 994.978  # px, both cameras
CENTRE0 = (311.193, 254.877)  # px
CENTRE1 = (342.279, 254.877)  # px: x of image 0 plus the 31.086 px that the data set calls doffs


@dataclass(frozen=True)
class StereoPair:
    """A rectified pair: what lies at (x, y) of `left` lies at (x - disparity, y) of `right`."""

    left: UInt8Image
    """(H, W, 3) RGB."""
    right: UInt8Image
    """(H, W, 3) RGB."""
    disparity: FloatArray
    """(H, W) px at the pixels of `left`; not finite where it is unknown."""
    K0: FloatArray
    """(3, 3) intrinsics of `left`, px."""
    K1: FloatArray
    """(3, 3) intrinsics of `right`, px."""

    def errors(self, points0: FloatArray, points1: FloatArray) -> FloatArray:
        """Return (M,) distances, px, from `points1` to where `points0` truly are in `right`; NaN where that is unknown.

        Both are (M, 2) in px of the images. The disparity is read at the nearest pixel.
        """
        height, width = self.disparity.shape
        x = np.rint(points0[:, 0]).astype(int)
        y = np.rint(points0[:, 1]).astype(int)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        disparity = self.disparity[y.clip(0, height - 1), x.clip(0, width - 1)]
        known = inside & np.isfinite(disparity)
        disparity = np.where(known, disparity, np.nan)
        difference = points0 - points1
        return np.asarray(np.hypot(difference[:, 0] - disparity, difference[:, 1]))


def load_motorcycle() -> StereoPair:
    """Return the pair, 741 x 500 px.

    Raises:
        S2LDError: scikit-image is not installed.
    """
    paths = motorcycle_files()
    left, right = (read_image(path) for path in paths)
    with np.load(paths[0].with_name("motorcycle_disp.npz")) as file:
        disparity = file["arr_0"]
    return StereoPair(left, right, disparity, _intrinsics(*CENTRE0), _intrinsics(*CENTRE1))


def motorcycle_files() -> tuple[Path, Path]:
    """Return the files of the two photographs; raises as `load_motorcycle`."""
    try:
        import skimage.data
    except ImportError as error:
        line = f"the built-in stereo pair comes with scikit-image, which is missing: {install('demo')}"
        raise S2LDError(line) from error
    folder = Path(skimage.data.__file__).parent  # its own reader loads SciPy first
    return folder / "motorcycle_left.png", folder / "motorcycle_right.png"


def _intrinsics(x: float, y: float) -> FloatArray:
    return np.array([[FOCAL, 0.0, x], [0.0, FOCAL, y], [0.0, 0.0, 1.0]])
