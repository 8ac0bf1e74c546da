"""Strong changes of light: what each does, when they come, and what is unknown after them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.images import photometric
from s2ld.data.images.photometric import augment, change_view
from s2ld.data.images.reading import to_grey
from s2ld.data.images.strong_light import draw_film, has_strong_light, haze, local_light, lost_texture, night
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.viewpoint import viewpoint_change

STRONG = ("NIGHT", "LOCAL_LIGHT", "HAZE", "FILM")


def config(**changes: object) -> CN:
    keys = [str(i) for key, value in changes.items() for i in (f"DATA.PHOTOMETRIC.{key}", value)]
    return build_config(overrides=keys).DATA.PHOTOMETRIC


def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(20, 230, (24, 32, 3), np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)


def before_there_was_strong_light(image: np.ndarray, node: CN, rng: np.random.Generator) -> np.ndarray:
    grey = photometric._develop(image, node, rng, None)
    if rng.random() < node.PROBABILITY:
        grey = photometric._shadow(grey, node.SHADOW, rng)
    if rng.random() < node.PROBABILITY:
        grey = photometric._blur(grey, node.BLUR, rng)
    if rng.random() < node.PROBABILITY:
        grey = photometric._noise(grey, node.NOISE, rng)
    if rng.random() < node.PROBABILITY:
        grey = photometric._jpeg(grey, node.JPEG, rng)
    return grey


def test_off_by_default_and_then_nothing_is_drawn() -> None:
    node = config()
    assert not has_strong_light(node)
    for seed in range(20):
        one, two = np.random.default_rng(seed), np.random.default_rng(seed)
        assert np.array_equal(augment(photo(), node, one), before_there_was_strong_light(photo(), node, two))
        assert one.random() == two.random()
        depth = np.ones((120, 160), np.float32)
        grey, kept = change_view(photo(), depth, node, np.random.default_rng(seed))
        assert kept is depth
        assert np.array_equal(grey, augment(photo(), node, np.random.default_rng(seed)))


@pytest.mark.parametrize("key", STRONG)
def test_each_comes_with_its_probability_and_is_deterministic(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node, calls = config(**{key: 0.5}), []
    assert has_strong_light(node)
    name = {"FILM": "draw_film"}.get(key, key.lower())
    function = getattr(photometric, name)
    monkeypatch.setattr(photometric, name, lambda *given: calls.append(name) or function(*given))
    for seed in range(100):
        grey, again = (augment(photo(), node, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(grey, again)
    assert 70 <= len(calls) <= 130
    assert len(calls) % 2 == 0


def test_narrow_pairs_have_a_share_of_it() -> None:
    node = config(NIGHT=1.0, NARROW=0.25, PROBABILITY=0.0, EXPOSURE=0.0, COLOUR_CAST=0.0)
    counts = {}
    for change in (0.0, 0.5, 1.0, None):
        greys = [augment(photo(), node, np.random.default_rng(seed), change) for seed in range(120)]
        counts[change] = sum(grey.mean() < 0.62 * to_grey(photo()).mean() for grey in greys)
    assert counts[None] <= counts[0.0] < counts[0.5] < counts[1.0]


def test_night_is_dark_and_noisy() -> None:
    flat = np.full((120, 160), 160, np.uint8)
    views = [night(flat, np.random.default_rng(seed)) for seed in range(40)]
    assert np.median([view.mean() for view in views]) < 110
    assert max(float(view[::2, ::2].std()) for view in views) > 10
    assert len({view.tobytes() for view in views}) == 40


def test_local_light_has_lit_and_dark_parts() -> None:
    flat = np.full((120, 160), 120, np.uint8)
    for seed in range(40):
        view = local_light(flat, np.random.default_rng(seed)).astype(float)
        low, high = np.quantile(view, [0.02, 0.98])
        assert 0 < low <= high <= 255
    spans = [np.ptp(local_light(flat, np.random.default_rng(seed)).astype(float)) for seed in range(40)]
    assert np.median(spans) > 30


def test_haze_brightens_and_takes_contrast() -> None:
    grey = to_grey(photo())
    for seed in range(10):
        view = haze(grey, np.random.default_rng(seed))
        ratio = view.astype(float).std() / grey.astype(float).std()
        assert 0.1 < ratio < 0.95


def test_film_is_a_mix_of_the_channels() -> None:
    shares = np.stack([draw_film(np.random.default_rng(seed))[0] for seed in range(50)])
    assert shares.min() >= 0
    assert np.allclose(shares.sum(1), 1, atol=1e-6)
    assert (shares.max(0) > 0.7).all()


def test_texture_is_lost_where_nothing_of_it_shows() -> None:
    grey = to_grey(photo())
    assert not lost_texture(grey, grey).any()
    assert not lost_texture(grey, (0.3 * grey + 20).astype(np.uint8)).any()
    after = grey.copy()
    after[:, :60] = 0
    after[:, 100:] = np.random.default_rng(0).integers(0, 255, (120, 60))
    lost = lost_texture(grey, after)
    assert lost[:, 10:50].mean() > 0.95
    assert lost[:, 110:150].mean() > 0.8
    assert lost[:, 70:90].mean() < 0.05
    assert not lost_texture(np.full_like(grey, 90), after).any()  # there was none to lose


def test_depth_is_unknown_where_texture_is_lost() -> None:
    node = config(NIGHT=1.0)
    depth = np.full((120, 160), 2.0, np.float32)
    lost = 0
    for seed in range(30):
        grey, kept = change_view(photo(), depth, node, np.random.default_rng(seed))
        expected = lost_texture(to_grey(photo()), grey)
        assert np.array_equal(kept == 0, expected)
        assert (kept[~expected] == 2).all()
        lost += bool(expected.any())
    assert lost
    assert (depth == 2).all()


def test_pairs_with_strong_light_depend_on_seed_and_index_only() -> None:
    keys = [item for key in STRONG for item in (f"DATA.PHOTOMETRIC.{key}", "0.5")]
    data = build_config(overrides=["DATA.IMAGE_SIZE", "[96,64]", "DATA.PHOTOMETRIC.NARROW", "0.3", *keys]).DATA
    first, second = HomographyPairs(data, 0, 10), HomographyPairs(data, 0, 10)
    second[4]
    for index in (3, 1):
        assert torch.equal(first[index].view1.image, second[index].view1.image)
        assert torch.equal(first[index].view1.depth, second[index].view1.depth)


def rotation(axis: tuple[float, float, float], degrees: float) -> torch.Tensor:
    T = torch.eye(4)
    T[:3, :3] = torch.from_numpy(cv2.Rodrigues(np.radians(degrees) * np.array(axis))[0])
    return T


def test_change_of_viewpoint_by_angle_scale_and_turn() -> None:
    K = torch.tensor([[1e4, 0, 31.5], [0, 1e4, 23.5], [0, 0, 1]])  # long enough that all rays are parallel
    depth = torch.full((48, 64), 10.0)
    assert viewpoint_change(depth, K, K, torch.eye(4)) == 0
    longer = K.clone()
    longer[[0, 1], [0, 1]] *= 2
    assert viewpoint_change(depth, K, longer, torch.eye(4)) == pytest.approx(0.5)
    assert viewpoint_change(depth, longer, K, torch.eye(4)) == pytest.approx(0.5)
    assert viewpoint_change(depth, K, K, rotation((0, 0, 1), -30)) == pytest.approx(30 / 45)
    around = rotation((0, 1, 0), 30)  # about the point before the camera
    around[:3, 3] = torch.tensor([0, 0, 10.0]) - around[:3, :3] @ torch.tensor([0, 0, 10.0])
    assert viewpoint_change(depth, K, K, around) == pytest.approx(0.5, rel=1e-2)
    assert viewpoint_change(torch.zeros(48, 64), K, K, rotation((0, 0, 1), 90)) == 1
    assert viewpoint_change(torch.zeros(48, 64), K, K, around) == 0
