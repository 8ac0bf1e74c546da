"""The error of matches between a picture and its copy that is shifted by whole pixels.

The true displacement is known exactly and nothing is resampled, so that an error that depends on the shift modulo the
side of a cell, 8 px, is the matcher's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s2ld.data.images.reading import UInt8Image
from s2ld.errors import S2LDError
from s2ld.extras import install
from s2ld.matcher import Matcher
from s2ld.types import FloatArray

SIZE = (360, 240)
"""Width and height of the crops, px."""
CORNER = 20  # px: left and top of the picture's first crop
SHIFTS = range(8)
WRONG = 2.0  # px: matches with a larger error along an axis are wrong, not inexact, and left out
NAMES = ("coffee", "astronaut", "chelsea", "camera", "rocket", "brick")
"""Of pictures that scikit-image ships inside its wheel."""


def pictures(names: Sequence[str] = NAMES) -> list[UInt8Image]:
    """Return pictures of scikit-image, (H, W) grey or (H, W, 3) RGB; nothing is downloaded.

    Raises:
        S2LDError: scikit-image is not installed.
    """
    try:
        import skimage.data
    except ImportError as error:
        raise S2LDError(f"the pictures come with scikit-image, which is missing: {install('demo')}") from error
    return [np.asarray(getattr(skimage.data, name)()) for name in names]


def shift_errors(matcher: Matcher, images: Sequence[UInt8Image], shifts: Sequence[int] = SHIFTS) -> FloatArray:
    """Return the mean error in x (images, shifts), px; NaN where no match is right.

    Args:
        matcher: with a `max_side` of -1, or `SIZE` as its size: it must not resize.
        images: larger than `SIZE` by `CORNER` and the largest shift.
        shifts: px along x.
    """
    errors = np.full((len(images), len(shifts)), np.nan)
    for row, image in enumerate(images):
        first = matcher.extract(_crop(image, 0))
        for column, shift in enumerate(shifts):
            found = matcher.match(first, matcher.extract(_crop(image, shift)))
            error = found.points1 - found.points0 + [shift, 0]
            right = np.abs(error).max(1) < WRONG
            if right.any():
                errors[row, column] = error[right, 0].mean()
    return errors


def _crop(image: UInt8Image, shift: int) -> UInt8Image:
    width, height = SIZE
    return np.ascontiguousarray(image[CORNER : CORNER + height, CORNER + shift : CORNER + shift + width])
