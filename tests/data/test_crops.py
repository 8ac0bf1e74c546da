"""Crops around what both views see: exact geometry, where they lie, and how often they come."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.crops import Crops, common_points, common_windows, draw_scales, is_crop
from s2ld.data.images.photo_cache import Photo, cut
from s2ld.data.images.textures import TextureBank
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.data.sample import PairSample, collate
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.sources.megadepth import MegaDepthPairs, megadepth_source
from s2ld.data.sources.wall_cameras import draw_cameras
from s2ld.data.synthetic.cameras import NATIVE_WIDTH, draw_crops
from s2ld.data.synthetic.render import Atlas, render_views
from s2ld.data.synthetic.scene import Camera
from s2ld.data.synthetic.source import SyntheticPairs, draw_pair
from s2ld.geometry.camera import project, unproject
from s2ld.geometry.pose import transform
from s2ld.geometry.warp import warp_by_depth

WIDTH, HEIGHT, FOCAL, DISTANCE, SIZE = 240, 180, 200.0, 4.0, (64, 48)


@pytest.fixture
def scene(tmp_path: Path) -> SceneIndex:
    """Two cameras before a textured wall, the second 0.6 to the right: 30 px of shift."""
    (tmp_path / "a").mkdir()
    small = np.random.default_rng(0).integers(0, 256, (HEIGHT // 4, 90), np.uint8)
    wall = cv2.resize(small, (360, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for i in range(2):
        image = np.repeat(wall[:, 30 * i : 30 * i + WIDTH, None], 3, 2)
        cv2.imwrite(str(tmp_path / "a" / f"{i}.png"), image)
        with h5py.File(tmp_path / "a" / f"{i}.h5", "w") as file:
            file["depth"] = np.full((HEIGHT, WIDTH), DISTANCE, np.float32)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = -0.6
    K = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
    names = [np.array([f"a/{i}.{kind}" for i in range(2)]) for kind in ("png", "h5")]
    index = SceneIndex("a", *names, np.tile(K, (2, 1, 1)), poses, np.array([[0, 1]]), np.array([0.8], np.float32))
    (tmp_path / "index").mkdir()
    write_index(index, tmp_path / "index" / "a.npz")
    return index


def data_config(root: Path, *overrides: str) -> CN:
    base = ["DATA.IMAGE_SIZE", str(list(SIZE)), "DATA.PHOTOMETRIC.ENABLED", "False", "DATA.CROP.SHARE", "1.0"]
    paths = ["DATA.MEGADEPTH.ROOT", str(root), "DATA.MEGADEPTH.INDEX", str(root / "index")]
    return build_config(overrides=[*base, *paths, "DATA.MEGADEPTH.FILL", "True", *overrides]).DATA


def same(one: PairSample, other: PairSample) -> bool:
    return torch.equal(one.view0.image, other.view0.image) and torch.equal(one.view1.image, other.view1.image)


@pytest.mark.parametrize("window", [(0, 0, WIDTH, HEIGHT), (37, 21, 64, 48), (100, 50, 128, 96), (3, 7, 101, 77)])
def test_a_cut_photo_sees_each_point_where_it_was(window: tuple[int, int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    depth = np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH) + 1
    K = np.array([[FOCAL, 3.0, 110.0], [0, 190.0, 85.0], [0, 0, 1]])
    part = cut(Photo(image, depth, K, (1.0, 1.0)), window, SIZE)
    left, top, width, height = window
    X = np.array([[0.1, -0.2, 2.0], [-0.5, 0.3, 3.0]])
    whole, seen = (X @ matrix.T / X[:, 2:] for matrix in (K, part.K))
    scale = width / SIZE[0], height / SIZE[1]
    np.testing.assert_allclose(seen[:, 0], (whole[:, 0] + 0.5 - left) / scale[0] - 0.5)
    np.testing.assert_allclose(seen[:, 1], (whole[:, 1] + 0.5 - top) / scale[1] - 0.5)
    assert part.scale == pytest.approx(scale)
    assert part.image.shape == (SIZE[1], SIZE[0], 3)
    assert part.depth is not None
    row, column = int(top + 20.5 * scale[1]), int(left + 30.5 * scale[0])
    assert part.depth[20, 30] == depth[row, column]


@pytest.mark.parametrize("native", ["1.0", "0.0"])
def test_crops_warp_onto_the_same_texture(tmp_path: Path, scene: SceneIndex, native: str) -> None:
    source = megadepth_source(data_config(tmp_path, "DATA.CROP.NATIVE", native), "train")
    covisible = []
    for index in range(12):
        sample = source[index]
        batch = collate([sample])
        assert batch.view0.images.image.shape == batch.view1.images.image.shape == (1, 1, SIZE[1], SIZE[0])
        if native == "1.0":
            assert sample.view0.scale == sample.view1.scale == (1.0, 1.0)
        grid = torch.cartesian_prod(torch.arange(SIZE[0]), torch.arange(SIZE[1])).float()[None]
        warped = warp_by_depth(grid, batch.view0, batch.view1, batch.T_0to1, 0.05)
        inside = warped.valid[0]
        covisible.append(float(inside.float().mean()))
        place = 2 * (warped.points + 0.5) / torch.tensor([float(side) for side in SIZE]) - 1
        seen = torch.nn.functional.grid_sample(batch.view1.images.image, place[:, None], align_corners=False)[0, 0, 0]
        own = batch.view0.images.image[0, 0, grid[0, :, 1].long(), grid[0, :, 0].long()]
        assert (seen - own)[inside].abs().mean() < (0.04 if native == "1.0" else 0.1)  # of unlike sharpness
    assert min(covisible) > 0.03
    assert np.mean(covisible) > 0.4
    scales = {source[index].view0.scale[0] for index in range(12)}
    assert (len(scales) == 1) == (native == "1.0")


def test_the_share_of_crops_is_kept_and_without_it_nothing_changes(tmp_path: Path, scene: SceneIndex) -> None:
    half, whole = (
        megadepth_source(data_config(tmp_path, "DATA.CROP.SHARE", share, "DATA.CROP.NATIVE", "1.0"), "train")
        for share in ("0.5", "0.0")
    )
    cropped = [half[index].view0.scale == (1.0, 1.0) for index in range(60)]
    assert 18 <= sum(cropped) <= 42
    assert all(same(half[index], whole[index]) for index in range(60) if not cropped[index])
    again = megadepth_source(data_config(tmp_path, "DATA.CROP.SHARE", "0.5", "DATA.CROP.NATIVE", "1.0"), "train")
    assert all(same(half[index], again[index]) for index in (40, 3, 17))
    assert megadepth_source(data_config(tmp_path), "val")[0].view0.scale != (1.0, 1.0)


def test_what_has_nothing_in_common_stays_whole(tmp_path: Path, scene: SceneIndex) -> None:
    with h5py.File(tmp_path / "a/1.h5", "w") as file:
        file["depth"] = np.zeros((HEIGHT, WIDTH), np.float32)
    source = megadepth_source(data_config(tmp_path, "DATA.CROP.NATIVE", "1.0"), "train")
    assert source[0].view0.scale == pytest.approx((WIDTH / SIZE[0], HEIGHT / SIZE[1]))


def stored(depth: float, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Photo:
    K = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
    return Photo(np.zeros((*shape, 3), np.uint8), np.full(shape, depth, np.float32), K, (1.0, 1.0))


def test_windows_lie_in_the_images_and_show_common_points() -> None:
    T = np.eye(4)
    T[0, 3] = -1.5  # 75 px of shift
    photos = stored(DISTANCE), stored(DISTANCE)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        windows = common_windows(photos, T, Crops(1.0, 0.5, SIZE), rng)
        assert windows is not None
        for left, top, width, height in windows:
            assert 0 <= left <= left + width <= WIDTH
            assert 0 <= top <= top + height <= HEIGHT
            assert width / height == pytest.approx(SIZE[0] / SIZE[1], rel=0.03)
        (left0, _, width0, _), (left1, _, width1, _) = windows
        assert max(left0 - 75, left1) < min(left0 + width0 - 75, left1 + width1)
    points0, points1 = common_points(photos, T, np.random.default_rng(0))
    np.testing.assert_allclose(points0 - points1, np.tile([75.0, 0.0], (len(points0), 1)), atol=1e-9)
    assert not len(common_points((stored(DISTANCE), stored(2 * DISTANCE)), T, np.random.default_rng(0))[0])  # hidden


def test_scales_are_native_or_up_to_the_whole() -> None:
    drawn = np.array([draw_scales(Crops(1, 0.4, SIZE), [4.0, 3.0], np.random.default_rng(s)) for s in range(300)])
    native = (drawn == 1).all(1)
    assert 0.3 < native.mean() < 0.5
    assert drawn.min() >= 1
    assert (drawn.max(0) <= (4, 3)).all()
    assert np.median(drawn[~native, 0]) == pytest.approx(2.0, rel=0.2)
    assert draw_scales(Crops(1, 0.5, SIZE), [0.7, 0.7], np.random.default_rng(0)) == [0.7, 0.7]
    assert not is_crop(Crops(0, 0.5, SIZE), np.random.default_rng(0))


def test_without_a_seed_there_are_no_crops(tmp_path: Path, scene: SceneIndex) -> None:
    plain, asked = (MegaDepthPairs(tmp_path, [scene], 64, crop=crop) for crop in (None, Crops(1, 1, SIZE)))
    assert same(plain[0], asked[0])


@pytest.mark.parametrize("wide", ["True", "False"])
def test_crops_of_homographies_show_the_photograph_at_its_own_scale(wide: str) -> None:
    config = data_config(Path(), "DATA.HOMOGRAPHY.WIDE", wide, "DATA.CROP.NATIVE", "1.0", "DATA.HOMOGRAPHY.TILT", "0")
    source = HomographyPairs(config, 0, 100, train=True)  # of procedural textures, 512 px
    scales = []
    for index in range(20):
        sample = source[index]
        assert sample.homography is not None
        assert sample.view0.depth is not None
        assert bool((sample.view0.depth > 0).any())
        whole = HomographyPairs(config, 0, 100)[index]
        assert not same(sample, whole)
        cameras = draw_cameras(512, 512, config, np.random.default_rng(index), None, 1.0)
        px = [float(-(-camera.R.T @ camera.t)[2] / camera.K[0, 0]) for camera in cameras]
        scales.append(np.sqrt(px[0] * px[1]) if wide == "True" else min(px, key=lambda value: abs(value - 1)))
    np.testing.assert_allclose(scales, 1.0, rtol=1e-6)


def test_a_rendered_crop_is_the_part_of_a_larger_rendering() -> None:
    config = data_config(Path(), "DATA.IMAGE_SIZE", "[80, 64]", "DATA.CROP.NATIVE", "1.0")
    size, factor = (80, 64), NATIVE_WIDTH / 80
    bank = TextureBank("")
    atlas = Atlas(bank, 64, 64)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        pair = draw_pair(config.SYNTHETIC, len(bank), size, rng)
        crops = draw_crops(pair.scene, (pair.camera0, pair.camera1), size, Crops(1, 1, size), rng)
        for camera, crop in zip((pair.camera0, pair.camera1), crops, strict=True):
            assert crop.K[0, 0] == pytest.approx(factor * camera.K[0, 0])
            large = camera.K.copy()
            large[:2, 2] += 0.5
            large[:2] *= factor
            large[:2, 2] -= 0.5
            corner = np.rint(large[:2, 2] - crop.K[:2, 2]).astype(int)
            aligned = Camera(crop.K.copy(), crop.pose)
            aligned.K[:2, 2] = large[:2, 2] - corner  # a whole number of px away, so that pixels can be compared
            big = render_views([pair.scene], [Camera(large, camera.pose)], atlas, (480, 384), 1).depth[0]
            part = render_views([pair.scene], [aligned], atlas, size, 1).depth[0]
            expected = big[corner[1] : corner[1] + 64, corner[0] : corner[0] + 80]
            assert part.shape == expected.shape
            assert float(((part - expected).abs() <= 1e-3 * expected).float().mean()) > 0.99


def test_rendered_crops_agree_with_their_depth_and_pose() -> None:
    config = data_config(Path(), "DATA.SYNTHETIC.SUPERSAMPLE", "1")
    source, again = (SyntheticPairs(config, 0, 50, train=True) for _ in range(2))
    shares = []
    for index in range(8):
        sample = source[index]
        assert same(sample, again[index])
        depth0, depth1 = sample.view0.depth, sample.view1.depth
        assert depth0 is not None
        assert depth1 is not None
        x, y = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="xy")
        X = unproject(torch.stack([x, y], -1).reshape(-1, 2).float(), depth0.flatten(), sample.view0.K)
        there = transform(sample.T_0to1, X)
        points, _ = project(there, sample.view1.K)
        column, row = points.round().long().T
        inside = (column >= 0) & (row >= 0) & (column < SIZE[0]) & (row < SIZE[1]) & (depth0.flatten() > 0)
        agree = (depth1[row[inside], column[inside]] / there[inside, 2] - 1).abs() < 0.05
        shares.append(float(agree.sum()) / inside.numel())
    assert min(shares) > 0
    assert np.mean(shares) > 0.3
    assert not same(source[0], SyntheticPairs(config, 0, 50)[0])
