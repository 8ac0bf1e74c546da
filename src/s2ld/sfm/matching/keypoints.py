"""What is known of the images and pairs of a folder before keypoints have an identity, as arrays and as bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray


class Packed:
    """Adds bytes to a frozen dataclass of arrays."""

    def to_bytes(self) -> bytes:
        """Return all arrays as one .npz."""
        stream = io.BytesIO()
        np.savez(stream, **{field.name: getattr(self, field.name) for field in fields(self)})  # type: ignore[arg-type]
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` returned."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(**dict(arrays))


@dataclass(frozen=True)
class ImageKeypoints(Packed):
    """The detections of one image, one for each cell in the order of the cells."""

    points: NDArray[np.float32]
    """(P, 2) image px, pixel centres at integers."""
    scores: NDArray[np.float32]
    """(P,) in [0, 1], repeatability."""
    scale: NDArray[np.float64]
    """(2,) image px per resized px, (x, y)."""
    descriptors: NDArray[np.float16]
    """(D, C) coarse features of the cells that score highest, of length 1, for retrieval."""


@dataclass(frozen=True)
class PairMatches(Packed):
    """Matches of cells of two images, each refined in both images: two measurements a match."""

    cell0: NDArray[np.int32]
    """(M,) detection of image 0."""
    cell1: NDArray[np.int32]
    """(M,) detection of image 1."""
    points0: NDArray[np.float32]
    """(M, 2) where detection `cell1` of image 1 is in image 0, image px; NaN where that is not believed."""
    points1: NDArray[np.float32]
    """(M, 2) where detection `cell0` of image 0 is in image 1."""
    confidence0: NDArray[np.float32]
    """(M,) in [0, 1] of `points0`; 0 where that is not believed."""
    confidence1: NDArray[np.float32]
    """(M,) of `points1`."""

    def __len__(self) -> int:
        return len(self.cell0)

    def exchanged(self) -> PairMatches:
        """Return the matches of the pair in the other order."""
        return PairMatches(self.cell1, self.cell0, self.points1, self.points0, self.confidence1, self.confidence0)
