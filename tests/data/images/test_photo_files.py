"""Images and depth maps of other sizes than their intrinsics, in other layouts, and damaged ones."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from s2ld.data.images.photo_cache import RescaledImages
from s2ld.data.images.photo_files import PROBLEMS, UnreadableError, photo_files, read_depth, read_photo
from s2ld.data.index.files import SceneIndex, read_index, write_index
from s2ld.data.sample import PairSample
from s2ld.data.sources.megadepth import MegaDepthPairs
from s2ld.geometry.camera import project, unproject

WIDTH, HEIGHT = 64, 48
PHOENIX = "phoenix/S6/zl548/MegaDepth_v1/0000/dense0"


def depth_map() -> np.ndarray:
    """A depth map whose value tells its pixel, (H, W)."""
    return np.arange(1, WIDTH * HEIGHT + 1, dtype=np.float32).reshape(HEIGHT, WIDTH)


def write_depth(path: Path, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["depth"] = depth


def write_photo(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def scene(tmp_path: Path) -> SceneIndex:
    """Two images in MegaDepth's form as D2-Net leaves it, all files there."""
    for name in ("a", "b"):
        write_photo(tmp_path / f"Undistorted_SfM/0000/images/{name}.jpg", WIDTH, HEIGHT)
        write_depth(tmp_path / f"{PHOENIX}/depths/{name}.h5", depth_map())
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 0.1
    return SceneIndex(
        "0000_0.1_0.3",
        np.array([f"Undistorted_SfM/0000/images/{name}.jpg" for name in "ab"]),
        np.array([f"{PHOENIX}/depths/{name}.h5" for name in "ab"]),
        np.tile(np.array([[50.0, 0, WIDTH / 2], [0, 52.0, HEIGHT / 2], [0, 0, 1]]), (2, 1, 1)),
        poses,
        np.array([[0, 1]]),
        np.array([0.2], np.float32),
        image_sizes=np.array([[WIDTH, HEIGHT]] * 2),
    )


def seen(source: MegaDepthPairs) -> tuple[PairSample, torch.Tensor]:
    """The first pair, and (3, 2) places of three points in its resized image 0, as shares of the sides."""
    sample = source[0]
    points, z = project(torch.tensor([[0.0, 0.0, 2.0], [0.5, 0.3, 2.0], [-0.4, 0.2, 1.5]]), sample.view0.K)
    assert (z > 0).all()
    height, width = sample.view0.image.shape[-2:]
    return sample, (points + 0.5) / torch.tensor([width, height])


@pytest.mark.parametrize("factor", [0.5, 2.0, 1.5])
@pytest.mark.parametrize("long_side", [64, 32])
def test_intrinsics_of_another_size_project_to_the_same_place(
    tmp_path: Path, scene: SceneIndex, factor: float, long_side: int
) -> None:
    _, before = seen(MegaDepthPairs(tmp_path, [scene], long_side))
    for name in ("a", "b"):
        size = int(factor * WIDTH), int(factor * HEIGHT)
        write_photo(tmp_path / f"Undistorted_SfM/0000/images/{name}.jpg", *size)
    with pytest.warns(UserWarning, match="image 1 of this kind"):
        sample, after = seen(MegaDepthPairs(tmp_path, [scene], long_side))
    assert torch.allclose(before, after, atol=1e-5)
    assert sample.view0.depth is not None
    expected = MegaDepthPairs(tmp_path, [replace(scene, image_sizes=None)], long_side, depth=False)[0]
    assert sample.view0.image.equal(expected.view0.image)
    assert not sample.view0.K.allclose(expected.view0.K)  # without the size nothing is rescaled


def test_rescaled_view_with_a_crop_keeps_the_projection(tmp_path: Path, scene: SceneIndex) -> None:
    write_photo(tmp_path / "Undistorted_SfM/0000/images/a.jpg", 2 * WIDTH, 2 * HEIGHT)
    with pytest.warns(UserWarning, match="rescaled"):
        sample = MegaDepthPairs(tmp_path, [scene], 64, seed=0, fill=(48, 48))[0]
    point = torch.tensor([[0.0, 0.0, 2.0]])
    # the principal point, 32.5 px from the left edge of 64, is at (65 - 16) of 96 px after the crop, resized to 48
    assert project(point, sample.view0.K)[0][0, 0].item() == pytest.approx((2 * 32.5 - 16) / 2 - 0.5)
    depth = sample.view0.depth
    assert depth is not None
    points = torch.tensor([[24.0, 24.0], [10.0, 31.0]])
    z = depth[points[:, 1].long(), points[:, 0].long()]
    place = project(unproject(points, torch.ones(2), sample.view0.K), torch.from_numpy(scene.intrinsics[0]).float())[0]
    pixel = (place + 0.01).round().long()  # the depth map is of the size of the intrinsics
    assert torch.equal(z, torch.from_numpy(depth_map())[pixel[:, 1], pixel[:, 0]])


def test_depth_of_the_intrinsics_size_is_resampled_and_no_other(tmp_path: Path, scene: SceneIndex) -> None:
    files = photo_files(tmp_path, scene, 0, "undistorted_sfm", True)
    depth = read_depth(files, (2 * WIDTH, 2 * HEIGHT))
    assert np.array_equal(depth, depth_map().repeat(2, 0).repeat(2, 1))
    assert np.array_equal(read_depth(files, (WIDTH, HEIGHT)), depth_map())
    write_depth(tmp_path / f"{PHOENIX}/depths/a.h5", depth_map()[1:])
    with pytest.raises(UnreadableError, match=r"a\.h5.*\(47, 64\)"):
        read_depth(files, (WIDTH, HEIGHT))


def test_half_pixel_centres_are_taken_to_integers(tmp_path: Path, scene: SceneIndex) -> None:
    integer, half = (
        MegaDepthPairs(tmp_path, [scene], 64, principal_point=name)[0].view0.K for name in ("integer", "half")
    )
    assert (integer - half).tolist() == [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    assert half[0, 2] == (WIDTH - 1) / 2


@pytest.mark.parametrize("layout", ["undistorted_sfm", "megadepth_v1", "glue_factory"])
def test_each_layout_is_read(tmp_path: Path, scene: SceneIndex, layout: str) -> None:
    expected = MegaDepthPairs(tmp_path, [scene], 64)[0]
    images, depths = tmp_path / "Undistorted_SfM/0000/images", tmp_path / PHOENIX / "depths"
    if layout == "megadepth_v1":
        images.rename(tmp_path / PHOENIX / "imgs")
        (tmp_path / PHOENIX / "imgs/b.jpg").rename(tmp_path / PHOENIX / "imgs/b.JPG")
    elif layout == "glue_factory":
        (tmp_path / "depth_undistorted").mkdir()
        depths.rename(tmp_path / "depth_undistorted/0000")
    sample = MegaDepthPairs(tmp_path, [scene], 64, layout=layout)[0]
    for view, before in ((sample.view0, expected.view0), (sample.view1, expected.view1)):
        assert view.depth is not None
        assert before.depth is not None
        assert torch.equal(view.image, before.image)
        assert torch.equal(view.depth, before.depth)


def test_problems_are_named(tmp_path: Path, scene: SceneIndex) -> None:
    files = photo_files(tmp_path, scene, 0, "undistorted_sfm", True)
    image, depth = files.image, files.depth
    assert depth is not None
    found = []

    def problem(function: object) -> None:
        with pytest.raises(UnreadableError) as error:
            function()  # type: ignore[operator]
        assert "\n" not in str(error.value)
        found.append(error.value.problem)

    image.rename(tmp_path / "kept.jpg")
    problem(lambda: read_photo(files))
    image.write_bytes((tmp_path / "kept.jpg").read_bytes()[:100])
    problem(lambda: read_photo(files))
    write_photo(image, HEIGHT, WIDTH)
    problem(lambda: read_photo(files))
    depth.unlink()
    problem(lambda: read_depth(files, None))
    depth.write_bytes(b"no depth")
    problem(lambda: read_depth(files, None))
    write_depth(depth, depth_map()[:, 1:])
    problem(lambda: read_depth(files, (WIDTH, HEIGHT)))
    assert tuple(found) == PROBLEMS


@pytest.mark.parametrize(("width", "height"), [(1600, 1063), (1024, 681), (800, 531), (800, 532)])
def test_rounding_of_a_resized_side_is_no_other_shape(
    tmp_path: Path, scene: SceneIndex, width: int, height: int
) -> None:
    files = replace(photo_files(tmp_path, scene, 0, "undistorted_sfm", False), size=(1600, 1063))
    write_photo(files.image, width, height)
    assert read_photo(files).shape == (height, width, 3)
    write_photo(files.image, width, height - 8)
    with pytest.raises(UnreadableError, match="intrinsics belong to one of 1600x1063"):
        read_photo(files)


def test_warnings_count_each_image_once_at_powers_of_ten() -> None:
    rescaled = RescaledImages([3, 40])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            for image in range(12):
                rescaled.add(1, image, Path(f"{image}.jpg"))
    assert [str(warning.message).split(":")[0] for warning in caught] == ["0.jpg", "9.jpg"]
    assert "image 10 of this kind" in str(caught[1].message)


def test_a_source_for_a_spawned_process_carries_no_arrays(tmp_path: Path, scene: SceneIndex) -> None:
    many = replace(scene, pairs=np.tile(scene.pairs, (100_000, 1)), overlap=np.tile(scene.overlap, 100_000))
    write_index(many, tmp_path / "many.npz")
    source = MegaDepthPairs(tmp_path, [read_index(tmp_path / "many.npz")], 64, seed=1, overlap=(0.1, 0.3))
    sent = pickle.dumps(source)
    assert len(sent) < 10_000
    assert [pickle.loads(sent).locate(i) for i in range(5)] == [source.locate(i) for i in range(5)]
