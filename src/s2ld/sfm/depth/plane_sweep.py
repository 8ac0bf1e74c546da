"""Plane-sweep stereo: the depth at which the neighbourhood of a pixel looks alike in several images.

The plane ``z = 1 / w`` of the reference camera takes its pixel p to a source image by the homography
(Hartley & Zisserman, 13.1; planes that face the camera)::

    p_source ~ K_s R K_r^-1 p + w K_s t

which is linear in w: the first term is made once a source. Planes are even in w, so that steps are about even in the
image. At each plane the 7 x 7 windows of reference and warped source are compared by zero-mean normalised
cross-correlation (ZNCC), whose sums over windows are sums of shifted images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from s2ld.geometry.camera import inverse_intrinsics
from s2ld.geometry.pose import relative_pose
from s2ld.sfm.depth.options import SweepOptions

VOLUME = 2**24
"""Scores that are held at a time (pixels x planes): larger images are swept in strips of rows."""
BLOCK = 2**19
"""Samples that are compared at a time: what fits into caches."""
NEAREST = 1e-6
"""Least z of a plane in a source, relative to the reference's: nearer ones go out of any image."""
UNSEEN = -2.0
"""Score of a window that is not wholly inside enough sources; ZNCC is at least -1."""
SAME_PEAK = 2
"""Planes within which two maxima are one."""


@dataclass(frozen=True)
class SweepView:
    """An image of the sweep, its camera at the same size."""

    grey: Tensor
    """(H, W) float32, grey values of 0 to 255."""
    K: Tensor
    """(3, 3) float64 on the CPU, px of `grey`."""
    pose: Tensor
    """(4, 4) float64 on the CPU, world to camera."""


@dataclass(frozen=True)
class Swept:
    """A depth map."""

    depth: Tensor
    """(H, W) float32 z, 0 where it is unknown."""
    confidence: Tensor
    """(H, W) float32 ZNCC of the peak in [-1, 1], also where it is too low; `UNSEEN` where there is no peak."""


@dataclass(frozen=True)
class _Source:
    """A source image and its homographies, to the normalised coordinates of `grid_sample`."""

    grey: Tensor
    """(1, 1, H, W), less its mean; the outermost px are NaN, and with them whatever is sampled outside."""
    at_infinity: Tensor
    """(3, 3) N K_s R K_r^-1."""
    parallax: Tensor
    """(3) N K_s t."""


def sweep(reference: SweepView, sources: Sequence[SweepView], planes: Tensor, options: SweepOptions) -> Swept:
    """Return the depth map of `reference`.

    Unknown are pixels near the border (half a window), without texture, of a low or doubtful peak, and whose peak is
    the first or last plane.

    Args:
        reference: (H, W); all `grey` and the planes are on one device.
        sources: at least one, of any sizes.
        planes: (D,) inverse depths, even, positive, at least 3.
        options: the window, `best_views` and the thresholds.
    """
    height, width = reference.grey.shape
    prepared = [_prepare(reference, source) for source in sources]
    grey = reference.grey - reference.grey.mean()
    best_views = min(options.best_views, (len(sources) + 1) // 2)
    margin = options.window // 2
    depth, confidence = torch.zeros_like(grey), torch.full_like(grey, UNSEEN)
    step = max(1, VOLUME // (len(planes) * width))
    for top in range(0, height - 2 * margin, step):
        bottom = min(top + step, height - 2 * margin)  # of what is told; the windows reach over 2 margins more
        scores = _scores(grey[top : bottom + 2 * margin], top, prepared, planes, best_views, options)
        inner = slice(top + margin, bottom + margin), slice(margin, width - margin)
        depth[inner], confidence[inner] = _peaks(scores, planes, options)
    return Swept(depth, confidence)


def choose_planes(
    reference: SweepView, sources: Sequence[SweepView], near: float, far: float, options: SweepOptions
) -> Tensor:
    """Return (D,) inverse depths from ``1 / far`` to ``1 / near``, float32.

    So many that the centre of the image moves by about 1 px a plane in the source where it moves most, between
    `least_planes` and `most_planes`.
    """
    height, width = reference.grey.shape
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2, 1.0], dtype=torch.float64)
    inverse = torch.tensor([1 / far, 1 / near], dtype=torch.float64)
    paths = [0.0]
    for source in sources:
        at_infinity, parallax = _homography(reference, source)
        ends = at_infinity @ centre + inverse[:, None] * parallax
        if bool((ends[:, 2] > 0).all()):
            ends = ends[:, :2] / ends[:, 2:]
            paths.append(float(torch.linalg.vector_norm(ends[1] - ends[0])))
    count = min(max(round(max(paths)) + 1, options.least_planes), options.most_planes)
    return torch.linspace(1 / far, 1 / near, count, device=reference.grey.device)


def _homography(reference: SweepView, source: SweepView) -> tuple[Tensor, Tensor]:
    """Return K_s R K_r^-1 (3, 3) and K_s t (3)."""
    motion = relative_pose(reference.pose, source.pose)
    return source.K @ motion[:3, :3] @ inverse_intrinsics(reference.K), source.K @ motion[:3, 3]


def _prepare(reference: SweepView, source: SweepView) -> _Source:
    height, width = source.grey.shape
    # pixel centres at integers -> grid_sample's edges of the image at -1 and 1
    normalise = torch.tensor(
        [[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]], dtype=torch.float64
    )
    at_infinity, parallax = _homography(reference, source)
    grey = torch.full_like(source.grey, torch.nan)
    grey[1:-1, 1:-1] = (source.grey - source.grey.mean())[1:-1, 1:-1]
    return _Source(grey[None, None], (normalise @ at_infinity).to(grey), (normalise @ parallax).to(grey))


def _scores(
    strip: Tensor, top: int, sources: Sequence[_Source], planes: Tensor, best_views: int, options: SweepOptions
) -> Tensor:
    """Return the mean ZNCC of the best sources, (D, rows, columns) of the whole windows in a strip of the reference.

    It is `UNSEEN` where fewer than `best_views` sources see a window.
    """
    height, width = strip.shape
    area, floor = options.window**2, options.least_contrast**2
    mean = window_sums(strip, options.window) / area
    variance = window_sums(strip.square(), options.window) / area - mean.square()
    inverse_deviation = torch.where(variance > floor, variance.clamp_min(floor).rsqrt(), 0.0)
    y, x = torch.meshgrid(
        torch.arange(top, top + height, device=strip.device, dtype=strip.dtype),
        torch.arange(width, device=strip.device, dtype=strip.dtype),
        indexing="ij",
    )
    rays = torch.stack([x, y, torch.ones_like(x)])
    at_infinity = [torch.einsum("ij,jhw->ihw", source.at_infinity, rays) for source in sources]
    scores = strip.new_empty(len(planes), *mean.shape)
    step = max(1, BLOCK // (height * width))
    for first in range(0, len(planes), step):
        block = planes[first : first + step]
        best: list[Tensor] = []
        for source, rotated in zip(sources, at_infinity, strict=True):
            warped = _warp(source, rotated, block)
            mean_warped = window_sums(warped, options.window) / area
            variance = (window_sums(warped.square(), options.window) / area - mean_warped.square()).clamp_min(floor)
            score = window_sums(warped * strip, options.window) / area - mean * mean_warped
            score = score * inverse_deviation * variance.rsqrt()
            best = _keep_best(best, score.nan_to_num_(UNSEEN), best_views)
        # all that are averaged must see the whole window, or a mean of fewer would pass for a peak
        scores[first : first + step] = torch.where(best[-1] > UNSEEN, torch.stack(best).mean(0), UNSEEN)
    return scores


def _warp(source: _Source, rotated: Tensor, planes: Tensor) -> Tensor:
    """Return the source at each plane, (D, h, w), NaN outside it and where the plane is behind it."""
    x, y, z = (axis + planes[:, None, None] * along for axis, along in zip(rotated, source.parallax, strict=True))
    inverse = z.clamp_min_(NEAREST).reciprocal_()
    grid = x.new_empty(*x.shape, 2)
    torch.mul(x, inverse, out=grid[..., 0])
    torch.mul(y, inverse, out=grid[..., 1])
    image = source.grey.expand(len(planes), -1, -1, -1)
    return torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)[:, 0]


def _keep_best(best: list[Tensor], score: Tensor, count: int) -> list[Tensor]:
    """Put a score at its place in the pixelwise descending `best`, of which `count` are kept."""
    kept = []
    for one in best:
        kept.append(torch.maximum(one, score))
        score = torch.minimum(one, score)
    return [*kept, score][:count]


def window_sums(image: Tensor, side: int) -> Tensor:
    """Return the sums over all whole squares of `side` px: (..., H, W) to (..., H - side + 1, W - side + 1)."""
    return _sums(_sums(image, side, -2), side, -1)


def _sums(values: Tensor, count: int, axis: int) -> Tensor:
    """Return the sums of `count` neighbours along an axis, by doubling: sums of 7 are those of 4, 2 and 1."""
    length = values.shape[axis] - count + 1
    total, start, size = None, 0, 1
    while size <= count:
        if count & size:
            part = values.narrow(axis, start, length)
            total = part if total is None else total + part
            start += size
        if 2 * size <= count:
            left = values.shape[axis] - size
            values = values.narrow(axis, 0, left) + values.narrow(axis, size, left)
        size *= 2
    assert total is not None
    return total


def _peaks(scores: Tensor, planes: Tensor, options: SweepOptions) -> tuple[Tensor, Tensor]:
    """Return depth and score (h, w) of the highest maximum along the planes of (D, h, w)."""
    best = torch.full_like(scores[0], UNSEEN)
    second = best.clone()
    index = torch.full(best.shape, -SAME_PEAK, dtype=torch.int64, device=scores.device)
    for plane in range(1, len(scores) - 1):
        before, here, after = scores[plane - 1 : plane + 2]
        peak = torch.where((before > UNSEEN) & (here > before) & (here >= after) & (after > UNSEEN), here, UNSEEN)
        higher, apart = peak > best, plane - index > SAME_PEAK
        rival = torch.where(apart, torch.minimum(peak, best), UNSEEN)
        second = torch.maximum(second, rival)
        index = torch.where(higher, plane, index)
        best = torch.maximum(best, peak)
    at = index.clamp(1, len(scores) - 2)[None]
    before, here, after = (scores.gather(0, at + offset)[0] for offset in (-1, 0, 1))
    # the vertex of the parabola through three scores; at a maximum the divisor is negative
    shift = 0.5 * (before - after) / (before - 2 * here + after).clamp_max(-1e-6)
    inverse = planes[0] + (at[0] + shift.clamp(-0.5, 0.5)) * (planes[-1] - planes[0]) / (len(planes) - 1)
    sure = (best >= options.least_score) & (best - second >= options.peak_margin)
    return torch.where(sure, inverse.reciprocal(), 0.0), best
