"""All cameras of the installed pycolmap are read, and undistorted where that can be."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.sfm.dataset.undistort import _pinhole
from s2ld.sfm.mapping import read_model as reading
from s2ld.sfm.mapping.camera_models import CAMERA_MODELS, as_pycolmap
from s2ld.sfm.mapping.read_model import read_model

pycolmap = pytest.importorskip("pycolmap")
NAMES = [name for name in pycolmap.CameraModelId.__members__ if name != "INVALID"]


def write(folder: Path, name: str) -> None:
    """Write a model of one kind of camera, binary and text."""
    camera = pycolmap.Camera.create_from_model_name(1, name, 500.0, 800, 600)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 1, 1, 2, 20
    options.camera_model_id = getattr(pycolmap.CameraModelId, name)
    options.camera_width, options.camera_height, options.camera_params = 800, 600, list(camera.params)
    made = pycolmap.synthesize_dataset(options)
    for kind in ("binary", "text"):
        (folder / kind).mkdir()
        getattr(made, f"write_{kind}")(folder / kind)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_camera_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: bool) -> None:
    write(tmp_path, name)
    if not known:  # as one that comes after this version
        monkeypatch.setattr(
            "s2ld.sfm.mapping.camera_models.CAMERA_MODELS", {k: v for k, v in CAMERA_MODELS.items() if k != name}
        )
        monkeypatch.setattr(reading, "CAMERA_MODELS", {})
    expected = pycolmap.Camera.create_from_model_name(1, name, 500.0, 800, 600)
    for kind in ("binary", "text"):
        (camera,) = read_model(tmp_path / kind).cameras.values()
        assert (camera.model, camera.size) == (name, (800, 600))
        assert np.allclose(camera.params, expected.params)
        assert as_pycolmap(camera).model == expected.model


@pytest.mark.parametrize("name", NAMES)
def test_every_camera_is_undistorted_or_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    (camera,) = read_model(tmp_path / "binary").cameras.values()
    if not pycolmap.Camera.create_from_model_name(1, name, 500.0, 800, 600).is_perspective():
        with pytest.raises(S2LDError, match=f"a {name} camera of parameters 800, 600 cannot be undistorted") as refused:
            _pinhole(camera, 400)
        assert "\n" not in str(refused.value)
        return
    flat = _pinhole(camera, 400)
    assert np.isfinite(flat.sources).all()
    assert (flat.sources >= 0).all()
    assert (flat.sources <= np.array(flat.source_size) - 1).all()


@pytest.mark.parametrize("number", [-1, 999])
def test_a_camera_that_nobody_knows_is_named(tmp_path: Path, number: int) -> None:
    write(tmp_path, "PINHOLE")
    path = tmp_path / "binary/cameras.bin"
    content = path.read_bytes()
    path.write_bytes(content[:12] + struct.pack("<i", number) + content[16:])
    with pytest.raises(
        S2LDError, match=rf"cameras\.bin: a camera of model number {number}, which pycolmap .* --upgrade"
    ):
        read_model(tmp_path / "binary")
