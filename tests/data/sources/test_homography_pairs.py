from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.sample import PairSample, collate
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.sources.wall_cameras import draw_cameras, wall_overlap
from s2ld.data.sources.wall_views import shrink_to_scale, wall_depth
from s2ld.geometry.camera import project, unproject
from s2ld.geometry.homography import apply_homography, plane_homography
from s2ld.geometry.pose import transform

SIZE = (96, 64)


def data_config(*overrides: str) -> CN:
    base = ["DATA.IMAGE_SIZE", str(list(SIZE)), "DATA.PHOTOMETRIC.ENABLED", "False"]
    return build_config(overrides=[*base, *overrides]).DATA


def grid() -> torch.Tensor:
    x, y = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="xy")
    return torch.stack([x, y], -1).reshape(-1, 2).double()


def flow(sample: PairSample) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the pixels of view 0 lie in view 1, by depth and pose, and which have depth."""
    assert sample.view0.depth is not None
    depth = sample.view0.depth.double().flatten()
    X = unproject(grid(), depth, sample.view0.K.double())
    points, _ = project(transform(sample.T_0to1.double(), X), sample.view1.K.double())
    return points, depth > 0


def test_pairs_depend_on_seed_and_index_only() -> None:
    first, second = HomographyPairs(data_config(), 3, 10), HomographyPairs(data_config(), 3, 10)
    second[7]
    for a, b in ((first[2].view0, second[2].view0), (first[2].view1, second[2].view1)):
        assert torch.equal(a.image, b.image)
        assert a.depth is not None
        assert b.depth is not None
        assert torch.equal(a.depth, b.depth)
    assert not torch.equal(first[2].view0.image, first[3].view0.image)
    assert not torch.equal(first[2].view0.image, HomographyPairs(data_config(), 4, 10)[2].view0.image)
    with pytest.raises(IndexError):
        first[10]


@pytest.mark.parametrize("index", range(6))
def test_depth_and_pose_tell_the_homography_of_the_wall(index: int) -> None:
    """Depth and pose reproduce H = K1 (R + t n'/d) K0^-1 of a plane fitted to the depth of view 0."""
    sample = HomographyPairs(data_config(), 0, 10)[index]
    points, known = flow(sample)
    assert known.any()
    assert sample.view0.depth is not None
    X = unproject(grid(), sample.view0.depth.double().flatten(), sample.view0.K.double())[known]
    normal = torch.linalg.lstsq(X, torch.ones(len(X), 1, dtype=torch.float64)).solution[:, 0]  # n.X = 1
    H = plane_homography(
        sample.view0.K.double(), sample.view1.K.double(), sample.T_0to1.double(), normal, torch.ones(()).double()
    )
    torch.testing.assert_close(apply_homography(H, grid())[known], points[known], rtol=1e-4, atol=1e-2)
    assert sample.homography is not None
    told = apply_homography(sample.homography.double(), grid())
    torch.testing.assert_close(told[known], points[known], rtol=1e-5, atol=1e-3)


def test_a_batch_has_homographies_where_all_of_its_pairs_have() -> None:
    source = HomographyPairs(data_config(), 0, 10)
    batch = collate([source[0], source[1]])
    assert batch.homography is not None
    assert batch.homography.shape == (2, 3, 3)
    assert torch.equal(batch.homography[1], source[1].homography)
    assert collate([source[0], replace(source[1], homography=None)]).homography is None


def test_the_second_view_shows_what_depth_and_pose_say() -> None:
    errors = []
    for index in range(8):
        sample = HomographyPairs(data_config(), 1, 10)[index]
        points, known = flow(sample)
        warped = cv2.remap(
            sample.view1.image[0].numpy(), points.float().reshape(SIZE[1], SIZE[0], 2).numpy(), None, cv2.INTER_LINEAR
        )
        inside = known & ((points >= 0) & (points <= torch.tensor(SIZE) - 1)).all(1)
        difference = np.abs(warped - sample.view0.image[0].numpy()).reshape(-1)[inside.numpy()]
        errors.append(float(np.median(difference)))
    assert max(errors) < 0.06
    assert float(np.mean(errors)) < 0.03


def test_overlap_and_depth_stay_in_their_ranges() -> None:
    config = data_config("DATA.HOMOGRAPHY.OVERLAP", "[0.4, 0.8]")
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(30):
        first, second = draw_cameras(400, 300, config, rng)
        size = np.array(SIZE, np.float64)
        shares.append(max(wall_overlap(first, second, size, 400, 300), wall_overlap(second, first, size, 400, 300)))
        depth = wall_depth(first, SIZE, 400, 300)
        assert depth.shape == (SIZE[1], SIZE[0])
        assert np.isfinite(depth).all()
        assert depth.min() >= 0
    assert np.mean([share >= 0.4 for share in shares]) > 0.9


def test_what_is_not_on_the_photograph_has_no_depth() -> None:
    first, _ = draw_cameras(400, 300, data_config("DATA.HOMOGRAPHY.TILT", "0.0"), np.random.default_rng(0))
    depth = wall_depth(first, SIZE, 40, 300)  # only the left tenth of the photograph is there
    assert 0 < (depth > 0).mean() < 0.5


def test_a_shrunk_texture_stays_in_place() -> None:
    texture = np.zeros((128, 160, 3), np.uint8)
    texture[40:72, 60:100] = 255
    H = np.array([[0.25, 0, 3.0], [0, 0.25, 2.0], [0, 0, 1]])
    small, scaled = shrink_to_scale(texture, H, SIZE)
    assert small.shape[0] < texture.shape[0]
    views = [cv2.warpPerspective(t, h, SIZE)[..., 0].astype(float) for t, h in ((texture, H), (small, scaled))]
    centres = [np.array(np.nonzero(view > 127)).mean(1) for view in views]
    assert np.abs(centres[0] - centres[1]).max() < 0.3
