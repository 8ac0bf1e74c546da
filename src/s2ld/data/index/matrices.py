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


def are_rotations(R: Array) -> NDArray[np.bool_]:
    """Tell which of R (n, 3, 3) are rotations, up to the rounding of text files; no inf and NaN are expected."""
    with np.errstate(over="ignore", invalid="ignore"):  # of enormous numbers
        off = np.abs(R @ R.swapaxes(1, 2) - np.eye(3)).max((1, 2))
        right: NDArray[np.bool_] = (off <= ORTHONORMAL_TOLERANCE) & (np.linalg.det(R) > 0)
    return right


def is_rotation(R: Array) -> bool:
    """Tell whether R (3, 3) is a rotation, up to the rounding of text files."""
    return bool(are_rotations(R[None])[0])


def is_rigid(T: Array) -> bool:
    """Tell whether T (4, 4) is [[R, t], [0, 0, 0, 1]] with a rotation R, up to the rounding of text files."""
    return is_rotation(T[:3, :3]) and bool(np.abs(T[3] - (0, 0, 0, 1)).max() <= ORTHONORMAL_TOLERANCE)


def are_intrinsics(K: Array) -> NDArray[np.bool_]:
    """Tell which of K (n, 3, 3) are [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy and no inf or NaN."""
    finite, last = np.isfinite(K).all((1, 2)), (K[:, 2] == (0, 0, 1)).all(1)
    right: NDArray[np.bool_] = finite & last & (K[:, 0, 0] > 0) & (K[:, 1, 1] > 0) & (K[:, 1, 0] == 0)
    return right


def is_intrinsics(K: Array) -> bool:
    """Tell whether K (3, 3) is one of `are_intrinsics`."""
    return bool(are_intrinsics(K[None])[0])
