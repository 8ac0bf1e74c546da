"""A sparse model without lens distortion: what depth maps and indices are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s2ld.errors import S2LDError


class RejectedError(S2LDError):
    """A scene that cannot be used; others can."""


@dataclass(frozen=True)
class SparseModel:
    """Posed pinhole images and the points that they see; unit of length: the model's own."""

    names: Sequence[str]
    """(n) image files relative to their folder."""
    sizes: NDArray[np.int64]
    """(n, 2) width and height, px."""
    K: NDArray[np.float64]
    """(n, 3, 3) px, pixel centres at integers (COLMAP's principal point minus 0.5)."""
    poses: NDArray[np.float64]
    """(n, 4, 4) world to camera."""
    points: NDArray[np.float64]
    """(P, 3) in the world."""
    visible: Sequence[NDArray[np.int64]]
    """(n) of (k,): rows of `points` that each image sees, ascending, no one twice."""

    def __len__(self) -> int:
        return len(self.names)
