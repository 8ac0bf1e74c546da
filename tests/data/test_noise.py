"""Injected errors: as large as asked for, the same for the same (seed, index), and in nothing but pose and depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.noise import NoisyPairs, depth_factor, noisy_pose, with_noise
from s2ld.data.sample import PairSample, ViewSample
from s2ld.data.sources.by_name import build_mixture, build_source
from s2ld.geometry.pose import pose_error

ALL = ["DATA.NOISE.ROTATION", "0.5", "DATA.NOISE.TRANSLATION", "2", "DATA.NOISE.DEPTH", "0.02"]


def config(*overrides: str) -> CN:
    base = ["DATA.IMAGE_SIZE", "[64, 48]", "DATA.TRAIN_SOURCES", "['homography']", "DATA.VAL_PAIRS", "2"]
    return build_config(overrides=[*base, *overrides])


class OnePair:
    """Always one pair: an unknown corner in depth 0, no depth in view 1."""

    def __init__(self) -> None:
        depth = torch.full((48, 64), 4.0)
        depth[:10, :10] = 0
        T = torch.eye(4)
        T[:3, 3] = torch.tensor([3.0, 0.0, 4.0])
        views = (ViewSample(torch.rand(1, 48, 64), torch.eye(3), d, name="a") for d in (depth, None))
        self.pair = PairSample(*views, T, "one")

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> PairSample:
        return self.pair


def test_errors_depend_on_seed_and_index_only() -> None:
    first, again = (NoisyPairs(OnePair(), config(*ALL).DATA, 3) for _ in range(2))
    again[5]
    assert torch.equal(first[2].T_0to1, again[2].T_0to1)
    assert depth_of(first[2]).equal(depth_of(again[2]))
    for other in (first[3], NoisyPairs(OnePair(), config(*ALL).DATA, 4)[2]):
        assert not torch.equal(first[2].T_0to1, other.T_0to1)
        assert not depth_of(first[2]).equal(depth_of(other))
    assert len(first) == 7


def depth_of(pair: PairSample) -> torch.Tensor:
    assert pair.view0.depth is not None
    return pair.view0.depth


def test_images_intrinsics_unknown_depth_and_the_clean_pair_stay_as_they_are() -> None:
    source = OnePair()
    before = depth_of(source.pair).clone(), source.pair.T_0to1.clone()
    noisy = NoisyPairs(source, config(*ALL).DATA, 0)[0]
    for view, clean in ((noisy.view0, source.pair.view0), (noisy.view1, source.pair.view1)):
        assert view.image is clean.image
        assert view.K is clean.K
    assert noisy.view1.depth is None
    assert noisy.T_0to1.dtype == torch.float32
    assert torch.equal(depth_of(noisy) == 0, before[0] == 0)
    assert torch.equal(depth_of(source.pair), before[0])  # a source may keep its depth maps in a cache
    assert torch.equal(source.pair.T_0to1, before[1])


def test_pose_errors_have_the_sigmas_and_nothing_else_changes() -> None:
    T = OnePair().pair.T_0to1.double()
    rng = np.random.default_rng(0)
    noisy = [noisy_pose(T, 0.5, 2.0, rng).numpy() for _ in range(1000)]
    errors = np.array([pose_error(T.numpy(), pose[:3, :3], pose[:3, 3]) for pose in noisy])
    np.testing.assert_allclose(np.sqrt(np.mean(errors**2, 0)), [0.5, 2.0], rtol=0.08)
    np.testing.assert_allclose([np.linalg.norm(pose[:3, 3]) for pose in noisy], 5, rtol=1e-9)
    np.testing.assert_allclose(noisy[0][:3, :3] @ noisy[0][:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(noisy[0][3], [0, 0, 0, 1])
    assert abs(np.mean([pose[:3, 3] for pose in noisy], 0) - T[:3, 3].numpy()).max() < 0.02  # to no side


def test_one_error_leaves_the_other_out_and_no_direction_has_none() -> None:
    T = OnePair().pair.T_0to1.double()
    rng = np.random.default_rng(1)
    turned, moved = noisy_pose(T, 5.0, 0.0, rng), noisy_pose(T, 0.0, 5.0, rng)
    torch.testing.assert_close(turned[:3, 3], T[:3, 3])
    torch.testing.assert_close(moved[:3, :3], T[:3, :3])
    assert not torch.allclose(turned, T)
    assert not torch.allclose(moved, T)
    assert torch.equal(noisy_pose(torch.eye(4), 0.0, 5.0, rng), torch.eye(4))


def test_depth_errors_have_the_sigma_half_of_it_smooth() -> None:
    rng = np.random.default_rng(2)
    logs = np.stack([np.log(depth_factor(48, 64, 0.02, rng)) for _ in range(50)])
    assert np.sqrt(np.mean(logs**2)) == pytest.approx(0.02, rel=0.02)
    # neighbours share the smooth half of the variance, places far apart share nothing
    near, far = ((logs[:, :, :-s] * logs[:, :, s:]).mean() / 0.02**2 for s in (1, 48))
    assert near == pytest.approx(0.5, abs=0.05)
    assert far == pytest.approx(0.0, abs=0.05)
    assert depth_factor(8, 8, 0.0, rng).tolist() == np.ones((8, 8)).tolist()


def test_training_pairs_are_noisy_and_validation_pairs_are_clean() -> None:
    clean, noisy = config(), config(*ALL)
    first, second = build_mixture(clean)[1], build_mixture(noisy)[1]
    assert torch.equal(first.view0.image, second.view0.image)
    assert not torch.equal(first.T_0to1, second.T_0to1)
    assert not depth_of(first).equal(depth_of(second))
    validation = [build_source("homography", tree, "val")[1] for tree in (clean, noisy)]
    assert torch.equal(validation[0].T_0to1, validation[1].T_0to1)
    assert depth_of(validation[0]).equal(depth_of(validation[1]))


def test_without_errors_nothing_is_wrapped() -> None:
    source = OnePair()
    assert with_noise(source, config().DATA, 0) is source
    for key, value in zip(ALL[::2], ALL[1::2], strict=True):
        assert isinstance(with_noise(source, config(key, value).DATA, 0), NoisyPairs)
