"""Pixels of any type as 8 bits: what range their values have, and how much of it an image uses."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError

UInt8Image = NDArray[np.uint8]
SCALES = (255.0, 65535.0)
"""White in 8 and in 16 bits: an image of other units has the smaller one that its values do not exceed."""
LOW_RANGE = 1 / 4
"""Images that use less than this share of their scale are stretched: 8 bits would leave them few grey levels."""
CUT = 0.2
"""Per cent of the pixels that become black, and of those that become white, where an image is stretched."""
ROUNDING = 0.5 / 255
"""By which floats may leave [0, 1]: half a grey level of 8 bits, more than resizing them rounds."""
_SAMPLE = 2**20  # pixels that the range is measured on
_STRIP = 2**20  # values converted at a time, so that a large image needs little memory beside its own
_told = threading.Event()


def to_uint8(array: NDArray[Any], name: str, measured: bool = False) -> UInt8Image:
    """Return an image's values as 8 bits; one that uses little of its range is stretched, which is told once.

    uint8 stays as it is, bool becomes 0 and 255, floats in [0, 1] are multiplied by 255. Other integers count as 8
    bits where all are within 0 and 255, else as 16 bits. Values that are neither, and those that use less than
    `LOW_RANGE` of their scale (10 to 14 bits or temperatures in 16, reflectances), are stretched to the full range.

    Args:
        array: (H, W), (H, W, 3) RGB or (H, W, 4) RGBA of any type and byte order, not empty.
        name: for messages.
        measured: the values are a file's, in whatever unit: floats beyond [0, 1] and integers of 64 bits are taken too.

    Raises:
        S2LDError: values that are no numbers, not finite, or ambiguous.
    """
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf" or (array.dtype.itemsize == 8 and array.dtype.kind != "f" and not measured):
        raise S2LDError(f"{name}: pixels of type {array.dtype} are ambiguous; give uint8, or float in [0, 1]")
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise S2LDError(f"{name}: the image holds NaN or infinite pixels; replace them")
    scale = _scale(array.dtype.kind, low, high)
    if array.dtype.kind == "f" and scale != 1 and not measured:
        raise S2LDError(
            f"{name}: float pixels must be in [0, 1], but these are in [{low:.9g}, {high:.9g}]; rescale or clip them"
        )
    black, white = _limits(array, scale, low, high)
    if scale is None or (black, white) != (0.0, scale):
        _tell(name, low, high)
    return _mapped(array, black, white)


def _scale(kind: str, low: float, high: float) -> float | None:
    """Return the value of white; None where the values tell of none."""
    if kind == "f" and low >= -ROUNDING and high <= 1 + ROUNDING:
        return 1.0
    return next((scale for scale in SCALES if high <= scale), None) if low >= 0 else None


def _limits(array: NDArray[Any], scale: float | None, low: float, high: float) -> tuple[float, float]:
    """Return the values that become black and white."""
    whole = (0.0, scale or max(high, 1.0))
    if low == high:
        return whole
    sample = _sample(array)
    black, white = np.percentile(sample, (CUT, 100 - CUT)).tolist()
    if scale is not None and white - black >= LOW_RANGE * scale:
        return whole
    known = sample[sample != 0]  # 0 is also what a frame around an image, or a pixel without a value, is filled with
    if len(known):
        black, white = np.percentile(known, (CUT, 100 - CUT)).tolist()
    return (black, white) if black < white else (low, high)


def _sample(array: NDArray[Any]) -> NDArray[Any]:
    """Return values of pixels on a grid, as floats, without transparency."""
    colour = array[..., :3] if array.ndim == 3 else array
    step = max(1, int((array.shape[0] * array.shape[1] / _SAMPLE) ** 0.5))
    return np.asarray(colour[::step, ::step].ravel(), np.float64)


def _mapped(array: NDArray[Any], black: float, white: float) -> UInt8Image:
    """Map [black, white] to [0, 255], strip by strip."""
    found = np.empty(array.shape, np.uint8)
    rows = max(1, _STRIP // (array.size // array.shape[0]))
    for top in range(0, array.shape[0], rows):
        values = (array[top : top + rows].astype(np.float64) - black) * (255 / (white - black))
        found[top : top + rows] = np.clip(np.rint(values), 0, 255)
    return found


def _tell(name: str, low: float, high: float) -> None:
    if _told.is_set():
        return
    _told.set()
    warnings.warn(
        f"{name}: its values, {low:g} to {high:g}, use little of their range or are of a unit of their own; it and all "
        "such images are stretched to full contrast",
        stacklevel=2,
    )
