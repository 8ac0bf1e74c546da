"""Depth maps of a whole model: against truth, after a kill, with what may be wrong, and with COLMAP's own maps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from planes import Array, Plane, camera, render, sparse_model, waves

from s2ld.errors import S2LDError
from s2ld.sfm.depth import depth_maps
from s2ld.sfm.depth.colmap_maps import write_map
from s2ld.sfm.depth.depth_maps import DepthReport, compute_depths, depth_file, point_errors
from s2ld.sfm.depth.options import SweepOptions
from s2ld.sfm.mapping.model import SparseModel

SIZE = (128, 96)
"""Of the photographs; they are matched at half of it."""
OPTIONS = SweepOptions(long_side=64, sources=3, best_views=2, neighbours=3, least_planes=24, speckle_size=10)
Scene = tuple[Path, SparseModel, list[Array]]
Made = tuple[Path, list[DepthReport]]
CENTRES = [(0.0, 0.0, 0.0), (0.7, 0.05, 0.0), (-0.7, 0.0, 0.1), (0.05, 0.6, 0.0)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A folder of four photographs, their model and true depths."""
    folder = tmp_path_factory.mktemp("photos")
    cameras = [camera(centre, SIZE, -3 * centre[0]) for centre in CENTRES]
    rendered = [render([Plane(6.0, 0.3, -0.15, waves(7))], *one, SIZE) for one in cameras]
    for number, (grey, _) in enumerate(rendered):
        cv2.imwrite(str(folder / f"{number}.png"), np.round(grey).astype(np.uint8))
    depths = [depth for _, depth in rendered]
    return folder, sparse_model(cameras, depths, SIZE), depths


@pytest.fixture(scope="module")
def whole(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The maps of a run that nothing disturbed, and its folder."""
    out = tmp_path_factory.mktemp("whole")
    return out, compute_depths(scene[1], scene[0], out, OPTIONS, progress=False)


def read(path: Path) -> NDArray[np.float32]:
    with h5py.File(path) as file:
        return np.asarray(file["depth"])


def test_maps_have_the_size_of_the_photographs_and_are_right(scene: Scene, whole: Made) -> None:
    """The working size is half the image's."""
    _, model, truths = scene
    out, reports = whole
    assert [report.name for report in reports] == list(model.names)
    for report, truth in zip(reports, truths, strict=True):
        assert report.path == depth_file(out / "depths", report.name)
        depth = read(report.path)
        assert depth.dtype == np.float32
        assert depth.shape == (SIZE[1], SIZE[0])
        known = depth > 0
        assert report.coverage == pytest.approx(known.mean())
        assert known.mean() > 0.4
        # twice enlarged by the nearest pixel: the centre of a pixel is a quarter of a working pixel off
        small = (depth[::2, ::2] + depth[1::2, 1::2]) / 2
        mean = (truth[::2, ::2] + truth[1::2, 1::2] + truth[::2, 1::2] + truth[1::2, ::2]) / 4
        error = (small / mean - 1)[small > 0]
        assert np.median(np.abs(error)) < 0.003
        assert np.abs(error).max() < 0.03
        assert report.error is not None
        assert report.error < 0.005
        assert report.reason == ""
        assert (depth.view(np.uint32) & 0x1FFF == 0).all(), "13 bits of the mantissa are cleared"
    assert not (out / "raw_depths").exists()


def test_photographs_of_several_sizes_are_aligned_at_their_edges(tmp_path: Path) -> None:
    """The first is halved, the others are not: K without its shift of a quarter of a px would be 3 % off in depth."""
    half = SIZE[0] // 2, SIZE[1] // 2
    sizes = [SIZE, half, half]
    cameras = [camera((x, 0.1 * x, 0.0), size) for x, size in zip((0.0, 0.5, 0.7), sizes, strict=True)]
    rendered = [render([Plane(6.0, 0, 0, waves(7, 0.4))], *one, size) for one, size in zip(cameras, sizes, strict=True)]
    for number, (grey, _) in enumerate(rendered):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.round(grey).astype(np.uint8))
    points = np.random.default_rng(0).uniform((-0.5, -1, 5.5), (1, 1, 6.5), (100, 3))
    K, poses = np.stack([K for K, _ in cameras]), np.stack([pose for _, pose in cameras])
    model = SparseModel(["0.png", "1.png", "2.png"], np.array(sizes), K, poses, points, [np.arange(100)] * 3)
    report = compute_depths(model, tmp_path, tmp_path / "out", OPTIONS, progress=False)[0]
    depth = read(report.path)
    assert report.coverage > 0.3
    assert np.median(depth[depth > 0]) == pytest.approx(6.0, rel=0.004)


@pytest.mark.parametrize("kill_at", [1, 3, 6])
def test_a_run_that_was_killed_goes_on(
    scene: Scene, whole: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    folder, model, _ = scene
    steps: list[int] = []

    def counting(limit: int) -> None:
        original = {name: getattr(depth_maps._Work, name) for name in ("_sweep", "_finish")}

        def wrapped(name: str):  # type: ignore[no-untyped-def]
            def step(self: object, image: int) -> object:
                if len(steps) == limit:
                    raise KeyboardInterrupt
                steps.append(image)
                return original[name](self, image)

            return step

        for name in original:
            monkeypatch.setattr(depth_maps._Work, name, wrapped(name))

    with monkeypatch.context():
        counting(kill_at)
        with pytest.raises(KeyboardInterrupt):
            compute_depths(model, folder, tmp_path / "killed", OPTIONS, progress=False)
    monkeypatch.undo()
    counting(1000)
    reports = compute_depths(model, folder, tmp_path / "killed", OPTIONS, progress=False)
    assert len(steps) == 2 * len(model), "nothing twice, nothing left out"
    for one, other in zip(whole[1], reports, strict=True):
        np.testing.assert_array_equal(read(one.path), read(other.path))
        assert (one.coverage, one.error, one.reason) == (other.coverage, other.error, other.reason)
    compute_depths(model, folder, tmp_path / "killed", OPTIONS, progress=False)
    assert len(steps) == 2 * len(model)


def test_other_options_and_damaged_maps_are_made_anew(scene: Scene, whole: Made, tmp_path: Path) -> None:
    folder, model, _ = scene
    out, first = whole
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    depth_file(tmp_path / "depths", "1.png").write_bytes(b"half a file")
    again = compute_depths(model, folder, tmp_path, OPTIONS, progress=False)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(read(one.path), read(other.path))
    strict = replace(OPTIONS, agreeing=3)
    assert compute_depths(model, folder, tmp_path, strict, progress=False)[0].coverage < 0.9 * first[0].coverage


def test_threads_change_nothing(scene: Scene, whole: Made, tmp_path: Path) -> None:
    folder, model, _ = scene
    for one, other in zip(
        whole[1], compute_depths(model, folder, tmp_path, OPTIONS, progress=False, jobs=3), strict=True
    ):
        np.testing.assert_array_equal(read(one.path), read(other.path))


def test_images_without_depth_get_an_empty_map_and_a_reason(scene: Scene, tmp_path: Path) -> None:
    """Too few points; a photograph that is missing; one of another size; the others are as good as may be."""
    folder, model, _ = scene
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("0.png", "1.png", "2.png"):
        (photos / name).write_bytes((folder / name).read_bytes())
    cv2.imwrite(str(photos / "2.png"), np.zeros((40, 60), np.uint8))
    few = replace(model, visible=[*model.visible[:3], model.visible[3][:5]])
    reports = compute_depths(few, photos, tmp_path, OPTIONS, progress=False)
    assert "60 x 40 px, 128 x 96 in the model" in reports[2].reason
    assert reports[3].reason == "sees 5 points of the model, 20 are needed"
    reports = compute_depths(model, photos, tmp_path / "two", OPTIONS, progress=False)
    assert "3.png" in reports[3].reason
    assert "cannot read this image" in reports[3].reason
    for report in reports:
        depth = read(report.path)
        assert depth.shape == (SIZE[1], SIZE[0])
        assert (report.reason != "") == (not depth.any())
        assert (report.error is None) == (not depth.any())
    alone = replace(model, visible=[model.visible[0], *[np.zeros(0, np.int64)] * 3])
    reason = compute_depths(alone, folder, tmp_path / "three", OPTIONS, progress=False)[0].reason
    assert reason == "no other image shares enough points with it at a useful angle"


def test_maps_of_colmap_are_taken(scene: Scene, whole: Made, tmp_path: Path) -> None:
    """A geometric one whole, a photometric one where others confirm it, a damaged one is told; else a sweep."""
    folder, model, truths = scene
    maps = tmp_path / "stereo/depth_maps"
    wrong = truths[0].astype(np.float32)
    wrong[:40] *= 1.2
    write_map(maps / "0.png.geometric.bin", wrong)
    write_map(maps / "1.png.photometric.bin", np.where(np.arange(SIZE[0]) < 60, truths[1] * 1.2, truths[1]))
    write_map(maps / "2.png.geometric.bin", truths[2][:70].astype(np.float32))
    (tmp_path / "depths").mkdir()
    shutil.copy(whole[1][0].path, tmp_path / "depths")  # of a run without them: not kept
    reports = compute_depths(model, folder, tmp_path, OPTIONS, progress=False, colmap_maps=maps)
    np.testing.assert_allclose(read(reports[0].path)[1::2, 1::2], wrong[1::2, 1::2], rtol=1e-3)
    depth = read(reports[1].path)
    assert np.abs(depth / truths[1] - 1)[depth > 0].max() < 0.02
    assert (depth[:, :60] > 0).mean() < 0.01
    assert "128 x 70 px for an image of 128 x 96" in reports[2].reason
    assert reports[3].reason == ""


def test_point_errors_by_hand() -> None:
    model = SparseModel(
        ["a"],
        np.array([[4, 3]]),
        np.array([[[2.0, 0, 0], [0, 2, 0], [0, 0, 1]]]),
        np.eye(4)[None],
        np.array([[0, 0, 2.0], [1.2, 1, 2], [9, 0, 2], [0, 0, -2], [1, 0, 1], [3, 2, 2]]),
        [np.array([0, 1, 2, 3, 4])],
    )
    depth = np.array([[2.2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(point_errors(model, 0, depth), [0.1, 0.5], rtol=1e-6)


def test_full_disk_is_one_line(scene: Scene, tmp_path: Path) -> None:
    folder, model, _ = scene
    (tmp_path / "depths").write_text("a file where the folder should be")
    with pytest.raises(S2LDError, match="choose another folder"):
        compute_depths(model, folder, tmp_path, OPTIONS, progress=False)


@pytest.mark.parametrize("bad", [{"window": 4}, {"sources": 0}, {"tolerance": 0.0}, {"least_planes": 2}])
def test_options_that_cannot_be_used(bad: dict[str, float]) -> None:
    with pytest.raises(S2LDError, match=next(iter(bad)).replace("least_planes", "planes")):
        SweepOptions(**bad)  # type: ignore[arg-type]
