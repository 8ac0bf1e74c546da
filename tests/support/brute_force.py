"""A slow, obvious ray caster in float64 that shares nothing with the package's: triangles and dense scanning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s2ld.data.synthetic.scene import Camera, Relief, Scene

Array = NDArray[np.float64]
SCAN = np.linspace(1e-3, 45.0, 4500)  # depths at which a ray is held against a height field
HALVINGS = 60


def world_rays(camera: Camera, pixels: Array) -> tuple[Array, Array]:
    """The camera centre (3,), and directions (P, 3) whose z in the camera is one."""
    turn, shift = camera.pose[:3, :3], camera.pose[:3, 3]
    ones = np.ones((len(pixels), 1))
    return -turn.T @ shift, np.hstack([pixels, ones]) @ np.linalg.inv(camera.K).T @ turn


def hit_triangle(eye: Array, rays: Array, a: Array, b: Array, c: Array) -> Array:
    """Moeller and Trumbore: depth (P,) at which rays hit the front of a triangle, infinite where they do not."""
    edge0, edge1 = b - a, c - a
    across = np.cross(rays, edge1)
    volume = across @ edge0
    front = volume > 1e-14
    inverse = 1.0 / np.where(front, volume, 1.0)
    from_corner = eye - a
    u = (across @ from_corner) * inverse
    around = np.cross(from_corner, edge0)
    v = (rays @ around) * inverse
    z = (edge1 @ around) * inverse
    return np.where(front & (u >= 0) & (v >= 0) & (u + v <= 1) & (z > 0), z, np.inf)


def hit_quad(eye: Array, rays: Array, centre: Array, u: Array, v: Array, disc: bool) -> Array:
    corners = [centre - u - v, centre + u - v, centre + u + v, centre - u + v]
    z = np.minimum(
        hit_triangle(eye, rays, corners[0], corners[1], corners[2]),
        hit_triangle(eye, rays, corners[0], corners[2], corners[3]),
    )
    if not disc:
        return z
    found = np.isfinite(z)
    offset = eye + rays * np.where(found, z, 0.0)[:, None] - centre
    radius = (offset @ u / (u @ u)) ** 2 + (offset @ v / (v @ v)) ** 2
    return np.where(found & (radius <= 1.0), z, np.inf)


def hit_relief(eye: Array, rays: Array, relief: Relief) -> Array:
    def above(ray: Array, z: Array) -> Array:
        offset = eye + z[:, None] * ray - relief.centre
        s, t = offset @ relief.u / (relief.u @ relief.u), offset @ relief.v / (relief.v @ relief.v)
        height = np.zeros_like(s)
        for p, q, r, a in relief.waves:
            height += a * np.sin(p * s + q * t + r)
        outside = (np.abs(s) > 1) | (np.abs(t) > 1)
        return np.where(outside, np.nan, offset @ relief.normal - height)

    depths = np.full(len(rays), np.inf)
    for i, ray in enumerate(rays):
        values = above(ray, SCAN)
        crossings = np.flatnonzero((values[:-1] >= 0) & (values[1:] < 0))
        if len(crossings):
            low, high = SCAN[crossings[0]], SCAN[crossings[0] + 1]
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                low, high = (middle, high) if above(ray, np.array([middle]))[0] >= 0 else (low, middle)
            depths[i] = low
    return depths


def brute_force_depth(scene: Scene, camera: Camera, pixels: Array) -> Array:
    """Depth (P,) at `pixels` (P, 2), 0 where nothing is met."""
    eye, rays = world_rays(camera, pixels)
    nearest = np.full(len(pixels), np.inf)
    quads = scene.quads
    for centre, u, v, disc in zip(quads.centre, quads.u, quads.v, quads.round, strict=True):
        nearest = np.minimum(nearest, hit_quad(eye, rays, centre, u, v, bool(disc)))
    if scene.relief is not None:
        nearest = np.minimum(nearest, hit_relief(eye, rays, scene.relief))
    return np.where(np.isfinite(nearest), nearest, 0.0)
