"""Batched ray casting of views: textured images by mip-mapped look-up, and the exact depth of the pixel centres."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from s2ld.data.images.textures import TextureBank
from s2ld.data.synthetic.cast import Geometry, Grid, Hits, cast, prepare
from s2ld.data.synthetic.scene import Array, Camera, Scene
from s2ld.errors import S2LDError
from s2ld.types import Movable

SKY_BLUR = 2.0  # mip levels by which the sky is smoother than the texture that it comes from
MEBIBYTE = 2**20
CPU_BLOCK = 16384  # rays
CHANNELS = 4  # RGB and one unused: a texel is fetched as one 32-bit word


class Atlas:
    """Mip pyramids of textures in one buffer; the least recently used one leaves when it is full.

    Args:
        bank: where textures come from.
        side: texels of the finest level, a power of two; a texture is squeezed into a square.
        megabytes: size of the buffer; a pyramid of 512 texels takes 1.4 MB. Memory is touched only as it fills.
        device: where rendering happens.

    Raises:
        S2LDError: `side` is no power of two.
    """

    def __init__(self, bank: TextureBank, side: int, megabytes: float, device: torch.device | str = "cpu") -> None:
        if side < 2 or side & (side - 1):
            raise S2LDError(f"DATA.SYNTHETIC.TEXTURE_SIDE {side}: must be a power of two, such as 512")
        self.bank = bank
        self.side = side
        self.device = torch.device(device)
        self.levels = side.bit_length()
        sizes = [(side >> level) ** 2 for level in range(self.levels)]
        self.offsets = torch.tensor([sum(sizes[:i]) for i in range(self.levels)], device=self.device)
        self.length = sum(sizes)
        self._capacity = min(len(bank), max(1, int(megabytes * MEBIBYTE / (CHANNELS * self.length))))
        self._buffer = torch.empty(0, dtype=torch.int32, device=self.device)
        self._slots: OrderedDict[int, int] = OrderedDict()

    def place(self, textures: Sequence[int]) -> dict[int, int]:
        """Return the slot of each of `textures`, loading what is missing.

        Raises:
            S2LDError: one batch needs more textures than the buffer holds.
        """
        wanted = dict.fromkeys(textures)
        if len(wanted) > self._capacity:
            raise S2LDError(
                f"DATA.SYNTHETIC.TEXTURE_CACHE: {len(wanted)} textures in a batch, room for {self._capacity}; raise it"
            )
        if not self._buffer.numel():
            self._buffer = torch.empty(self._capacity * self.length, dtype=torch.int32, device=self.device)
        for texture in wanted:
            if texture in self._slots:
                self._slots.move_to_end(texture)
        for texture in wanted:
            if texture not in self._slots:
                pyramid = self._pyramid(texture)
                full = len(self._slots) >= self._capacity
                slot = self._slots.popitem(last=False)[1] if full else len(self._slots)
                self._buffer[slot * self.length : (slot + 1) * self.length] = pyramid.to(self.device)
                self._slots[texture] = slot
        return {texture: self._slots[texture] for texture in wanted}

    def _pyramid(self, texture: int) -> Tensor:
        image = self.bank.get(texture)
        shrinks = min(image.shape[:2]) > self.side
        level = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        level = cv2.cvtColor(level, cv2.COLOR_RGB2RGBA)
        parts = [level.reshape(-1, CHANNELS)]
        for index in range(1, self.levels):
            level = cv2.resize(level, (self.side >> index,) * 2, interpolation=cv2.INTER_AREA)
            parts.append(level.reshape(-1, CHANNELS))
        return torch.from_numpy(np.concatenate(parts)).view(torch.int32).squeeze(1)

    def texels(self, index: Tensor) -> Tensor:
        """Return (P, 4) float32 texels at `index` (P,) of the buffer, in [0, 255]."""
        words: Tensor = self._buffer.index_select(0, index)
        return words.view(torch.uint8).view(-1, CHANNELS).float()


@dataclass(frozen=True)
class Rendered(Movable):
    """N views."""

    image: Tensor
    """(N, H, W, 3) uint8 RGB."""
    depth: Tensor
    """(N, H, W) float32 z of the pixel centres, 0 where nothing is met."""


def pixel_grid(size: tuple[int, int], rays: float, device: torch.device | str = "cpu") -> Grid:
    """Rays over an image of `size` (width, height): `rays` a pixel and axis (below 1: coarser than pixels)."""
    width, height = (max(1, round(side * rays)) for side in size)
    steps = size[0] / width, size[1] / height
    x = (torch.arange(width, device=device) + 0.5) * steps[0] - 0.5
    y = (torch.arange(height, device=device) + 0.5) * steps[1] - 0.5
    return Grid(x[None, None, :], y[None, :, None], steps)


def render_views(
    scenes: Sequence[Scene], cameras: Sequence[Camera], atlas: Atlas, size: tuple[int, int], supersample: int
) -> Rendered:
    """Render N scenes by N cameras on the atlas's device.

    Args:
        scenes: N scenes (repeat one to see it from several cameras).
        cameras: N cameras, intrinsics for `size`.
        atlas: textures.
        size: (width, height) px.
        supersample: rays a pixel and axis; depth always belongs to the pixel centre.
    """
    geometry = prepare(scenes, cameras, atlas.device)
    hits = cast(geometry, pixel_grid(size, supersample, atlas.device))
    colour = _colour(hits, _skin_table(scenes, cameras, geometry, atlas, supersample), atlas)
    if supersample == 1:
        return Rendered(colour.round().to(torch.uint8), hits.depth)
    n, width, height = len(scenes), *size
    pooled = colour.view(n, height, supersample, width, supersample, 3).mean((2, 4))
    return Rendered(pooled.round().to(torch.uint8), cast(geometry, pixel_grid(size, 1, atlas.device)).depth)


def _skin_table(
    scenes: Sequence[Scene], cameras: Sequence[Camera], geometry: Geometry, atlas: Atlas, supersample: int
) -> Tensor:
    """(7, N (Q + 2)) rows: scale of s, of t, origin x, y (texture sides), mip level at z = 1, shade, slot."""
    slots = atlas.place([int(texture) for scene in scenes for texture in scene.skins.texture])
    table = np.zeros((len(scenes), geometry.quads + 2, 7))
    for n, (scene, camera) in enumerate(zip(scenes, cameras, strict=True)):
        number = len(scene.quads)
        rows = [*range(number), geometry.quads, geometry.quads + 1]
        table[n, rows] = _scene_skins(scene, camera, slots, atlas.side / supersample)
    return torch.from_numpy(table.reshape(-1, 7).T.copy()).float().to(atlas.device)


def _scene_skins(scene: Scene, camera: Camera, slots: dict[int, int], side: float) -> Array:
    """(Q + 2, 7) columns as in `_skin_table`.

    A pixel sees the area ``z^3 / (f^2 d)`` of a plane at distance d from the camera (z is 1 for the sky); the mip
    level is the binary logarithm of that area's root in texels.
    """
    skins, quads = scene.skins, scene.quads
    eye = -camera.pose[:3, :3].T @ camera.pose[:3, 3]
    normals = np.cross(quads.u, quads.v)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    distance = [*np.abs(((eye - quads.centre) * normals).sum(1)), 1.0, 1.0]
    lengths = np.ones((len(quads) + 2, 2))
    lengths[: len(quads)] = np.stack([np.linalg.norm(quads.u, axis=1), np.linalg.norm(quads.v, axis=1)], 1)
    if scene.relief is not None:
        distance[-2] = abs((eye - scene.relief.centre) @ scene.relief.normal)
        lengths[-2] = np.linalg.norm(scene.relief.u), np.linalg.norm(scene.relief.v)
    level = np.log2(side / (skins.span * camera.K[0, 0])) - 0.5 * np.log2(np.maximum(distance, 1e-6))
    level[-1] += SKY_BLUR
    scale = lengths / skins.span[:, None]
    slot = [slots[int(texture)] for texture in skins.texture]
    return np.column_stack([scale, skins.origin, level, skins.shade, slot])


def _colour(hits: Hits, table: Tensor, atlas: Atlas) -> Tensor:
    """(N, h, w, 3) float32 in [0, 255]; on a CPU in blocks of rays whose intermediate values stay in its cache."""
    views = hits.surface.shape[0]
    first = torch.arange(views, device=table.device)[:, None, None] * (table.shape[1] // views)
    rays = torch.stack([hits.s, hits.t, hits.depth]).flatten(1)
    rows = (hits.surface + first).flatten()
    block = CPU_BLOCK if atlas.device.type == "cpu" else len(rows)
    parts = zip(torch.split(rays, block, 1), torch.split(rows, block), strict=True)
    return torch.cat([_look_up(ray, table.index_select(1, row), atlas) for ray, row in parts]).view(*hits.s.shape, 3)


def _look_up(rays: Tensor, skins: Tensor, atlas: Atlas) -> Tensor:
    """(P, 3) colour of hits (3, P) s, t, depth with skins (7, P): bilinear in the nearest mip level."""
    s, t, z = rays
    scale_s, scale_t, origin_x, origin_y, level, shade, slot = skins
    level = level + 1.5 * torch.log2(torch.where(z > 0, z, 1.0))
    index = level.round().clamp_(0, atlas.levels - 1)
    side = torch.exp2(atlas.levels - 1 - index)
    x0, x1, fx = _taps(torch.addcmul(origin_x, s, scale_s), side)
    y0, y1, fy = _taps(torch.addcmul(origin_y, t, scale_t), side)
    base = slot.long() * atlas.length + atlas.offsets[index.long()]
    width = side.long()
    row0, row1 = base + y0 * width, base + y1 * width
    top = torch.lerp(atlas.texels(row0 + x0), atlas.texels(row0 + x1), fx)
    bottom = torch.lerp(atlas.texels(row1 + x0), atlas.texels(row1 + x1), fx)
    colour: Tensor = torch.lerp(top, bottom, fy) * shade[:, None]
    return colour[:, :3].clamp_(max=255.0)


def _taps(position: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both texels next to `position` (sides, mirrored beyond [0, 1]) and the second one's weight (P, 1)."""
    mirrored = 1.0 - (torch.remainder(position, 2.0) - 1.0).abs()
    at = (mirrored * side - 0.5).clamp_min_(0.0)
    first = torch.minimum(at.floor(), side - 1.0)
    second = torch.minimum(first + 1.0, side - 1.0)
    return first.long(), second.long(), (at - first)[:, None]
