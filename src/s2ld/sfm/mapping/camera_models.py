"""COLMAP's cameras: which models there are, and how many parameters each has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2ld.errors import S2LDError
from s2ld.sfm.mapping.colmap import load_pycolmap

CAMERA_MODELS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
    "SIMPLE_DIVISION": 4,
    "DIVISION": 5,
    "SIMPLE_FISHEYE": 3,
    "FISHEYE": 4,
    "EUCM": 6,
    "EQUIRECTANGULAR": 2,
}
"""Parameters of each camera model; its place is its number in binary files. pycolmap is asked for later ones."""


@dataclass(frozen=True)
class ColmapCamera:
    """A camera, pixel centres at halves as COLMAP counts."""

    model: str
    """One of `CAMERA_MODELS`, or a later one of pycolmap."""
    size: tuple[int, int]
    """Width and height, px."""
    params: tuple[float, ...]


def as_pycolmap(camera: ColmapCamera) -> Any:
    """Return the `pycolmap.Camera`; raises `S2LDError` without pycolmap."""
    width, height = camera.size
    return load_pycolmap().Camera(model=camera.model, width=width, height=height, params=list(camera.params))


def later_name(path: Path, number: int) -> str:
    """Return the name of a camera model, by its number, that is not among `CAMERA_MODELS`.

    Args:
        path: of the file that tells it, for errors.
        number: of the model.

    Raises:
        S2LDError: pycolmap does not know it.
    """
    members = load_pycolmap().CameraModelId.__members__
    known: dict[int, str] = {int(value): name for name, value in members.items() if name != "INVALID"}
    if number not in known:
        raise _unknown(path, f"number {number}")
    return known[number]


def parameter_count(path: Path, name: str) -> int:
    """Return how many parameters a camera model has; the rest is `later_name`'s."""
    if name in CAMERA_MODELS:
        return CAMERA_MODELS[name]
    pycolmap = load_pycolmap()
    if name == "INVALID" or name not in pycolmap.CameraModelId.__members__:
        raise _unknown(path, name)
    return len(pycolmap.Camera.create_from_model_name(1, name, 1.0, 1, 1).params)


def _unknown(path: Path, model: str) -> S2LDError:
    version = load_pycolmap().__version__
    return S2LDError(
        f"{path}: a camera of model {model[:40]}, which pycolmap {version} does not know; it is damaged, or pycolmap "
        "too old: export the model anew, or pip install --upgrade pycolmap"
    )
