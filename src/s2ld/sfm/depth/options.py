"""What the stereo of a sparse model can be told."""

from __future__ import annotations

from dataclasses import dataclass

from s2ld.errors import S2LDError


@dataclass(frozen=True)
class SweepOptions:
    """Options of `s2ld.sfm.depth.depth_maps.compute_depths`; px of the working size, unless told otherwise."""

    long_side: int = 400
    """Longer side of the images that are matched, px; smaller ones stay as they are."""
    sources: int = 5
    """Other images that one is matched with, at most."""
    least_points: int = 20
    """Points of the model that an image must see, and share with an image for it to be a source."""
    least_planes: int = 72
    most_planes: int = 144
    """Depth planes, even in inverse depth: as many as give steps of 1 px in the source with most parallax, between
    these two."""
    depth_margin: float = 0.15
    """Relative margin of the depth range around that of the points."""
    window: int = 7
    """Side of the square that is compared, px, odd."""
    best_views: int = 3
    """Sources whose scores are averaged at a pixel, the best ones; of few sources no more than half, rounded up."""
    least_contrast: float = 1.0
    """Standard deviation of the grey values of a window, of 255, below which it has no texture."""
    least_score: float = 0.6
    """Mean ZNCC of the peak, in [-1, 1]."""
    peak_margin: float = 0.05
    """ZNCC by which the peak must stand above the second one of the pixel."""
    neighbours: int = 8
    """Other images whose maps one is compared with, at most."""
    agreeing: int = 2
    """Neighbours whose maps must confirm a depth."""
    tolerance: float = 0.01
    """Relative difference of two depths that confirm each other."""
    speckle_size: int = 50
    """Connected pieces of similar depth of fewer px go."""
    speckle_step: float = 0.02
    """Relative difference of depth of neighbouring px of one piece."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            S2LDError: one that cannot be used.
        """
        counts = ("sources", "least_points", "best_views", "neighbours", "agreeing")
        for name in counts:
            if getattr(self, name) < 1:
                raise S2LDError(f"SweepOptions: {name} must be at least 1, not {getattr(self, name)}")
        if self.window < 3 or self.window % 2 == 0:
            raise S2LDError(f"SweepOptions: window must be odd and at least 3, not {self.window}")
        if self.long_side < 4 * self.window:
            raise S2LDError(f"SweepOptions: long_side {self.long_side} is less than four windows of {self.window} px")
        if not 3 <= self.least_planes <= self.most_planes:
            raise S2LDError(f"SweepOptions: planes must be at least 3, not {self.least_planes} to {self.most_planes}")
        if not 0 < self.tolerance < 1 or not 0 <= self.depth_margin < 1:
            raise S2LDError("SweepOptions: tolerance and depth_margin are shares of the depth, between 0 and 1")
