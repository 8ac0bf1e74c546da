"""COLMAP's models: text and binary agree with pycolmap; what is damaged is one line."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_models import POINTS, write_binary, write_text

from s2ld.errors import S2LDError
from s2ld.sfm.mapping.read_model import find_models, read_model


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_both_forms_say_the_same(tmp_path: Path, write: object) -> None:
    write(tmp_path / "model")  # type: ignore[operator]
    model = read_model(tmp_path / "model")
    assert (model.cameras[1].model, model.cameras[1].size) == ("SIMPLE_RADIAL", (640, 480))
    assert model.cameras[1].params == (500, 320, 240, 0.1)
    assert model.cameras[4].params == (50, 51, 32, 24)
    first, second = model.images
    assert (first.name, second.name, second.camera) == ("a folder/a.jpg", "b.jpg", 4)
    assert np.allclose(first.pose[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert np.allclose(second.pose[:3, 3], [1, 2, 3])
    assert len(first.points) == 0
    assert sorted(model.points[second.points].tolist()) == [[-1, 0, 9], [1, 2, 3]]


def test_pycolmap_writes_what_is_read(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_points3D = 50
    truth = pycolmap.synthesize_dataset(options)
    for kind in ("text", "binary"):
        (tmp_path / kind).mkdir()
        getattr(truth, f"write_{kind}")(tmp_path / kind)
        model = read_model(tmp_path / kind)
        assert len(model.images) == truth.num_reg_images()
        for image in model.images:
            other = truth.find_image_with_name(image.name)
            assert np.allclose(image.pose[:3], other.cam_from_world().matrix(), atol=1e-9)
            seen = {p.point3D_id for p in other.points2D if p.has_point3D()}
            expected = sorted(truth.points3D[i].xyz.tolist() for i in seen)
            assert np.allclose(sorted(model.points[image.points].tolist()), expected, atol=1e-9)


def test_pycolmap_takes_half_a_file_for_a_whole_one(tmp_path: Path) -> None:
    """Why models are read by hand: should pycolmap refuse this one day, let it read them."""
    pycolmap = pytest.importorskip("pycolmap")
    truth = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions())
    truth.write_binary(tmp_path)
    whole = (tmp_path / "cameras.bin").read_bytes()
    (tmp_path / "cameras.bin").write_bytes(whole[:-12])
    taken = pycolmap.Reconstruction(tmp_path)
    assert any((taken.cameras[i].params != truth.cameras[i].params).any() for i in truth.cameras)
    with pytest.raises(S2LDError, match="it ends too early"):
        read_model(tmp_path)


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("harm", ["empty", "half", "longer", "noise", "gone"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, harm: str) -> None:
    write_binary(tmp_path / "model")
    path = tmp_path / "model" / f"{name}.bin"
    content = path.read_bytes()
    noise = np.random.default_rng(0).bytes(len(content))
    harmed = {"empty": b"", "half": content[: len(content) // 2], "longer": content + b"\0", "noise": noise}
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(harmed[harm])
    with pytest.raises(S2LDError) as caught:
        read_model(tmp_path / "model")
    assert str(tmp_path / "model") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("images", " 4 b.jpg", " 5 b.jpg", "b.jpg is of camera 5"),
        ("images", "5 6 30", "5 6 31", "b.jpg sees a point that is not there"),
        ("images", "7 1 0 0 0", "7 0 0 0 0", "no rotation"),
        ("images", "a folder/a.jpg", "b.jpg", "two images have one name"),
        ("points3D", "30 1 2 3", "30 1 nan 3", "not finite"),
        ("points3D", "30 1 2 3", "30 1 1e300 3", "too far away"),
        ("images", "1 2 3 4 b.jpg", "1 2 1e300 4 b.jpg", "no rotation"),
        ("points3D", "20 0 0 0", "10 0 0 0", "twice"),
        ("cameras", "SIMPLE_RADIAL", "UNHEARD_OF", "of model UNHEARD_OF, which pycolmap .* does not know"),
        ("cameras", "640 480 500", "640 480 -500", "cannot be"),
        ("points3D", POINTS, "", "0 points"),
    ],
)
def test_what_does_not_fit_together_is_said(tmp_path: Path, name: str, old: str, new: str, words: str) -> None:
    write_text(tmp_path / "model")
    path = tmp_path / "model" / f"{name}.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(S2LDError, match=words):
        read_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["/etc/b.jpg", "../b.jpg", "a/../../b.jpg", "a\0.jpg"])
def test_images_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / "model")
    path = tmp_path / "model/images.txt"
    path.write_text(path.read_text().replace("b.jpg", name))
    with pytest.raises(S2LDError, match=r"is no name of a file below a folder of images|not a text file"):
        read_model(tmp_path / "model")


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_ids_of_points_may_have_64_bits(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(struct.pack("<Q", 30), struct.pack("<Q", 2**64 - 2)))
        path.write_bytes(re.sub(rb"(?m)(^|(?<=5 6 ))30 ", b"%d " % (2**64 - 2), path.read_bytes()))
    model = read_model(tmp_path)
    assert sorted(model.points[model.images[1].points].tolist()) == [[-1, 0, 9], [1, 2, 3]]


@pytest.mark.parametrize("number", [str(2**64), "-2", "9" * 5000])
def test_ids_that_cannot_be_are_one_line(tmp_path: Path, number: str) -> None:
    for name, old in (("points3D", "30 1 2 3"), ("images", "5 6 30")):
        folder = tmp_path / name
        write_text(folder)
        path = folder / f"{name}.txt"
        path.write_text(path.read_text().replace(old, old.replace("30", number)))
        with pytest.raises(S2LDError, match=rf"{name}\.txt: damaged") as refused:
            read_model(folder)
        assert len(str(refused.value)) < 600


def test_models_are_found_where_tools_put_them(tmp_path: Path) -> None:
    write_text(tmp_path / "plain")
    write_text(tmp_path / "colmap/sparse")
    for number in (10, 2):
        write_text(tmp_path / f"many/sparse/{number}")
    assert find_models(tmp_path / "plain") == [tmp_path / "plain"]
    assert find_models(tmp_path / "colmap") == [tmp_path / "colmap/sparse"]
    assert [path.name for path in find_models(tmp_path / "many")] == ["2", "10"]
    with pytest.raises(S2LDError, match="no COLMAP model here"):
        find_models(tmp_path)
