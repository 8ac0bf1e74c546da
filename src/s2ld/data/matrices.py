"""Small matrices in text files, and what makes one a rotation or a camera's intrinsics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError
from s2ld.files import read_text

ORTHONORMAL_TOLERANCE = 1e-3  # of a rotation matrix written with four digits

Array = NDArray[np.float64]


def read_matrix(path: Path, side: int) -> Array:
    """Read `side` rows of `side` numbers from a text file; "inf" and "nan" count as numbers.

    Raises:
        S2LDError: the file is missing or holds something else.
    """
    words = read_text(path, "matrix", "is the data set complete?").split()
    try:
        values = np.array(words, np.float64)
    except ValueError:
        values = np.empty(0)
    if values.size != side * side:
        raise S2LDError(f"{path}: must hold {side} rows of {side} numbers; fetch this file again")
    return values.reshape(side, side)


def is_rotation(R: Array) -> bool:
    """Tell whether R (3, 3) is a rotation, up to the rounding of text files."""
    return bool(np.abs(R @ R.T - np.eye(3)).max() <= ORTHONORMAL_TOLERANCE and np.linalg.det(R) > 0)


def is_intrinsics(K: Array) -> bool:
    """Tell whether K (3, 3) is [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy and no inf or NaN."""
    return bool(np.isfinite(K).all() and min(K[0, 0], K[1, 1]) > 0 and K[1, 0] == 0 and (K[2] == (0, 0, 1)).all())
