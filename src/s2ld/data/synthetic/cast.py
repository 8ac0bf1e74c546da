"""Where rays meet a scene, in closed form for quads and by marching for height fields; batched, on any device.

A quad is a homography: with ``M = [u v centre]`` in camera coordinates, the ray of pixel p meets its plane where
``(s, t, 1) / z = M^-1 K^-1 (p, 1)``, three affine functions of the pixel. The nearest hit has the largest ``1 / z``.
Surfaces are one-sided: from behind they would show their texture mirrored, and a match of both sides would be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2ld.data.synthetic.scene import Array, Camera, Relief, Scene
from s2ld.types import Movable

MARCH_PHASE = 0.6  # radians: a step through a height field turns no wave's phase further ...
MARCH_STEPS = 48  # ... unless a ray would then need more steps than this
COMPACT_EVERY = 4  # steps after which finished rays are set aside
NEWTON_STEPS = 3  # from a secant's estimate, kept inside the bracket
SINGULAR = 1e-9  # below this a slope, a depth or the volume of (u, v, centre) counts as zero

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Grid(Movable):
    """Pixel positions of rays: x and y broadcast to (N, h, w)."""

    x: Tensor
    """(1 or N, 1, w) px."""
    y: Tensor
    """(1 or N, h or 1, 1 or w) px."""
    steps: tuple[float, float] | None = None
    """Distance of columns and rows, px, where they tile the image evenly; None for scattered rays."""


@dataclass(frozen=True)
class Wave(Movable):
    """The height field of one view; local coordinates of the point at depth z are ``z (rays @ p) + eye``."""

    view: int
    rays: Tensor
    """(3, 3) pixel (x, y, 1) to local (s, t, height) per unit of z."""
    eye: Tensor
    """(3,) the camera centre in local coordinates."""
    waves: Tensor
    """(K, 4)."""
    top: float


@dataclass(frozen=True)
class Geometry:
    """N scenes as N cameras see them, padded to Q quads."""

    maps: Tensor
    """(N, Q, 3, 3) float32 from (x, y, 1) to (s, t, 1) / z."""
    round: Tensor
    """(N, Q) bool."""
    any_round: list[bool]
    bounds: list[tuple[float, float, float, float] | None]
    """Per quad (left, top, right, bottom) px in which it lies in every view; None: nowhere."""
    waves: list[Wave]
    skies: Tensor
    """(N, 3, 3) float32 from (x, y, 1) to the direction of the ray in the world."""

    @property
    def quads(self) -> int:
        """Q; in `Hits.surface` a relief has the number Q, the sky Q + 1."""
        return self.maps.shape[1]


@dataclass(frozen=True)
class Hits:
    """First hits of (N, h, w) rays."""

    depth: Tensor
    """z in the camera frame, 0 where a ray meets nothing."""
    surface: Tensor
    """int64 number of the surface."""
    s: Tensor
    """Of the quad or relief, in [-1, 1]; azimuth in the sky, radians."""
    t: Tensor
    """As s; in the sky the tangent of the angle below the horizon."""


def prepare(scenes: Sequence[Scene], cameras: Sequence[Camera], device: torch.device | str = "cpu") -> Geometry:
    """Bring N scenes into the frames of N cameras (float64 on the CPU, then float32 on `device`)."""
    count = max(len(scene.quads) for scene in scenes)
    maps = np.zeros((len(scenes), count, 3, 3))
    maps[:, :, 2, 2] = -1.0  # padding lies behind the camera
    discs = np.zeros((len(scenes), count), bool)
    bounds = np.empty((len(scenes), count, 4))
    bounds[:] = (np.inf, np.inf, -np.inf, -np.inf)
    waves = []
    for n, (scene, camera) in enumerate(zip(scenes, cameras, strict=True)):
        number = len(scene.quads)
        maps[n, :number], bounds[n, :number] = _project_quads(scene, camera)
        discs[n, :number] = scene.quads.round
        if scene.relief is not None:
            waves.append(_project_relief(n, scene.relief, camera).to(device))
    joint = np.concatenate([bounds[:, :, :2].min(0), bounds[:, :, 2:].max(0)], 1)
    return Geometry(
        torch.from_numpy(maps).float().to(device),
        torch.from_numpy(discs).to(device),
        [bool(discs[:, q].any()) for q in range(count)],
        [(b[0], b[1], b[2], b[3]) if b[0] <= b[2] else None for b in joint.tolist()],
        waves,
        torch.from_numpy(np.stack([c.pose[:3, :3].T @ np.linalg.inv(c.K) for c in cameras])).float().to(device),
    )


def _project_quads(scene: Scene, camera: Camera) -> tuple[Array, Array]:
    """Return the maps (Q, 3, 3) and the bounds (Q, 4) px of the quads of one scene."""
    rotation, translation = camera.pose[:3, :3], camera.pose[:3, 3]
    quads = scene.quads
    u, v = quads.u @ rotation.T, quads.v @ rotation.T
    centre = quads.centre @ rotation.T + translation
    frames = np.stack([u, v, centre], -1)
    seen = np.linalg.det(frames) < -SINGULAR  # centre · (u × v) < 0: u × v points to the camera
    maps = np.zeros((len(quads), 3, 3))
    maps[:, 2, 2] = -1.0
    maps[seen] = np.linalg.inv(frames[seen]) @ np.linalg.inv(camera.K)
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])[..., None]
    corners = centre[:, None] + signs[:, 0] * u[:, None] + signs[:, 1] * v[:, None]
    z = corners[..., 2]
    behind, ahead = (z <= 0).all(1) | ~seen, (z > SINGULAR).all(1)
    projected = corners @ camera.K.T
    pixels = projected[..., :2] / np.where(z > SINGULAR, z, 1.0)[..., None]
    bounds = np.concatenate([pixels.min(1), pixels.max(1)], 1)
    bounds[~ahead] = (-np.inf, -np.inf, np.inf, np.inf)  # reaches behind the camera: anywhere
    bounds[behind] = (np.inf, np.inf, -np.inf, -np.inf)
    return maps, bounds


def _project_relief(view: int, relief: Relief, camera: Camera) -> Wave:
    rotation, translation = camera.pose[:3, :3], camera.pose[:3, 3]
    inverse = np.linalg.inv(rotation @ np.stack([relief.u, relief.v, relief.normal], -1))
    eye = -inverse @ (rotation @ relief.centre + translation)
    rays = inverse @ np.linalg.inv(camera.K)
    parts = [torch.from_numpy(part).float() for part in (rays, eye, relief.waves)]
    return Wave(view, parts[0], parts[1], parts[2], relief.top)


def cast(geometry: Geometry, grid: Grid) -> Hits:
    """Return the first hit of every ray of `grid`; where the grid is regular, a quad is tried only in its window."""
    shape = (geometry.maps.shape[0], grid.y.shape[1], grid.x.shape[2])
    inverse, s, t = (torch.zeros(shape, device=grid.x.device) for _ in range(3))
    surface = torch.full(shape, geometry.quads + 1, device=grid.x.device)
    for q in range(geometry.quads):
        window = _window(geometry.bounds[q], grid)
        if window is not None:
            _cast_quad(geometry, q, grid, window, (inverse, s, t, surface))
    depth = torch.where(inverse > 0, 1.0 / inverse, 0.0)
    s, t = s * depth, t * depth
    for wave in geometry.waves:
        _cast_relief(wave, geometry.quads, grid, (depth, s, t, surface))
    if bool((depth == 0).any()):
        azimuth, fall = _sky(geometry.skies, grid)
        s, t = torch.where(depth > 0, s, azimuth), torch.where(depth > 0, t, fall)
    return Hits(depth, surface, s, t)


def _sky(skies: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    m = skies[:, :, :, None, None]
    x, y, z = (m[:, i, 0] * grid.x + (m[:, i, 1] * grid.y + m[:, i, 2]) for i in range(3))
    return torch.atan2(x, z), y / torch.hypot(x, z).clamp_min(SINGULAR)


def _window(bounds: tuple[float, float, float, float] | None, grid: Grid) -> Window | None:
    """Rows and columns of the grid in which a quad can lie; None: none."""
    if bounds is None:
        return None
    if grid.steps is None:
        return slice(None), slice(None)
    left, top, right, bottom = bounds
    columns = _span(left, right, grid.steps[0], grid.x.shape[2])
    rows = _span(top, bottom, grid.steps[1], grid.y.shape[1])
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _span(low: float, high: float, step: float, count: int) -> slice:
    """Indices of `count` cells of `step` px, the first one beginning at -0.5, that meet [low, high], and one more."""
    first, last = ((min(max(edge, -2.0 * step), (count + 2) * step) + 0.5) / step for edge in (low, high))
    return slice(max(0, int(first) - 1), min(count, max(0, int(last) + 2)))


def _cast_quad(geometry: Geometry, q: int, grid: Grid, window: Window, found: tuple[Tensor, ...]) -> None:
    """Enter quad `q` into `found` (1/z, s/z, t/z, surface) wherever it is nearer."""
    rows, columns = window
    x, y = grid.x[..., columns], grid.y[:, rows]
    if grid.steps is None:
        y = y[..., columns]
    m = geometry.maps[:, q, :, :, None, None]
    s, t, inverse = ((m[:, i, 0] * x) + (m[:, i, 1] * y + m[:, i, 2]) for i in range(3))
    reach = torch.maximum(s.abs(), t.abs())
    if geometry.any_round[q]:
        reach = torch.where(geometry.round[:, q, None, None], torch.hypot(s, t), reach)
    views = [part[:, rows, columns] for part in found]
    nearer = (reach <= inverse) & (inverse > views[0])
    for view, value in zip(views, (inverse, s, t), strict=False):
        view.copy_(torch.where(nearer, value, view))
    views[3].masked_fill_(nearer, q)


def _cast_relief(wave: Wave, number: int, grid: Grid, found: tuple[Tensor, ...]) -> None:
    """Enter a height field into `found` (depth, s, t, surface) of its view wherever it is nearer."""
    depth, s, t, surface = (part[wave.view].view(-1) for part in found)
    shape = found[0].shape[1:]
    pick = wave.view if grid.x.shape[0] > 1 else 0
    x, y = (part[pick].expand(shape).reshape(-1) for part in (grid.x, grid.y))
    local = wave.rays[:, :1] * x + wave.rays[:, 1:2] * y + wave.rays[:, 2:]  # (3, P) per unit of z
    near, far = _slab(local, wave)
    far = torch.where(depth > 0, torch.minimum(far, depth), far)
    active = (near < far).nonzero().squeeze(1)
    local, near, far = local[:, active], near[active], far[active]
    z = _first_crossing(local, near, far, wave)
    hit = z > 0
    index, z, local = active[hit], z[hit], local[:, hit]
    depth[index] = z
    s[index] = local[0] * z + wave.eye[0]
    t[index] = local[1] * z + wave.eye[1]
    surface[index] = number


def _slab(local: Tensor, wave: Wave) -> tuple[Tensor, Tensor]:
    """Depths (P,) where rays enter and leave the block |s| <= 1, |t| <= 1, |height| <= top."""
    half = local.new_tensor([1.0, 1.0, wave.top])[:, None]
    slope = torch.where(local.abs() > SINGULAR, local, SINGULAR)
    a, b = (-half - wave.eye[:, None]) / slope, (half - wave.eye[:, None]) / slope
    return torch.minimum(a, b).amax(0).clamp_min(0.0), torch.maximum(a, b).amin(0)


@dataclass(frozen=True)
class _Rays:
    """P rays over a height field; at depth z they are ``rise z + eye - sum_k a_k sin(turn_k z + start_k)`` above it."""

    turn: Tensor
    """(K, P): each wave's phase is affine in z."""
    start: Tensor
    """(K, 1)."""
    rise: Tensor
    """(P,)."""
    eye: Tensor
    amplitude: Tensor
    """(K,)."""

    def above(self, z: Tensor) -> Tensor:
        """Height above the field at depth z (P,)."""
        return self.rise * z + self.eye - self.amplitude @ torch.sin(torch.addcmul(self.start, self.turn, z))

    def slope(self, z: Tensor) -> Tensor:
        """Derivative of `above` by z."""
        return self.rise - self.amplitude @ (torch.cos(torch.addcmul(self.start, self.turn, z)) * self.turn)

    def pick(self, index: Tensor) -> _Rays:
        """Some of the rays."""
        return _Rays(self.turn[:, index], self.start, self.rise[index], self.eye, self.amplitude)


def _first_crossing(local: Tensor, near: Tensor, far: Tensor, wave: Wave) -> Tensor:
    """Return the depth (P,) at which rays first cross the height field between `near` and `far`, 0 where none does."""
    p, q, phase, amplitude = (column[:, None] for column in wave.waves.T)
    start = p * wave.eye[0] + q * wave.eye[1] + phase
    rays = _Rays(p * local[0] + q * local[1], start, local[2], wave.eye[2], amplitude[:, 0])
    low, high = _bracket(rays, near, far)
    found = (high > 0).nonzero().squeeze(1)
    rays, low, high = rays.pick(found), low[found], high[found]
    value_low, value_high = rays.above(low), rays.above(high)
    z = low + (high - low) * (value_low / (value_low - value_high)).nan_to_num(0.5)
    for _ in range(NEWTON_STEPS):
        slope = rays.slope(z)
        z = z - rays.above(z) / torch.where(slope.abs() > SINGULAR, slope, SINGULAR)
        z = torch.minimum(torch.maximum(z, low), high)
    return torch.zeros_like(near).index_put((found,), z)


def _bracket(rays: _Rays, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """March; return depths (P,) just before and behind the first crossing from above, both 0 where there is none."""
    step = torch.minimum(MARCH_PHASE / rays.turn.abs().amax(0), far - near)
    step = torch.maximum(step, (far - near) / MARCH_STEPS)
    going = rays.above(near) >= 0
    low, high = torch.zeros_like(near), torch.zeros_like(near)
    index = torch.arange(len(near), device=near.device)
    for i in range(1, MARCH_STEPS + 1):
        z = torch.minimum(near + i * step, far)
        crossed = going & (rays.above(z) < 0)
        where = index[crossed]
        low[where], high[where] = near[crossed] + (i - 1) * step[crossed], z[crossed]
        going = going & ~crossed & (z < far)
        if i % COMPACT_EVERY == 0:
            keep = going.nonzero().squeeze(1)
            if not len(keep):
                break
            rays, near, far, step = rays.pick(keep), near[keep], far[keep], step[keep]
            index, going = index[keep], going[keep]
    return low, high
