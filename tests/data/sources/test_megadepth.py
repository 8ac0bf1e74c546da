"""Scenes in MegaDepth's form: small ones, made here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from s2ld.config import build_config
from s2ld.data.index.files import SceneIndex, write_index
from s2ld.data.sample import PairSample, collate
from s2ld.data.sources.megadepth import MegaDepthPairs, megadepth_source
from s2ld.errors import S2LDError
from s2ld.geometry.warp import warp_by_depth

WIDTH, HEIGHT, FOCAL, DISTANCE = 120, 90, 100.0, 4.0
SHARED = Path(__file__).resolve().parents[4] / "shared"


def make_scene(root: Path, name: str, images: int, pairs: list[tuple[int, int]]) -> SceneIndex:
    """A camera that slides to the right by 0.2 an image, before a textured wall at z = 4: 5 px of shift an image."""
    (root / name).mkdir(parents=True)
    shift = FOCAL * 0.2 / DISTANCE
    wide = np.random.default_rng(len(name)).integers(0, 256, (HEIGHT // 6, 60), np.uint8)
    wall = cv2.resize(wide, (360, HEIGHT), interpolation=cv2.INTER_CUBIC)
    poses = np.tile(np.eye(4), (images, 1, 1))
    for i in range(images):
        left = round(i * shift)
        cv2.imwrite(str(root / name / f"{i}.png"), np.repeat(wall[:, left : left + WIDTH, None], 3, 2))
        with h5py.File(root / name / f"{i}.h5", "w") as file:
            depth = np.full((HEIGHT, WIDTH), DISTANCE, np.float32)
            depth[:10, :20] = [0.0] * 10 + [np.nan] * 5 + [-1.0] * 5
            file["depth"] = depth
        poses[i, 0, 3] = -0.2 * i
    K = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
    return SceneIndex(
        name,
        np.array([f"{name}/{i}.png" for i in range(images)]),
        np.array([f"{name}/{i}.h5" for i in range(images)]),
        np.tile(K, (images, 1, 1)),
        poses,
        np.array(pairs),
        np.linspace(0.2, 0.8, len(pairs), dtype=np.float32),
        np.linspace(5, 50, len(pairs), dtype=np.float32),
    )


@pytest.fixture
def scenes(tmp_path: Path) -> list[SceneIndex]:
    return [
        make_scene(tmp_path, "a", 3, [(0, 1), (0, 2), (1, 2)]),
        make_scene(tmp_path, "bb", 4, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (3, 0)]),
    ]


def equal(one: PairSample, other: PairSample) -> bool:
    return torch.equal(one.view0.image, other.view0.image) and torch.equal(one.view1.image, other.view1.image)


def test_enumeration_in_order(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    source = MegaDepthPairs(tmp_path, scenes, 80)
    assert len(source) == 10
    assert [source.locate(i) for i in range(10)] == [(0, 0), (0, 1), (0, 2)] + [(1, row) for row in range(7)]
    with pytest.raises(IndexError):
        source[10]
    sample = source[4]
    assert (sample.view0.name, sample.view1.name, sample.source) == ("bb/0.png", "bb/2.png", "megadepth/bb")


def test_depth_pose_and_intrinsics_warp_onto_the_same_texture(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    batch = collate([MegaDepthPairs(tmp_path, scenes, 80)[1]])  # the camera moves by 10 image px
    assert batch.view0.images.image.shape == (1, 1, 56, 80)
    assert batch.view0.scale[0].tolist() == pytest.approx([1.5, 90 / 56])
    grid = torch.cartesian_prod(torch.arange(8.0, 72.0), torch.arange(8.0, 50.0))[None]
    warped = warp_by_depth(grid, batch.view0, batch.view1, batch.T_0to1, 0.05)
    inside = warped.valid[0]
    assert inside.float().mean() > 0.8
    assert torch.allclose(warped.points[0, inside] - grid[0, inside], torch.tensor([-10 / 1.5, 0.0]), atol=1e-3)
    place = 2 * (warped.points + 0.5) / torch.tensor([80.0, 56.0]) - 1
    seen = torch.nn.functional.grid_sample(batch.view1.images.image, place[:, None], align_corners=False)[0, 0, 0]
    own = batch.view0.images.image[0, 0, grid[0, :, 1].long(), grid[0, :, 0].long()]
    assert (seen - own)[inside].abs().mean() < 0.02
    assert own[inside].std() > 0.1


def test_depth_is_that_of_the_pixel_below_each_resized_centre(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    numbers = np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH) + 1
    with h5py.File(tmp_path / "a/0.h5", "w") as file:
        file["depth"] = numbers
    depth = MegaDepthPairs(tmp_path, scenes, 64)[0].view0.depth
    assert depth is not None
    for y, x in np.ndindex(48, 64):
        row, column = int((y + 0.5) * HEIGHT / 48), int((x + 0.5) * WIDTH / 64)
        assert depth[y, x] == numbers[row, column]


def test_several_folders_are_one_source(tmp_path: Path) -> None:
    roots = [tmp_path / "first", tmp_path / "second"]
    for root, name, images in zip(roots, ("a", "bb"), (3, 2), strict=True):
        (root / "index").mkdir(parents=True)
        scene = make_scene(root, name, images, [(i, i + 1) for i in range(images - 1)])
        write_index(scene, root / "index" / f"{name}.npz")
    folders, indices = [str(root) for root in roots], [str(root / "index") for root in roots]
    names = tmp_path / "a.txt"
    names.write_text("a\n")
    keys = ["DATA.IMAGE_SIZE", "[80, 56]", "DATA.MEGADEPTH.ROOT", str(folders), "DATA.MEGADEPTH.INDEX", str(indices)]
    config = build_config(overrides=[*keys, "DATA.MEGADEPTH.SCENES", str([str(names), ""])]).DATA
    source = megadepth_source(config, "val")
    assert [source[index].source for index in range(len(source))] == ["megadepth/a", "megadepth/a", "megadepth/bb"]
    alone = MegaDepthPairs(roots[1], [source.scene(1)], 80)
    assert equal(source[2], alone[0])
    trained = megadepth_source(config, "train")
    assert {trained.locate(index)[0] for index in range(200)} == {0, 1}
    with pytest.raises(S2LDError, match="1 folders, 2 of indices"):
        megadepth_source(build_config(overrides=["DATA.MEGADEPTH.INDEX", str(indices)]).DATA, "train")


def test_unknown_depth_is_zero(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    depth = MegaDepthPairs(tmp_path, scenes, WIDTH)[0].view0.depth
    assert depth is not None
    assert depth[:9, :18].eq(0).all()
    assert depth[12:].eq(DISTANCE).all()


def test_training_draws_scenes_in_equal_shares_and_repeats_no_pair_early(
    tmp_path: Path, scenes: list[SceneIndex]
) -> None:
    source = MegaDepthPairs(tmp_path, scenes, 80, seed=3, pairs_per_scene=21)
    drawn = [source.locate(i) for i in range(42)]
    assert Counter(which for which, _ in drawn) == {0: 21, 1: 21}
    assert Counter(row for which, row in drawn if which == 0) == dict.fromkeys(range(3), 7)
    assert Counter(row for which, row in drawn if which == 1) == dict.fromkeys(range(7), 3)
    again, other = (MegaDepthPairs(tmp_path, scenes, 80, seed=seed, pairs_per_scene=21) for seed in (3, 4))
    assert drawn == [again.locate(i) for i in range(42)]
    assert drawn != [other.locate(i) for i in range(42)]
    assert source.epoch_pairs == 42
    assert MegaDepthPairs(tmp_path, scenes, 80).epoch_pairs is None
    assert len(source) > 10**9


def test_what_the_filters_leave_is_drawn(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    source = MegaDepthPairs(tmp_path, scenes, 80, overlap=(0.5, 1.0), seed=3, pairs_per_scene=8)
    drawn = Counter(source.locate(i) for i in range(16))
    assert drawn == {(0, 1): 4, (0, 2): 4, **{(1, row): 2 for row in range(3, 7)}}
    assert min(float(scenes[which].overlap[row]) for which, row in drawn) >= 0.5


def test_photometric_change_is_a_function_of_seed_and_index(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    node = build_config().DATA.PHOTOMETRIC
    one, two = (MegaDepthPairs(tmp_path, scenes[:1], 80, seed=1, photometric=node) for _ in range(2))
    assert all(equal(one[i], two[i]) for i in (5, 0, 5))
    again = next(i for i in range(1, 20) if one.locate(i) == one.locate(0))
    assert not equal(one[0], one[again])


def test_filters(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    assert len(MegaDepthPairs(tmp_path, scenes, 80, overlap=(0.5, 1.0))) == 2 + 4
    assert len(MegaDepthPairs(tmp_path, scenes, 80, max_angle=5.0)) == 2
    with pytest.raises(S2LDError, match=r"DATA\.MEGADEPTH\.OVERLAP"):
        MegaDepthPairs(tmp_path, scenes, 80, overlap=(0.9, 1.0))


def test_cache_holds_photos_and_changes_nothing(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    cached, uncached = MegaDepthPairs(tmp_path, scenes, 80), MegaDepthPairs(tmp_path, scenes, 80, cache_mb=0)
    before = [cached[i] for i in range(10)]
    assert all(equal(sample, uncached[i]) for i, sample in enumerate(before))
    (tmp_path / "bb/0.png").unlink()
    assert equal(cached[3], before[3])
    with pytest.raises(S2LDError, match=r"bb/0\.png: no .* \(scene bb, pair \(bb/0\.png, bb/1\.png\)\)$"):
        uncached[3]


def test_missing_and_unfitting_files_are_named(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    source = MegaDepthPairs(tmp_path, scenes, 80, cache_mb=0)
    with h5py.File(tmp_path / "a/0.h5", "w") as file:
        file["depth"] = np.ones((HEIGHT - 1, WIDTH))
    with pytest.raises(S2LDError, match=r"a/0\.h5.*\(89, 120\).*\(90, 120\)"):
        source[0]
    (tmp_path / "a/0.h5").write_bytes(b"no depth")
    with pytest.raises(S2LDError, match=r"a/0\.h5.*HDF5"):
        source[0]
    (tmp_path / "a/0.h5").unlink()
    with pytest.raises(S2LDError, match=r"a/0\.h5: no such depth map"):
        source[0]
    assert MegaDepthPairs(tmp_path, scenes, 80, depth=False)[0].view0.depth is None


def test_source_of_a_config(tmp_path: Path, scenes: list[SceneIndex]) -> None:
    for folder, scene in (("train", scenes[0]), ("test", scenes[1])):
        (tmp_path / folder).mkdir()
        write_index(scene, tmp_path / folder / f"{scene.name}.npz")
    overrides = ["ROOT", tmp_path, "INDEX", tmp_path / "train", "TEST_ROOT", tmp_path, "TEST_INDEX", tmp_path / "test"]
    named = [f"DATA.MEGADEPTH.{value}" if i % 2 == 0 else str(value) for i, value in enumerate(overrides)]
    config = build_config([], [*named, "DATA.IMAGE_SIZE", "[64, 48]", "DATA.TEST_LONG_SIDE", "96"]).DATA
    train, val, test = (megadepth_source(config, split) for split in ("train", "val", "test"))
    assert train[0].view0.image.shape == val[0].view0.image.shape == (1, 48, 64)
    assert (len(val), len(test)) == (3, 7)
    assert test[0].view0.image.shape == (1, 72, 96)
    assert test[0].view0.depth is None
    assert train[0].view0.depth is not None
    assert equal(val[0], megadepth_source(config, "val")[0])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_real_scene() -> None:
    overrides = ["DATA.MEGADEPTH.ROOT", str(SHARED / "real_scenes"), "DATA.IMAGE_SIZE", "[320, 240]"]
    config = build_config([], [*overrides, "DATA.MEGADEPTH.INDEX", str(SHARED / "real_scenes/index")]).DATA
    source = megadepth_source(config, "val")
    assert len(source) == 4719
    batch = collate([source[0]])
    points = torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([319.0, 239.0])
    warped = warp_by_depth(points, batch.view0, batch.view1, batch.T_0to1, 0.05)
    assert warped.known.float().mean() > 0.2
    assert warped.valid.sum() > 0.5 * warped.known.sum()
