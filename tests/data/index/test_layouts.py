"""Paths of MegaDepth's index in the layouts that people have."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.config.values import CHOICES
from s2ld.data.index.files import read_indices
from s2ld.data.index.layouts import LAYOUTS, depth_path, find_image, image_path, is_megadepth

SHARED = Path(__file__).resolve().parents[4] / "shared"
IMAGE = "Undistorted_SfM/0015/images/549917433_99b38abc41_o.jpg"
DEPTH = "phoenix/S6/zl548/MegaDepth_v1/0015/dense0/depths/549917433_99b38abc41_o.h5"


@pytest.mark.parametrize(
    ("layout", "image", "depth"),
    [
        ("undistorted_sfm", IMAGE, DEPTH),
        ("megadepth_v1", "phoenix/S6/zl548/MegaDepth_v1/0015/dense0/imgs/549917433_99b38abc41_o.jpg", DEPTH),
        ("glue_factory", IMAGE, "depth_undistorted/0015/549917433_99b38abc41_o.h5"),
    ],
)
def test_paths_of_the_lineage(layout: str, image: str, depth: str) -> None:
    assert (image_path(layout, IMAGE, DEPTH), depth_path(layout, IMAGE, DEPTH)) == (image, depth)


def test_the_images_own_ending_and_its_reconstruction_are_kept() -> None:
    image, depth = IMAGE.replace(".jpg", ".JPG"), DEPTH.replace("dense0", "dense12")
    mapped = image_path("megadepth_v1", image, depth)
    assert mapped == "phoenix/S6/zl548/MegaDepth_v1/0015/dense12/imgs/549917433_99b38abc41_o.JPG"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("image", "depth"),
    [
        ("south_building/images/a.jpg", "south_building/depths/a.h5"),
        ("x/Undistorted_SfM/0015/images/a.jpg", DEPTH.replace("dense0", "sparse")),
    ],
)
def test_other_paths_pass_through(layout: str, image: str, depth: str) -> None:
    assert (image_path(layout, image, depth), depth_path(layout, image, depth)) == (image, depth)
    assert not is_megadepth(image)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_has_no_depth_map_stays_without(layout: str) -> None:
    assert (image_path(layout, IMAGE, ""), depth_path(layout, IMAGE, "")) == (IMAGE, "")


def test_an_image_of_another_ending_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.b.JPG").touch()
    found = find_image(tmp_path / "a.b.jpg")
    assert found is not None
    assert found.name.lower() == "a.b.jpg"  # file systems that ignore case find it at once
    assert find_image(tmp_path / "a.jpg") is None


def test_the_config_knows_all_layouts() -> None:
    assert CHOICES["DATA.MEGADEPTH.LAYOUT"] == LAYOUTS


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_every_real_path_has_the_form() -> None:
    for scene in read_indices(SHARED / "megadepth_test_1500_scene_info"):
        for image, depth in zip(scene.image_paths.tolist(), scene.depth_paths.tolist(), strict=True):
            assert is_megadepth(image)
            name = Path(image).name
            assert image_path("megadepth_v1", image, depth) == str(Path(depth).parents[1] / "imgs" / name)
            assert depth_path("glue_factory", image, depth).startswith("depth_undistorted/00")
