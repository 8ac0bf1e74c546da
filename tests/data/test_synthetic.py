"""Synthetic scenes: exact depth against another ray caster, images that agree with it, determinism, overlap."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from brute_force import brute_force_depth, hit_quad
from torch.nn import functional

from s2ld.config import CN, build_config
from s2ld.data.images.textures import PATTERNS, TextureBank
from s2ld.data.sample import PairSample, collate
from s2ld.data.synthetic.cast import cast, prepare
from s2ld.data.synthetic.render import Atlas, pixel_grid, render_views
from s2ld.data.synthetic.scene import Camera, Quads, Scene, Skins, pinhole
from s2ld.data.synthetic.source import SyntheticPairs, draw_pair, render_pairs
from s2ld.errors import S2LDError
from s2ld.geometry.warp import warp_by_depth

SIZE = (160, 120)
SHARED = Path(__file__).resolve().parents[3] / "shared"


def data_config(*overrides: str) -> CN:
    keys = {"IMAGE_SIZE": "[160, 120]", "SYNTHETIC.TEXTURE_SIDE": "128", "SYNTHETIC.TEXTURE_CACHE": "64"}
    pairs = [item for key, value in keys.items() for item in (f"DATA.{key}", value)]
    return build_config([], [*pairs, *overrides]).DATA


def one_quad_scene(span: float = 8.0) -> Scene:
    """A square of half edge 4 at z = 4 that faces the origin."""
    quads = Quads(
        np.array([[0.0, 0.0, 4.0]]), np.array([[-4.0, 0.0, 0.0]]), np.array([[0.0, 4.0, 0.0]]), np.array([False])
    )
    skins = Skins(np.zeros(3, np.int64), np.full(3, span), np.full((3, 2), 0.5), np.ones(3))
    return Scene(quads, None, skins)


def folder_bank(folder: Path, image: np.ndarray) -> TextureBank:
    cv2.imwrite(str(folder / "texture.png"), image)
    return TextureBank(str(folder))


@pytest.mark.parametrize("uneven", [0.0, 1.0])
def test_depth_agrees_with_another_ray_caster(uneven: float) -> None:
    config = data_config("DATA.SYNTHETIC.HEIGHT_FIELDS", str(uneven), "DATA.SYNTHETIC.BOXES", "[2, 4]").SYNTHETIC
    good = total = sky = 0
    rng = np.random.default_rng(5)
    for index in range(6):
        pair = draw_pair(config, 4, SIZE, rng)
        for camera in (pair.camera0, pair.camera1):
            pixels = rng.integers(0, SIZE, (100 if uneven else 1500, 2)).astype(float)
            depth = cast(prepare([pair.scene], [camera]), pixel_grid(SIZE, 1)).depth[0].double().numpy()
            found = depth[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
            true = brute_force_depth(pair.scene, camera, pixels)
            assert (pair.scene.relief is not None) == bool(uneven), index
            good += (np.abs(found - true) <= 1e-4 * true).sum()
            total, sky = total + len(pixels), sky + (true == 0).sum()
    assert good / total >= 0.995
    assert 0 < sky < 0.4 * total


def test_supersampled_depth_is_that_of_the_pixel_centre(tmp_path: Path) -> None:
    pair = draw_pair(data_config().SYNTHETIC, 1, SIZE, np.random.default_rng(1))
    atlas = Atlas(folder_bank(tmp_path, np.full((8, 8, 3), 99, np.uint8)), 8, 1)
    views = [render_views([pair.scene], [pair.camera0], atlas, SIZE, rays) for rays in (1, 2)]
    assert torch.equal(views[0].depth, views[1].depth)
    assert views[0].image.shape == (1, SIZE[1], SIZE[0], 3)


def test_batch_equals_single_views() -> None:
    config = data_config().SYNTHETIC
    config.defrost()
    config.HEIGHT_FIELDS = 0.5
    pairs = [draw_pair(config, 12, SIZE, np.random.default_rng(seed)) for seed in range(4)]
    assert {pair.scene.relief is None for pair in pairs} == {True, False}
    atlas = Atlas(TextureBank(""), 32, 16)
    batch = render_pairs(pairs, atlas, SIZE, 1)
    for n, pair in enumerate(pairs):
        for side, alone in zip(batch, render_pairs([pair], atlas, SIZE, 1), strict=True):
            close = torch.isclose(side.depth[n], alone.depth[0], rtol=1e-5)
            assert close.float().mean() > 0.999
            assert (side.image[n].int() - alone.image[0].int()).abs().max(-1).values.le(1).float().mean() > 0.999


def test_texture_appears_upright_and_at_its_place(tmp_path: Path) -> None:
    """The quad fills the texture once, s to the left; 90 degrees of view over 160 px see the middle 8 x 6 units."""
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:16, :32] = (0, 0, 255)  # BGR red: upper, and left in the texture
    atlas = Atlas(folder_bank(tmp_path, texture), 64, 1)
    view = render_views([one_quad_scene()], [Camera(pinhole(90.0, SIZE), np.eye(4))], atlas, SIZE, 1)
    red = view.image[0, ..., 0] > 128
    assert torch.allclose(view.depth, torch.tensor(4.0))
    assert red[:18, 82:].all()
    assert not red[22:].any()
    assert not red[:, :78].any()


def test_far_texture_is_averaged(tmp_path: Path) -> None:
    """A board of single texels seen from afar is even grey: without mip levels it would flicker."""
    board = np.indices((128, 128)).sum(0) % 2 * 255
    atlas = Atlas(folder_bank(tmp_path, np.repeat(board[..., None], 3, 2).astype(np.uint8)), 128, 1)
    view = render_views([one_quad_scene(0.5)], [Camera(pinhole(90.0, SIZE), np.eye(4))], atlas, SIZE, 1)
    assert (view.image.int() - 128).abs().max() <= 2


def test_surfaces_are_invisible_from_behind() -> None:
    behind = Camera(pinhole(90.0, SIZE), np.diag([-1.0, 1.0, -1.0, 1.0]) @ _shift(-8.0))
    assert not cast(prepare([one_quad_scene()], [behind]), pixel_grid(SIZE, 1)).depth.any()


def _shift(z: float) -> np.ndarray:
    pose = np.eye(4)
    pose[2, 3] = z
    return pose


def _grey_at(sample: PairSample, points: torch.Tensor) -> torch.Tensor:
    grid = (points + 0.5) / torch.tensor(SIZE) * 2 - 1
    return functional.grid_sample(sample.view1.image[None], grid[:, None], align_corners=False)[0, 0, 0]


def test_warp_by_depth_and_pose_reproduces_the_image() -> None:
    source = SyntheticPairs(data_config("DATA.PHOTOMETRIC.ENABLED", "False"), 3, 8)
    right, wrong = [], []
    for index in range(len(source)):
        sample = source[index]
        batch = collate([sample])
        y, x = torch.meshgrid(torch.arange(2, SIZE[1], 3), torch.arange(2, SIZE[0], 3), indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], 1)[None].float()
        warped = warp_by_depth(points, batch.view0, batch.view1, batch.T_0to1, 0.01)
        valid = warped.valid & (warped.z > 0)
        grey = sample.view0.image[0][y.flatten(), x.flatten()][valid[0]]
        moved = warped.points[valid][None]
        right.append((_grey_at(sample, moved) - grey).abs())
        wrong.append((_grey_at(sample, moved + 4.0) - grey).abs())
    assert sum(map(len, right)) > 2000
    assert torch.cat(right).median() < 0.02
    assert torch.cat(right).mean() < 0.5 * torch.cat(wrong).mean()


def test_pair_is_a_function_of_seed_and_index() -> None:
    config = data_config()
    source = SyntheticPairs(config, 7, 100)
    first = source[42]
    for index in (3, 99, 42):
        again = source[index]
    elsewhere = pickle.loads(pickle.dumps(SyntheticPairs(config, 7, 50)))[42]
    for other in (again, elsewhere):
        assert torch.equal(first.view0.image, other.view0.image)
        assert torch.equal(first.view1.image, other.view1.image)
        assert torch.equal(first.view1.depth, other.view1.depth)
        assert torch.equal(first.T_0to1, other.T_0to1)
    assert not torch.equal(first.view0.image, source[43].view0.image)
    assert not torch.equal(first.view0.image, SyntheticPairs(config, 8, 100)[42].view0.image)


def test_sample_keeps_the_conventions() -> None:
    sample = SyntheticPairs(data_config(), 0, 5)[4]
    for view in (sample.view0, sample.view1):
        assert view.image.shape == (1, 120, 160)
        assert view.image.dtype == view.depth.dtype == view.K.dtype == torch.float32
        assert 0 <= view.image.min() < view.image.max() <= 1
        assert view.depth.isfinite().all()
        assert view.K[:2, 2].tolist() == [79.5, 59.5]
    rotation = sample.T_0to1[:3, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3), atol=1e-6)
    assert sample.source == "synthetic"
    with pytest.raises(IndexError):
        SyntheticPairs(data_config(), 0, 5)[5]


@pytest.mark.parametrize("wanted", [(0.2, 0.5), (0.5, 0.9)])
def test_overlap_lies_in_the_configured_range(wanted: tuple[float, float]) -> None:
    config = data_config("DATA.SYNTHETIC.OVERLAP", str(list(wanted))).SYNTHETIC
    pairs = [draw_pair(config, 4, SIZE, np.random.default_rng(seed)) for seed in range(12)]
    inside = [wanted[0] <= pair.overlap <= wanted[1] for pair in pairs]
    assert np.mean(inside) >= 0.9


def test_overlap_is_what_a_full_depth_map_says() -> None:
    config = data_config("DATA.SYNTHETIC.HEIGHT_FIELDS", "0.0", "DATA.SYNTHETIC.OVERLAP", "[0.3, 0.7]").SYNTHETIC
    pair = draw_pair(config, 4, SIZE, np.random.default_rng(2))
    pixels = np.random.default_rng(0).integers(0, SIZE, (1500, 2)).astype(float)
    depth = brute_force_depth(pair.scene, pair.camera0, pixels)
    pixels, depth = pixels[depth > 0], depth[depth > 0]
    local = np.hstack([pixels, np.ones((len(pixels), 1))]) @ np.linalg.inv(pair.camera0.K).T * depth[:, None]
    world = (local - pair.camera0.pose[:3, 3]) @ pair.camera0.pose[:3, :3]
    seen = (world @ pair.camera1.pose[:3, :3].T + pair.camera1.pose[:3, 3]) @ pair.camera1.K.T
    at = seen[:, :2] / seen[:, 2:]
    inside = (seen[:, 2] > 0) & (at > -0.5).all(1) & (at < np.array(SIZE) - 0.5).all(1)
    visible = np.isclose(brute_force_depth(pair.scene, pair.camera1, at), seen[:, 2], rtol=1e-3) & inside
    assert visible.mean() == pytest.approx(pair.overlap, abs=0.05)


def test_cameras_stand_in_the_same_free_space() -> None:
    config = data_config("DATA.SYNTHETIC.BASELINE", "[0.4, 0.8]").SYNTHETIC
    for seed in range(12):
        pair = draw_pair(config, 4, SIZE, np.random.default_rng(seed))
        start, end = (-c.pose[:3, :3].T @ c.pose[:3, 3] for c in (pair.camera0, pair.camera1))
        quads = pair.scene.quads
        for centre, u, v in zip(quads.centre, quads.u, quads.v, strict=True):
            assert hit_quad(start, (end - start)[None], centre, u, v, False) > 1
        if pair.scene.relief is not None:
            assert (end - pair.scene.relief.centre) @ pair.scene.relief.normal > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("OVERLAP", "[0.9, 0.2]"), ("FOV", "[10.0, 180.0]"), ("SUPERSAMPLE", "0"), ("TEXTURE_SIDE", "100")],
)
def test_impossible_ranges_are_named(key: str, value: str) -> None:
    with pytest.raises(S2LDError, match=f"DATA.SYNTHETIC.{key}"):
        SyntheticPairs(data_config(f"DATA.SYNTHETIC.{key}", value), 0, 1)


def test_full_texture_buffer_is_reused_and_never_too_small() -> None:
    atlas = Atlas(TextureBank(""), 16, 3 * 4 * 341 / 2**20)
    first = atlas.texels(torch.arange(341) + atlas.place([0])[0] * 341)
    atlas.place([1, 2])
    slots = atlas.place([3, 2, 1])
    assert sorted(slots.values()) == [0, 1, 2]
    assert torch.equal(first, atlas.texels(torch.arange(341) + atlas.place([0])[0] * 341))
    with pytest.raises(S2LDError, match="TEXTURE_CACHE"):
        atlas.place([0, 1, 2, 3])


def test_procedural_textures_are_deterministic_and_rich() -> None:
    bank = TextureBank("")
    for index in range(len(PATTERNS)):
        texture = bank.get(index)
        assert texture.shape == (512, 512, 3)
        assert np.array_equal(texture, TextureBank("").get(index))
        assert texture.std(axis=(0, 1)).max() > 5
    assert not np.array_equal(bank.get(0), bank.get(len(PATTERNS)))


def test_photographs_are_left_out_by_the_beginnings_of_their_names(tmp_path: Path) -> None:
    for name, level in (("free_a", 10), ("paid_b", 20), ("free_c", 30)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((8, 8, 3), level, np.uint8))
    bank = TextureBank(str(tmp_path), exclude=["paid_"])
    assert [int(bank.get(i)[0, 0, 0]) for i in range(len(bank))] == [10, 30]
    with pytest.raises(S2LDError, match=r"DATA\.PHOTOS_EXCLUDE"):
        TextureBank(str(tmp_path), exclude=["paid_", "free_"])


def test_unusable_photo_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match="no photographs here"):
        TextureBank(str(tmp_path))
    with pytest.raises(S2LDError, match="nowhere"):
        TextureBank(str(tmp_path / "nowhere"))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(S2LDError, match=r"broken\.jpg"):
        TextureBank(str(tmp_path)).get(0)


def test_bank_keeps_the_latest_photos(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 4, 3), number, np.uint8))
    bank = TextureBank(str(tmp_path), 2)
    kept = bank.get(0)
    bank.get(1)
    assert bank.get(0) is kept
    bank.get(2)
    assert bank.get(0) is kept
    bank.get(2)
    bank.get(1)
    assert bank.get(0) is not kept


@pytest.mark.skipif(not (SHARED / "photos").is_dir(), reason="no photographs beside the repository")
def test_photographs_become_textures() -> None:
    sample = SyntheticPairs(data_config("DATA.PHOTOS", str(SHARED / "photos")), 0, 1)[0]
    assert sample.view0.image.std() > 0.02
