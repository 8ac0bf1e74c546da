"""Which convention the cameras and depth maps of a scene follow, by how well depth carries pixels between its images.

Poses are world to camera with x right, y down and z ahead; depth is z in the unit of the poses; intrinsics are px of
the image. A scene of another convention is read without an error and teaches nothing. So pixels of some pairs are
carried over as the files have it, and as each other convention would: where one of those fits far better, it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_PAIRS = 8
"""Of a scene that are looked at."""
LEAST_PAIRS = 3
"""Fewer say nothing."""
LEAST_GAIN = 1.25
"""Another convention must fit so many times better; on right scenes none fits better at all."""
LEAST_FIT = 0.15
"""Median share of the pixels that must fit in it."""
_SURE = 0.9  # of the overlap that the index tells: with so much no other convention is tried
_MOST_PAIRS_OF_AN_IMAGE = 2
_WIDE = 0.5  # overlap of the pairs that are preferred: in others cameras are so near that any convention fits
_POINTS, _LEAST_POINTS = 250, 50  # of an image
_TOLERANCE = 0.03  # relative difference of depths that agree
_LOST = 0.03  # share below which a scene fits nowhere
_KNOWN = 0.2  # overlap of the index from which that says something
_UNITS = 10 ** np.linspace(-4, 4, 321)  # units of the poses in one of the depth, in steps of 6 %
_SIZES = 2 ** np.linspace(-3, 3, 97)  # side of the image in that of the intrinsics' image, in steps of 4 %
_ONE = np.ones(1)
_RAY = "depth is the distance along the ray; write z, the distance along the optical axis"


@dataclass(frozen=True)
class DepthView:
    """An image of a scene as its files have it."""

    depth: NDArray[np.float32]
    """(H, W), 0 unknown."""
    K: Array
    """(3, 3) px of the depth map, pixel centres at integers."""
    pose: Array
    """(4, 4)."""


@dataclass(frozen=True)
class _Convention:
    """How a scene may be meant."""

    pose: str
    units: Array
    """(S,) that are tried."""
    sizes: Array
    """(S,) that are tried, as many, or one of both."""
    ray: bool = False

    @property
    def oddities(self) -> int:
        return (self.pose != "") + (len(self.units) > 1) + (len(self.sizes) > 1) + self.ray


@dataclass(frozen=True)
class _Sample:
    """Some pixels of a view with depth."""

    xy: Array
    """(P, 2) px."""
    depth: Array
    """(P,)."""


def _inverse(pose: Array) -> Array:
    return np.linalg.inv(pose).astype(np.float64, copy=False)


def _flipped(pose: Array) -> Array:
    return np.diag([1.0, -1.0, -1.0, 1.0]) @ pose


def _centred(pose: Array) -> Array:
    moved = pose.copy()
    moved[:3, 3] = -pose[:3, :3] @ pose[:3, 3]
    return moved


_POSES: dict[str, Callable[[Array], Array]] = {
    "": lambda pose: pose,
    "poses are camera to world; write their inverses": _inverse,
    "poses have OpenGL's axes (y up, z backwards); write diag(1, -1, -1, 1) @ pose": _flipped,
    "poses are camera to world with OpenGL's axes (NeRF, Blender); write diag(1, -1, -1, 1) @ inv(pose)": (
        lambda pose: _flipped(_inverse(pose))
    ),
    "the last column of the poses is the camera's centre C; write t = -R C": _centred,
}
"""What may be wrong with poses, with the remedy, and what makes them right."""


def choose_pairs(pairs: NDArray[np.integer[Any]], overlap: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Return the rows of `pairs` (m, 2) to look at: of many images, and of middling overlap where there are such."""
    uses: dict[int, int] = {}
    rows: list[int] = []
    for row in np.argsort(np.abs(overlap - _WIDE), kind="stable"):
        images = [int(image) for image in pairs[row]]
        if all(uses.get(image, 0) < _MOST_PAIRS_OF_AN_IMAGE for image in images):
            uses |= {image: uses.get(image, 0) + 1 for image in images}
            rows.append(int(row))
        if len(rows) == MOST_PAIRS:
            break
    return np.array(rows, np.intp)


def another_convention(pairs: Sequence[tuple[DepthView, DepthView]], overlap: float) -> str:
    """Return which convention a scene follows, with the remedy, if not the right one.

    Args:
        pairs: that see the same (`choose_pairs`).
        overlap: median over the pairs of what the index tells of them.

    Returns:
        "" where the scene is right, or too little is known of it.
    """
    rng = np.random.default_rng(0)
    samples = [(_sample(view0, rng), _sample(view1, rng)) for view0, view1 in pairs]
    enough = [min(len(sample.depth) for sample in both) >= _LEAST_POINTS for both in samples]
    views = [pair for pair, good in zip(pairs, enough, strict=True) if good]
    samples = [both for both, good in zip(samples, enough, strict=True) if good]
    if len(views) < LEAST_PAIRS:
        return ""
    given = _fits(views, samples, _Convention("", _ONE, _ONE))[:, 0]
    if np.median(given) >= min(_SURE * overlap, 1 / LEAST_GAIN):
        return ""
    found: list[tuple[float, int, str]] = []
    for convention in _conventions():
        fits = _fits(views, samples, convention)
        best = int(np.median(fits, 0).argmax())
        if np.mean(fits[:, best] > given) >= 0.75:
            found.append((float(np.median(fits[:, best])), convention.oddities, _describe(convention, best)))
    top = max((fit for fit, _, _ in found), default=0.0)
    if top >= max(LEAST_FIT, LEAST_GAIN * float(np.median(given))):
        return min((oddities, -fit, text) for fit, oddities, text in found if fit >= 0.97 * top)[2]
    if np.median(given) < _LOST and overlap >= _KNOWN and _contradict(views, samples):
        return (
            f"of pairs with an overlap of {overlap:.2f} by the index, depth carries {np.median(given):.0%} of the "
            "pixels to the same surface; check poses, intrinsics, the unit of depth, and that the files belong together"
        )
    return ""


def _conventions() -> Iterator[_Convention]:
    for pose in _POSES:
        yield _Convention(pose, _ONE, _ONE)
        yield _Convention(pose, _UNITS, _ONE)
        yield _Convention(pose, _ONE, _SIZES)
        yield _Convention(pose, _ONE, _ONE, ray=True)


def _describe(convention: _Convention, best: int) -> str:
    texts = [convention.pose] if convention.pose else []
    if len(convention.units) > 1:
        unit = float(convention.units[best])
        known = " (millimetres beside metres)" if 0.9 < 1000 * unit < 1.1 else ""
        texts.append(f"depth is in another unit than the poses{known}; multiply it by about {unit:.2g}")
    if len(convention.sizes) > 1:
        size = float(convention.sizes[best])
        texts.append(
            f"intrinsics are of images of {1 / size:.2g} times the size; multiply their first two rows by about "
            f"{size:.2g}, or give image_sizes"
        )
    if convention.ray:
        texts.append(_RAY)
    return "; and ".join(texts)


def _sample(view: DepthView, rng: np.random.Generator) -> _Sample:
    y, x = np.nonzero(view.depth > 0)
    chosen = rng.permutation(len(y))[:_POINTS]
    y, x = y[chosen], x[chosen]
    return _Sample(np.stack([x, y], 1).astype(np.float64), view.depth[y, x].astype(np.float64))


def _fits(
    views: Sequence[tuple[DepthView, DepthView]], samples: Sequence[tuple[_Sample, _Sample]], convention: _Convention
) -> Array:
    """Return (pairs, S) the smaller share of both directions."""
    rows = []
    for (view0, view1), (sample0, sample1) in zip(views, samples, strict=True):
        there, back = _relative(view0, view1, convention), _relative(view1, view0, convention)
        shares = (
            _carry(view0, view1, sample0, there, convention)[0],
            _carry(view1, view0, sample1, back, convention)[0],
        )
        rows.append(np.minimum(*(agree / len(s.depth) for agree, s in zip(shares, (sample0, sample1), strict=True))))
    return np.array(rows, np.float64)


def _relative(view0: DepthView, view1: DepthView, convention: _Convention) -> Array:
    right = _POSES[convention.pose]
    relative: Array = right(view1.pose) @ np.linalg.inv(right(view0.pose))
    return relative


def _carry(
    view0: DepthView, view1: DepthView, sample: _Sample, T: Array, convention: _Convention
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (S,) how many pixels agree in the other image, fall on known depth, and fall inside it."""
    size = convention.sizes[:, None]
    a, b = _rays(view0.K, sample.xy[:, 0], sample.xy[:, 1], size)
    z = sample.depth / _length(a, b) if convention.ray else np.broadcast_to(sample.depth, a.shape)
    points = np.stack([a * z, b * z, z], -1) @ T[:3, :3].T + (T[:3, 3] / convention.units[:, None])[:, None]
    height, width = view1.depth.shape
    with np.errstate(all="ignore"):  # points in the plane of the camera
        x = np.rint(size * (view1.K[0, 0] * points[..., 0] / points[..., 2] + view1.K[0, 2]))
        y = np.rint(size * (view1.K[1, 1] * points[..., 1] / points[..., 2] + view1.K[1, 2]))
        inside = (points[..., 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = (np.where(inside, place, 0).astype(np.int64) for place in (x, y))
    there = view1.depth[row, column].astype(np.float64)
    if convention.ray:
        there = there / _length(*_rays(view1.K, column, row, size))
    known = inside & (there > 0)
    agree = known & (np.abs(points[..., 2] - there) <= _TOLERANCE * there)
    return agree.sum(1), known.sum(1), inside.sum(1)


def _rays(K: Array, x: NDArray[np.generic], y: NDArray[np.generic], size: Array) -> tuple[Array, Array]:
    """Return (S, P) x / z and y / z of pixels, with intrinsics of `size` (S, 1) times the image."""
    return (x - size * K[0, 2]) / (size * K[0, 0]), (y - size * K[1, 2]) / (size * K[1, 1])


def _length(a: Array, b: Array) -> Array:
    length: Array = np.sqrt(1 + a * a + b * b)
    return length


def _contradict(views: Sequence[tuple[DepthView, DepthView]], samples: Sequence[tuple[_Sample, _Sample]]) -> bool:
    """Tell whether pixels fall elsewhere, and not only where no depth is known, which says nothing."""
    given = _Convention("", _ONE, _ONE)
    counts = np.zeros(4)
    for (view0, view1), (sample, _) in zip(views, samples, strict=True):
        agree, known, inside = _carry(view0, view1, sample, _relative(view0, view1, given), given)
        counts += (agree[0], known[0], inside[0], len(sample.depth))
    agreeing, on_known, landed, count = counts
    return bool((on_known >= 0.1 * count and agreeing < 0.1 * on_known) or landed < 0.02 * count)
