"""Which photographs share a camera, and the intrinsics from which COLMAP's mapper starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from s2ld.sfm.mapping.colmap import load_pycolmap

MODEL = "SIMPLE_RADIAL"
"""COLMAP's default: one focal length, the principal point in the middle, one coefficient of distortion."""
FOCAL_FACTOR = 1.2
"""COLMAP's guess of a focal length that EXIF does not tell, in longer sides of the image."""


class Photographed(Protocol):
    """What a photograph tells of its camera (`s2ld.sfm.photos.usable.Photo`)."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px."""

    @property
    def focal(self) -> float | None:
        """Focal length by EXIF, px; None where it does not tell."""

    @property
    def camera(self) -> str:
        """Equal for photographs of one camera; "" is unknown."""


@dataclass(frozen=True)
class CameraGroup:
    """Photographs that share a camera."""

    members: Sequence[int]
    """Indices of the photographs, ascending."""
    size: tuple[int, int]
    """Width and height, px."""
    focal: float | None
    """px by EXIF; None where it does not tell."""


def group_cameras(photos: Sequence[Photographed], shared: bool = True) -> list[CameraGroup]:
    """Group photographs of one size and one camera by EXIF (none told counts as one), in order of the first member.

    Args:
        photos: of one folder.
        shared: false gives each photograph a camera of its own, as zoom lenses and crops without EXIF need.
    """
    groups: dict[object, list[int]] = {}
    for index, photo in enumerate(photos):
        groups.setdefault((photo.size, photo.camera) if shared else index, []).append(index)
    return [CameraGroup(group, photos[group[0]].size, photos[group[0]].focal) for group in groups.values()]


def colmap_camera(group: CameraGroup, camera_id: int, model: str = MODEL) -> Any:
    """Return the `pycolmap.Camera` of a group; raises `S2LDError` without pycolmap."""
    pycolmap = load_pycolmap()
    focal = group.focal or FOCAL_FACTOR * max(group.size)
    camera = pycolmap.Camera.create_from_model_name(camera_id, model, focal, *group.size)
    camera.has_prior_focal_length = group.focal is not None
    return camera
