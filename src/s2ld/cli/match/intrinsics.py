"""Intrinsics of a pair from the numbers of the command line."""

from __future__ import annotations

import numpy as np

from s2ld.errors import S2LDError
from s2ld.types import FloatArray


def intrinsics_from_numbers(numbers: list[float]) -> tuple[FloatArray, FloatArray]:
    """Return (K0, K1) of "fx fy cx cy", one set for both cameras or one for each.

    Raises:
        S2LDError: another count, or a focal length that is not positive.
    """
    if len(numbers) not in (4, 8):
        raise S2LDError(f"--intrinsics takes fx fy cx cy once or twice (4 or 8 numbers), not {len(numbers)}")
    cameras = []
    for fx, fy, cx, cy in (numbers[:4], numbers[-4:]):
        if not (fx > 0 and fy > 0 and np.isfinite([fx, fy, cx, cy]).all()):
            raise S2LDError(
                f"--intrinsics {fx:g} {fy:g} {cx:g} {cy:g}: finite numbers, and focal lengths must be positive"
            )
        cameras.append(np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]))
    return cameras[0], cameras[1]
