"""What a synthetic scene consists of: quads, at most one height field, how each surface is textured; and a camera.

World frame: x right, y down, z forward, in the unit of the scene. All arrays are float64 numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quads:
    """Q flat patches, points ``centre + s u + t v``, seen only from the side to which u x v points; a box is six."""

    centre: Array
    """(Q, 3)."""
    u: Array
    """(Q, 3) half edge: s runs over [-1, 1]."""
    v: Array
    """(Q, 3) the other half edge, orthogonal to u."""
    round: NDArray[np.bool_]
    """(Q,) true: the ellipse s² + t² <= 1 instead of the whole rectangle."""

    def __len__(self) -> int:
        return len(self.centre)


@dataclass(frozen=True)
class Relief:
    """A height field over a rectangle: points ``centre + s u + t v + h(s, t) normal``, s and t in [-1, 1].

    ``h(s, t) = sum_k a_k sin(p_k s + q_k t + r_k)``: smooth and in closed form, so that its depth is exact.
    """

    centre: Array
    """(3,)."""
    u: Array
    """(3,) half edge."""
    v: Array
    """(3,) half edge, orthogonal to u."""
    normal: Array
    """(3,) unit, along u x v; the relief is seen only from this side."""
    waves: Array
    """(K, 4) rows (p, q, r, a), a in scene units."""

    @property
    def top(self) -> float:
        """Bound of |h|, scene units."""
        return float(np.abs(self.waves[:, 3]).sum())

    def height(self, s: Array, t: Array) -> Array:
        """Return h at `s`, `t` (any one shape), scene units."""
        p, q, r, a = (column.reshape(-1, *[1] * np.ndim(s)) for column in self.waves.T)
        return np.asarray((a * np.sin(p * s + q * t + r)).sum(0))


@dataclass(frozen=True)
class Skins:
    """How Q + 2 surfaces are textured: the quads, the relief (unused where there is none), the sky."""

    texture: NDArray[np.int64]
    """(Q + 2,) index in the texture bank."""
    span: Array
    """(Q + 2,) scene units (sky: radians) that one side of the texture covers; beyond, it is mirrored."""
    origin: Array
    """(Q + 2, 2) where s = t = 0 lies in the texture, in sides."""
    shade: Array
    """(Q + 2,) factor of the texture's brightness."""


@dataclass(frozen=True)
class Scene:
    """One scene; a ray that meets no surface sees the sky, whose depth is unknown (0)."""

    quads: Quads
    relief: Relief | None
    skins: Skins


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion."""

    K: Array
    """(3, 3) intrinsics in px, pixel centres at integers."""
    pose: Array
    """(4, 4) world to camera."""


def pinhole(fov: float, size: tuple[int, int]) -> Array:
    """Return (3, 3) intrinsics of square pixels, horizontal field of view `fov` degrees, `size` (width, height)."""
    width, height = size
    focal = 0.5 * width / np.tan(0.5 * np.radians(fov))
    return np.array([[focal, 0.0, 0.5 * (width - 1)], [0.0, focal, 0.5 * (height - 1)], [0.0, 0.0, 1.0]])
