"""Plane sweeps against scenes whose depth is known exactly, and against a slow sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from planes import Array, Plane, camera, flat, render, stripes, sweep_view, waves
from slow_sweep import slow_peak, slow_scores

from s2ld.sfm.depth import plane_sweep
from s2ld.sfm.depth.options import SweepOptions
from s2ld.sfm.depth.plane_sweep import Swept, choose_planes, sweep, window_sums

SIZE = (96, 72)
CENTRES = [(0.0, 0.0, 0.0), (0.6, 0.05, 0.0), (-0.6, 0.0, 0.1), (0.05, 0.5, 0.0), (0.3, -0.5, -0.1)]
OPTIONS = SweepOptions()


def swept(planes: Sequence[Plane], options: SweepOptions = OPTIONS) -> tuple[Swept, Array]:
    """The map of the first camera, from depth 3 to 12, and the true one."""
    cameras = [camera(centre, SIZE, yaw) for centre, yaw in zip(CENTRES, (0, -4, 4, 0, -2), strict=True)]
    rendered = [render(planes, *one, SIZE) for one in cameras]
    views = [sweep_view(grey, *one) for (grey, _), one in zip(rendered, cameras, strict=True)]
    return sweep(views[0], views[1:], choose_planes(views[0], views[1:], 3.0, 12.0, options), options), rendered[0][1]


def test_slanted_plane() -> None:
    result, truth = swept([Plane(6.0, 0.4, -0.2, waves(1))])
    depth = result.depth.numpy()
    inner = np.s_[3:-3, 3:-3]
    known = depth[inner] > 0
    error = np.abs(depth[inner] / truth[inner] - 1)[known]
    assert known.mean() > 0.85, "but for the sides, which too few sources see"
    assert np.median(error) < 0.002
    assert (error > 0.03).mean() < 0.001
    assert np.count_nonzero(depth) == np.count_nonzero(known), "windows must be whole"


def test_step_of_depth_with_hidden_pixels() -> None:
    """Either side has its depth up to the window's half; what half of the sources cannot see gets no wrong one."""
    near, far = Plane(4.0, 0, 0, waves(2), most_x=0.0), Plane(8.0, 0, 0, waves(3, 0.3, 1.5))
    result, truth = swept([near, far])
    depth, known = result.depth.numpy(), result.depth.numpy() > 0
    error = np.abs(depth / truth - 1)
    edge = np.argmax(truth[SIZE[1] // 2] > 6)
    columns = np.arange(SIZE[0])[None]
    clear = (np.abs(columns - edge) > OPTIONS.window) & np.ones_like(known)
    for side in (truth < 6, truth > 6):
        assert known[side & clear].mean() > 0.7
        assert np.median(error[side & clear & known]) < 0.002
    assert (error[known & clear] > 0.05).mean() < 0.01
    one_of_both = np.minimum(np.abs(depth / 4 - 1), np.abs(depth / 8 - 1))[known] < 0.02
    assert one_of_both.mean() > 0.98, "a depth between the two is on neither"


def test_without_texture_nothing_is_known() -> None:
    textured = Plane(6.0, 0, 0, waves(4), least_x=0.0)
    result, _ = swept([Plane(6.0, 0, 0, flat, most_x=0.0), textured])
    known = result.depth.numpy() > 0
    assert not known[:, : SIZE[0] // 2 - 4].any()
    assert known[4:-4, SIZE[0] // 2 + 4 : -8].mean() > 0.9


def test_stripes_fit_several_depths_and_give_none() -> None:
    views = [camera(centre, SIZE) for centre in ((0.0, 0, 0), (0.6, 0, 0), (1.2, 0, 0))]
    rendered = [sweep_view(render([Plane(6.0, 0, 0, stripes)], *one, SIZE)[0], *one) for one in views]
    planes = choose_planes(rendered[0], rendered[1:], 3.0, 12.0, OPTIONS)
    result = sweep(rendered[0], rendered[1:], planes, OPTIONS)
    careless = sweep(rendered[0], rendered[1:], planes, SweepOptions(peak_margin=0.0))
    inner = np.s_[:, 20:-20]  # at the sides, rivals fall outside the sources
    assert (result.depth[inner] > 0).float().mean() < 0.02
    assert (careless.depth[inner] > 0).float().mean() > 0.5


def test_depth_scales_with_the_scene() -> None:
    planes = [Plane(6.0, 0.4, -0.2, waves(1))]
    cameras = [camera(centre, SIZE) for centre in CENTRES[:3]]
    grey = [render(planes, *one, SIZE)[0] for one in cameras]
    maps = []
    for unit in (1.0, 1e3):
        scale = np.array([[1, 1, 1, unit]] * 3 + [[1, 1, 1, 1]])
        views = [sweep_view(image, K, pose * scale) for image, (K, pose) in zip(grey, cameras, strict=True)]
        result = sweep(views[0], views[1:], choose_planes(views[0], views[1:], 3 * unit, 12 * unit, OPTIONS), OPTIONS)
        maps.append(result.depth / unit)
    assert ((maps[0] > 0) == (maps[1] > 0)).float().mean() > 0.999
    both = (maps[0] > 0) & (maps[1] > 0)
    torch.testing.assert_close(maps[0][both], maps[1][both], rtol=1e-3, atol=0)


@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize(("volume", "block"), [(2**24, 2**20), (500, 1)])
def test_against_a_slow_sweep(window: int, volume: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in strips and blocks, with a source that looks away and planes behind one."""
    monkeypatch.setattr(plane_sweep, "VOLUME", volume)
    monkeypatch.setattr(plane_sweep, "BLOCK", block)
    size = (26, 20)
    cameras = [camera((0, 0, 0), size), camera((0.5, 0.03, 0), size), camera((0, -0.4, 4.0), (24, 22), 10.0)]
    cameras.append(camera((-0.6, 0.1, 0), size, 5.0))
    sizes = [size, size, (24, 22), size]
    scene = [Plane(6.0, 0.3, 0.1, waves(5, 0.5, 2.0))]
    views = [sweep_view(render(scene, *one, s)[0], *one) for one, s in zip(cameras, sizes, strict=True)]
    planes = torch.linspace(1 / 12, 1 / 3, 12)
    options = SweepOptions(window=window, least_score=-1.0, peak_margin=0.0, best_views=2)
    result = sweep(views[0], views[1:], planes, options)
    expected = slow_scores(views[0], views[1:], planes.double().numpy(), window, 2, options.least_contrast)
    margin = window // 2
    inner = np.s_[margin : size[1] - margin, margin : size[0] - margin]
    depth, confidence = result.depth.double().numpy()[inner], result.confidence.double().numpy()[inner]
    compared = 0
    for y, x in np.ndindex(depth.shape):
        inverse, score, second = slow_peak(expected[:, y, x], planes.double().numpy())
        assert confidence[y, x] == pytest.approx(score, abs=2e-4)
        if score - second > 1e-3 and depth[y, x] > 0:  # of two equal peaks either is right
            assert 1 / depth[y, x] == pytest.approx(inverse, abs=2e-2 * float(planes[1] - planes[0]))
            compared += 1
    assert compared > 0.5 * depth.size
    outside = np.ones(depth.shape, bool)
    outside = np.pad(~outside, margin, constant_values=True)
    assert (result.depth.numpy()[outside] == 0).all()
    assert (result.confidence.numpy()[outside] == plane_sweep.UNSEEN).all()


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 9])
def test_window_sums(side: int) -> None:
    image = torch.rand(2, 13, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slow = image.unfold(-2, side, 1).unfold(-2, side, 1).sum((-1, -2))
    torch.testing.assert_close(window_sums(image, side), slow)


def test_planes_are_a_pixel_apart_between_their_bounds() -> None:
    reference, source = (sweep_view(np.zeros((72, 96)), *camera(centre)) for centre in ((0.0, 0, 0), (3.0, 0, 0)))
    path = 3.0 * float(reference.K[0, 0]) * (1 / 3 - 1 / 12)  # px of the centre from the first to the last plane
    planes = choose_planes(reference, [source], 3.0, 12.0, SweepOptions(least_planes=3, most_planes=1000))
    assert len(planes) == round(path) + 1
    torch.testing.assert_close(planes[[0, -1]], torch.tensor([1 / 12, 1 / 3]))
    torch.testing.assert_close(planes.diff(), planes.diff().mean().expand(len(planes) - 1), rtol=1e-3, atol=0)
    assert len(choose_planes(reference, [source], 3.0, 12.0, SweepOptions(most_planes=73))) == 73
    assert len(choose_planes(reference, [source], 3.0, 3.1, SweepOptions())) == 72
