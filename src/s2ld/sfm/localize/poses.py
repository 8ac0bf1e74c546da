"""Poses of photographs as files: JSON, and COLMAP's text form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from s2ld.files import whole_file
from s2ld.sfm.localize.localizer import Localised
from s2ld.sfm.mapping.colmap import load_pycolmap

POSES, CAMERAS, IMAGES = "poses.json", "cameras.txt", "images.txt"


def write_poses(found: Sequence[Localised], folder: Path) -> None:
    """Write `folder`/poses.json, and the posed photographs of model N as COLMAP's N/cameras.txt and N/images.txt.

    Raises:
        OSError: a file cannot be written.
    """
    with whole_file(folder / POSES) as part:
        part.write_text(json.dumps({one.photo.name: _content(one) for one in found}, indent=1) + "\n")
    for model in sorted({one.model for one in found if one.pose is not None}):
        posed = [one for one in found if one.pose is not None and one.model == model]
        place = folder / str(model)
        place.mkdir(exist_ok=True)
        with whole_file(place / CAMERAS) as part:
            part.write_text("# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n" + "".join(map(_camera, posed, _ids(posed))))
        with whole_file(place / IMAGES) as part:
            head = "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n# POINTS2D[] as (X, Y, POINT3D_ID)\n"
            part.write_text(head + "".join(map(_image, posed, _ids(posed))))


def _ids(posed: Sequence[Localised]) -> range:
    return range(1, len(posed) + 1)


def _content(one: Localised) -> dict[str, object]:
    told: dict[str, object] = {
        "localised": one.pose is not None,
        "inliers": one.inliers,
        "points": len(one.sightings.points),
        "matched_with": list(one.references),
    }
    if one.pose is None:
        return told
    camera = one.pose.camera
    return told | {
        "model": one.model,
        "cam_from_world": one.pose.matrix.tolist(),
        "centre": (-one.pose.matrix[:3, :3].T @ one.pose.matrix[:3, 3]).tolist(),
        "camera": {
            "model": camera.model_name,
            "width": camera.width,
            "height": camera.height,
            "params": [float(value) for value in camera.params],
        },
    }


def _camera(one: Localised, number: int) -> str:
    camera = one.pose.camera  # type: ignore[union-attr]
    params = " ".join(f"{value:.17g}" for value in camera.params)
    return f"{number} {camera.model_name} {camera.width} {camera.height} {params}\n"


def _image(one: Localised, number: int) -> str:
    pose = one.pose
    assert pose is not None
    x, y, z, w = load_pycolmap().Rotation3d(pose.matrix[:3, :3]).quat
    values = " ".join(f"{value:.17g}" for value in (w, x, y, z, *pose.matrix[:3, 3]))
    kept = np.flatnonzero(pose.inliers)
    rows = zip(one.sightings.points[kept] + 0.5, one.sightings.numbers[kept], strict=True)  # as COLMAP counts px
    points = " ".join(f"{u:.3f} {v:.3f} {point}" for (u, v), point in rows)
    return f"{number} {values} {number} {one.photo.name}\n{points}\n"
