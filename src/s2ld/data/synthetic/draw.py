"""Random scenes: a base (ground, wall seen from the front, or a room) with boxes on it and free planes before it.

The first camera looks along +z from about the origin, so that everything is placed by its distance z from there:
sizes grow with z and every camera starts in free space.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from s2ld.config import CN
from s2ld.data.synthetic.scene import Array, Quads, Relief, Scene, Skins

NEAREST, FARTHEST = 2.0, 9.0  # scene units: distances z at which boxes and free planes stand
SPREAD = 0.5  # tangent: how far from the axis they stand
WAVES = 4  # of a height field
WAVE_LENGTHS = (1.5, 6.0)  # scene units
AMBIENT, BRIGHTEST = 0.7, 1.1  # brightness of a surface that faces away from the light, and towards it

Rng = np.random.Generator


@dataclass(frozen=True)
class _Base:
    """The surface that boxes stand on."""

    kind: str
    centre: Array
    u: Array
    v: Array
    normal: Array
    """Unit, along u x v, towards the cameras."""
    clearance: float
    """Distance of the first camera."""


@dataclass
class _Builder:
    """Collects surfaces; `textures` is the number of textures to draw from."""

    rng: Rng
    textures: int
    light: Array
    corners: list[tuple[Array, Array, Array, bool]] = field(default_factory=list)
    skins: list[tuple[int, float, Array, float]] = field(default_factory=list)

    def skin(
        self, span: float, normal: Array | None = None, texture: int | None = None
    ) -> tuple[int, float, Array, float]:
        """Draw a skin; `normal` is shaded by the light, a given `texture` is kept."""
        chosen = int(self.rng.integers(self.textures)) if texture is None else texture
        facing = 1.0 if normal is None else max(0.0, float(normal @ self.light))
        return chosen, span, self.rng.uniform(0.0, 2.0, 2), AMBIENT + (BRIGHTEST - AMBIENT) * facing

    def quad(
        self, centre: Array, u: Array, v: Array, span: float, texture: int | None = None, disc: bool = False
    ) -> None:
        """Add a flat patch, its light side where ``u × v`` points."""
        normal = np.cross(u, v)
        self.corners.append((centre, u, v, disc))
        self.skins.append(self.skin(span, normal / np.linalg.norm(normal), texture))

    def box(self, centre: Array, axes: Array, span: float, inside: bool = False) -> None:
        """Add six faces; rows of `axes` are half edges. From outside one texture, from inside (a room) one a face."""
        texture = None if inside else int(self.rng.integers(self.textures))
        for axis in range(3):
            a, b, c = axes[axis], axes[axis - 2], axes[axis - 1]
            for sign in (-1.0, 1.0):
                outward = sign * (-1.0 if inside else 1.0)
                self.quad(centre + sign * a, outward * b, c, span, texture)


def draw_scene(config: CN, textures: int, rng: Rng) -> Scene:
    """Draw a scene.

    Args:
        config: the DATA.SYNTHETIC node.
        textures: number of textures in the bank.
        rng: source of all randomness.
    """
    light = rng.normal(size=3) * (1.0, 0.3, 0.7) + (0.0, -1.0, -0.7)
    builder = _Builder(rng, textures, light / np.linalg.norm(light))
    uneven = rng.random() < config.HEIGHT_FIELDS
    base = _draw_base(str(rng.choice(["ground", "wall"] if uneven else ["ground", "wall", "room"])), rng)
    relief = _draw_relief(base, rng) if uneven else None
    _add_background(builder, base, relief is None)
    for _ in range(int(rng.integers(config.BOXES[0], config.BOXES[1] + 1))):
        _add_box(builder, base, relief.top if relief else 0.0)
    for _ in range(int(rng.integers(config.PLANES[0], config.PLANES[1] + 1))):
        _add_plane(builder)
    builder.skins.append(builder.skin(rng.uniform(4.0, 10.0), base.normal))  # relief
    builder.skins.append(builder.skin(rng.uniform(1.0, 3.0)))  # sky
    return _finish(builder, relief)


def _finish(builder: _Builder, relief: Relief | None) -> Scene:
    centre, u, v, disc = zip(*builder.corners, strict=True) if builder.corners else ((), (), (), ())
    stacked = [np.array(part, np.float64).reshape(-1, 3) for part in (centre, u, v)]
    texture, span, origin, shade = zip(*builder.skins, strict=True)
    skins = Skins(np.array(texture, np.int64), np.array(span), np.stack(origin), np.array(shade))
    return Scene(Quads(stacked[0], stacked[1], stacked[2], np.array(disc, bool)), relief, skins)


def _rotation(vector: Array) -> Array:
    """Rotation matrix of a rotation vector (radians)."""
    return np.asarray(cv2.Rodrigues(vector)[0], np.float64)


def _draw_base(kind: str, rng: Rng) -> _Base:
    if kind == "wall":
        distance = rng.uniform(5.0, 9.0)
        turn = _rotation(np.radians(rng.uniform(-30.0, 30.0, 3)) * (1.0, 1.0, 0.5))
        u, v = -14.0 * turn[:, 0], 14.0 * turn[:, 1]
        return _Base(kind, np.array([0.0, 0.0, distance]), u, v, -turn[:, 2], distance)
    height = rng.uniform(1.2, 2.5)
    u, v = np.array([14.0, 0.0, 0.0]), np.array([0.0, 0.0, 14.0])
    return _Base(kind, np.array([0.0, height, 8.0]), u, v, np.array([0.0, -1.0, 0.0]), height)


def _draw_relief(base: _Base, rng: Rng) -> Relief:
    lengths = np.exp(rng.uniform(np.log(WAVE_LENGTHS[0]), np.log(WAVE_LENGTHS[1]), WAVES))
    angles, phases = rng.uniform(0.0, 2.0 * np.pi, (2, WAVES))
    amplitudes = lengths * rng.uniform(0.3, 1.0, WAVES)
    amplitudes *= rng.uniform(0.08, 0.2) * base.clearance / amplitudes.sum()
    p = 2.0 * np.pi * np.linalg.norm(base.u) * np.cos(angles) / lengths
    q = 2.0 * np.pi * np.linalg.norm(base.v) * np.sin(angles) / lengths
    return Relief(base.centre, base.u, base.v, base.normal, np.stack([p, q, phases, amplitudes], 1))


def _add_background(builder: _Builder, base: _Base, flat: bool) -> None:
    """Add the base if it is flat, and what stands behind it."""
    rng = builder.rng
    if base.kind == "room":
        half = np.array([rng.uniform(3.0, 5.0), rng.uniform(1.6, 2.2), rng.uniform(5.0, 7.0)])
        centre = np.array([0.0, base.clearance - half[1], half[2] - 2.5])
        builder.box(centre, np.diag(half), rng.uniform(3.0, 7.0), inside=True)
        return
    if flat:
        builder.quad(base.centre, base.u, base.v, rng.uniform(4.0, 10.0))
    if base.kind == "ground":
        distance, height = rng.uniform(9.0, 18.0), rng.uniform(3.0, 8.0)
        turn = _rotation(np.array([0.0, np.radians(rng.uniform(-35.0, 35.0)), 0.0]))
        centre = np.array([0.0, base.clearance - height + 0.5, distance])
        builder.quad(centre, -16.0 * turn[:, 0], height * turn[:, 1], rng.uniform(6.0, 14.0))


def _draw_place(rng: Rng) -> Array:
    """A point before the first camera, uniform over the view, (3,)."""
    z = rng.uniform(NEAREST, FARTHEST)
    return np.array([*(rng.uniform(-SPREAD, SPREAD, 2) * z * (1.0, 0.7)), z])


def _add_box(builder: _Builder, base: _Base, sink: float) -> None:
    """Add a box that stands on the base, sunk by `sink` so that uneven ground leaves no gap, or one that floats."""
    rng = builder.rng
    place = _draw_place(rng)
    size = place[2] * rng.uniform(0.04, 0.16, 3)
    if rng.random() < 0.3:
        axes = _rotation(rng.normal(size=3)).T * size[:, None]
    else:
        u, v = base.u / np.linalg.norm(base.u), base.v / np.linalg.norm(base.v)
        angle = rng.uniform(0.0, 0.5 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        place = place - ((place - base.centre) @ base.normal) * base.normal
        height = size[2] * rng.uniform(0.7, 2.0) + 0.5 * sink
        axes = np.stack([size[0] * (cos * u + sin * v), size[1] * (cos * v - sin * u), height * base.normal])
        place = place + (height - sink) * base.normal
    if np.linalg.det(axes) < 0:
        axes = axes[[1, 0, 2]]
    builder.box(place, axes, float(size.max()) * rng.uniform(1.5, 3.0))


def _add_plane(builder: _Builder) -> None:
    """Add a free rectangle or disc that faces the first camera within about 60 degrees."""
    rng = builder.rng
    place = _draw_place(rng)
    half = place[2] * rng.uniform(0.08, 0.3, 2)
    turn = _rotation(np.radians(rng.uniform(-60.0, 60.0, 3)) * (0.6, 1.0, 0.5))
    span = 2.0 * float(half.max()) * rng.uniform(0.6, 1.2)
    builder.quad(place, -half[0] * turn[:, 0], half[1] * turn[:, 1], span, disc=bool(rng.random() < 0.25))
