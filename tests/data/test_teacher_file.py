"""The file of a teacher's descriptors, and where a view shows its points."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.images.textures import is_held_out
from s2ld.data.sample import PairSample, ViewSample, collate
from s2ld.data.sources.by_name import build_mixture, build_source, teacher_of
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.teacher import PhotoDescriptors, TeacherFile, TeacherInfo, TeacherWriter
from s2ld.errors import S2LDError
from s2ld.geometry.homography import apply_homography
from s2ld.types import TeacherPoints

INFO = TeacherInfo("toy", "nobody", "CC0", "0" * 64, 4, 50)
SIZE = (160, 120)
NAMES = ["a.png", "b.png", "c.png"]


def write_photos(folder: Path) -> Path:
    """Write three photographs and a teacher's file beside them, 40 points each."""
    rng = np.random.default_rng(0)
    photos, path = folder / "photos", folder / "toy.h5"
    photos.mkdir()
    writer = TeacherWriter(path, INFO)
    for name in NAMES:
        cv2.imwrite(str(photos / name), rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8))
        points = rng.uniform(0, np.array(SIZE) - 1, (40, 2)).astype(np.float32)
        writer.write(name, SIZE, points, describe(points))
    writer.close()
    return path


def describe(points: np.ndarray) -> np.ndarray:
    """Unit vectors (P, 4) that tell the place."""
    angles = points / SIZE
    raw = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    return np.asarray(raw / np.sqrt(2), np.float32)


def config_of(folder: Path, *overrides: str) -> CN:
    own = ["DATA.IMAGE_SIZE", "[96, 64]", "DATA.PHOTOS", str(folder / "photos"), "TRAIN.TEACHER.POINTS", "16"]
    return build_config(overrides=[*own, "DATA.TRAIN_SOURCES", "['homography']", *overrides])


def test_what_is_written_is_read_by_every_process(tmp_path: Path) -> None:
    path = write_photos(tmp_path)
    file = TeacherFile(path, 16)
    assert file.info == INFO
    described = file.read("b.png", SIZE)
    np.testing.assert_allclose(described.descriptors, describe(described.points), atol=1e-3)
    assert described.descriptors.dtype == np.float32
    assert len(np.unique([file.read(name, SIZE).labels for name in NAMES])) == 3 * 40
    copy = pickle.loads(pickle.dumps(file))  # as a loader process that is not forked gets it
    np.testing.assert_array_equal(copy.read("b.png", SIZE).labels, described.labels)
    child = os.fork()
    if child == 0:
        same = np.array_equal(file.read("c.png", SIZE).points, copy.read("c.png", SIZE).points)
        os._exit(0 if same and file._process == os.getpid() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = write_photos(tmp_path)
    with h5py.File(path, "a") as file:
        del file["b.png"].attrs["size"]  # as if the process had ended amid it
    with pytest.raises(S2LDError, match=r"toy\.h5: lacks 1 of 3 photographs, e\.g\. b\.png"):
        TeacherFile(path, 16).check(NAMES)
    writer = TeacherWriter(path, INFO)
    assert [name in writer for name in NAMES] == [True, False, True]
    points = np.zeros((1, 2), np.float32)
    writer.write("b.png", SIZE, points, describe(points))
    writer.close()
    TeacherFile(path, 16).check(NAMES)
    assert len(TeacherFile(path, 16).read("b.png", SIZE).points) == 1


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    path = write_photos(tmp_path)
    with pytest.raises(S2LDError, match="another teacher"):
        TeacherWriter(path, replace(INFO, digest="1"))
    with pytest.raises(S2LDError, match=r"none\.h5: no such file; make it with s2ld teacher-descriptors"):
        TeacherFile(tmp_path / "none.h5", 16)
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(S2LDError, match=r"text\.h5: not a readable HDF5 file"):
        TeacherFile(tmp_path / "text.h5", 16)
    h5py.File(tmp_path / "depth.h5", "w").close()
    with pytest.raises(S2LDError, match=r"depth\.h5: holds no descriptors"):
        TeacherFile(tmp_path / "depth.h5", 16)
    with pytest.raises(S2LDError, match=r"lacks a\.png of 10x10 px"):
        TeacherFile(path, 16).read("a.png", (10, 10))
    with pytest.raises(S2LDError, match=r"set DATA\.PHOTOS"):
        HomographyPairs(build_config().DATA, 0, 1, teacher=TeacherFile(path, 16))


def test_a_view_takes_points_inside_it_and_one_a_cell() -> None:
    points = np.array([[10, 10], [11, 11], [30, 10], [70, 10], [-9, 10], [10, 40], [100, 5]], np.float32)
    photo = PhotoDescriptors(points, describe(points), np.arange(7))
    H = np.diag([0.5, 0.5, 1.0])  # the view is 32 x 16 px: the fourth lies beyond its right, the sixth below it
    depth = np.ones((16, 32))
    picks = [photo.seen(H, depth, 10, np.random.default_rng(seed)) for seed in range(20)]
    for pick in picks:
        first, second = sorted(pick.label.tolist())
        assert first in (0, 1)  # both in the first cell, and chance decides
        assert second == 2
        rows = pick.label.numpy()
        np.testing.assert_allclose(pick.points.numpy(), points[rows] / 2)
        np.testing.assert_array_equal(pick.descriptors.numpy(), photo.descriptors[rows])
        assert not pick.batch.any()
    assert {int(pick.label.min()) for pick in picks} == {0, 1}
    assert len(photo.seen(H, depth, 1, np.random.default_rng(0))) == 1
    assert len(photo.seen(-H, depth, 10, np.random.default_rng(0))) == 0  # all are behind the camera
    none = photo.seen(np.diag([100.0, 100.0, 1.0]), depth, 10, np.random.default_rng(0))
    assert none.descriptors.shape == (0, 4)
    depth[5, 15] = 0  # unknown at the third
    assert [photo.seen(H, depth, 10, np.random.default_rng(seed)).label.max() < 2 for seed in range(5)] == [True] * 5


def test_pairs_have_the_points_where_their_views_show_them(tmp_path: Path) -> None:
    path = write_photos(tmp_path)
    config = config_of(tmp_path, "TRAIN.TEACHER.FILE", str(path))
    source, plain = (build_source("homography", tree, "train") for tree in (config, config_of(tmp_path)))
    shared = 0
    for index in range(6):
        sample, without = source[index], plain[index]
        for view, same in ((sample.view0, without.view0), (sample.view1, without.view1)):
            assert torch.equal(view.image, same.image)
            assert same.teacher is None
            assert view.teacher is not None
            assert len(view.teacher) <= 16
            column, row = view.teacher.points.round().long().T
            assert view.depth is not None
            assert bool((view.depth[row, column] > 0).all())
        shared += count_shared(sample)
        again = build_source("homography", config, "train")[index]
        assert again.view1.teacher is not None
        assert sample.view1.teacher is not None
        assert torch.equal(again.view1.teacher.points, sample.view1.teacher.points)
    assert shared > 10


def count_shared(sample: PairSample) -> int:
    """Number of points that both views have, each where the homography has it and with one descriptor."""
    first, second = sample.view0.teacher, sample.view1.teacher
    assert first is not None
    assert second is not None
    same = first.label[:, None] == second.label
    assert sample.homography is not None
    mapped = apply_homography(sample.homography.double(), first.points.double())
    for i, j in same.nonzero().tolist():
        torch.testing.assert_close(mapped[i], second.points[j].double(), atol=1e-2, rtol=1e-4)
        assert torch.equal(first.descriptors[i], second.descriptors[j])
    return int(same.sum())


WIDE = ["DATA.CROP.SHARE", "0.5", "DATA.HOMOGRAPHY.WIDE", "True", "DATA.HOMOGRAPHY.CURRICULUM", "100"]
WIDE += ["DATA.HOMOGRAPHY.TILT", "60.0", "DATA.PHOTOMETRIC.NIGHT", "0.5", "DATA.PHOTOMETRIC.HAZE", "0.5"]


@pytest.mark.parametrize("name", ["homography", "light"])
def test_wide_pairs_are_the_same_bit_for_bit_without_a_teacher(tmp_path: Path, name: str) -> None:
    path = write_light(tmp_path) if name == "light" else write_photos(tmp_path)
    common = [*WIDE, "DATA.LIGHT.ROOT", str(tmp_path / "light"), "DATA.LIGHT.VAL_PLACES", "[]"]
    if name == "light":
        common += ["DATA.PHOTOS", ""]
    with_one = build_source(name, config_of(tmp_path, *common, "TRAIN.TEACHER.FILE", str(path)), "train")
    without = build_source(name, config_of(tmp_path, *common), "train")
    points = 0
    for index in range(8):
        one, other = with_one[index], without[index]
        assert torch.equal(one.T_0to1, other.T_0to1)
        for view, plain in ((one.view0, other.view0), (one.view1, other.view1)):
            assert view.depth is not None
            assert plain.depth is not None
            assert plain.teacher is None
            assert view.teacher is not None
            assert torch.equal(view.image, plain.image)
            assert torch.equal(view.depth, plain.depth)
            assert torch.equal(view.K, plain.K)
            points += len(view.teacher)
    assert points > 20


def write_light(folder: Path) -> Path:
    """Write two places, each burnt out by a half, whole, and darker, and a teacher's file of other points for each."""
    rng = np.random.default_rng(1)
    (folder / "light/set").mkdir(parents=True)
    writer = TeacherWriter(folder / "light.h5", INFO)
    groups: dict[str, list[str]] = {}
    for place in ("0", "1"):
        whole = rng.integers(60, 256, (SIZE[1], SIZE[0], 3), np.uint8)
        burnt = whole.copy()
        burnt[:, : SIZE[0] // 2] = 255
        groups[place] = [f"{place}_{kind}.png" for kind in ("burnt", "whole", "dark")]
        for name, photo in zip(groups[place], (burnt, whole, whole // 4), strict=True):
            cv2.imwrite(str(folder / "light/set" / name), photo)
            points = rng.uniform(0, np.array(SIZE) - 1, (40, 2)).astype(np.float32)
            writer.write(f"set/{name}", SIZE, points, describe(points))
    writer.close()
    (folder / "light/groups.json").write_text(json.dumps({"set": groups}))
    return folder / "light.h5"


def test_a_place_has_the_points_of_its_clearest_photograph_in_every_light(tmp_path: Path) -> None:
    path = write_light(tmp_path)
    light = ["DATA.LIGHT.ROOT", str(tmp_path / "light"), "DATA.LIGHT.VAL_PLACES", "[]", "DATA.LIGHT.VAL_EVERY", "2"]
    config = config_of(tmp_path, *light, "TRAIN.TEACHER.FILE", str(path))
    source = build_source("light", config, "train")
    clear = TeacherFile(path, 16).read("set/0_whole.png", SIZE)
    samples = [source[index] for index in range(12)]
    for sample in samples:
        for view in (sample.view0, sample.view1):
            assert view.teacher is not None
            assert np.isin(view.teacher.label.numpy(), clear.labels).all()
    assert sum(count_shared(sample) for sample in samples) > 10
    assert build_source("light", config, "val")[0].view0.teacher is None
    config = config_of(tmp_path, *light, "TRAIN.TEACHER.FILE", str(shutil.copy(path, tmp_path / "part.h5")))
    with h5py.File(tmp_path / "part.h5", "a") as file:
        del file["set/0_dark.png"]
    with pytest.raises(S2LDError, match=r"part\.h5: lacks 1 of 3 photographs, e\.g\. set/0_dark\.png"):
        build_source("light", config, "train")


def test_one_file_may_hold_the_photographs_of_several_folders(tmp_path: Path) -> None:
    light, path = write_light(tmp_path), write_photos(tmp_path)
    writer, file = TeacherWriter(path, INFO), TeacherFile(light, 16)
    for place in "01":
        for kind in ("burnt", "whole", "dark"):
            described = file.read(f"set/{place}_{kind}.png", SIZE)
            writer.write(f"set/{place}_{kind}.png", SIZE, described.points, described.descriptors)
    writer.close()
    own = ["DATA.LIGHT.ROOT", str(tmp_path / "light"), "DATA.LIGHT.VAL_PLACES", "[]", "TRAIN.TEACHER.FILE", str(path)]
    pairs = build_mixture(
        config_of(tmp_path, *own, "DATA.TRAIN_SOURCES", "['homography', 'light']", "DATA.TRAIN_WEIGHTS", "[0.5, 0.5]")
    )
    batch = collate([pairs[index] for index in range(6)])
    assert {source.split("/")[0] for source in batch.sources} == {"homography", "light"}
    assert batch.view0.teacher is not None
    taught = {batch.sources[pair].split("/")[0] for pair in batch.view0.teacher.batch.tolist()}
    assert taught == {"homography", "light"}


def test_held_out_photographs_need_no_descriptors(tmp_path: Path) -> None:
    path = write_photos(tmp_path)
    held = ["DATA.PHOTOS_HELD_OUT", "0.4", "TRAIN.TEACHER.FILE", str(path)]
    names = [name for name in NAMES if is_held_out(name, 0.4)]
    assert 0 < len(names) < 3
    with h5py.File(path, "a") as file:
        for name in names:
            del file[name]
    sample = build_source("homography", config_of(tmp_path, *held), "train")[0]
    assert sample.view0.teacher is not None


def test_only_training_has_a_teacher(tmp_path: Path) -> None:
    config = config_of(tmp_path, "TRAIN.TEACHER.FILE", str(write_photos(tmp_path)))
    assert build_source("homography", config, "val")[0].view0.teacher is None
    assert teacher_of(config_of(tmp_path)) is None


def test_points_of_a_batch_know_their_pair() -> None:
    def view(count: int | None) -> ViewSample:
        numbers = torch.arange(count or 0)
        points = TeacherPoints(numbers * 0, torch.rand(len(numbers), 2), torch.rand(len(numbers), 4), numbers)
        return ViewSample(torch.zeros(1, 8, 8), torch.eye(3), None, teacher=None if count is None else points)

    samples = [PairSample(view(count), view(None), torch.eye(4)) for count in (2, None, 0, 3)]
    batch = collate(samples)
    assert batch.view1.teacher is None
    joined = batch.to("cpu").view0.teacher
    assert joined is not None
    assert joined.batch.tolist() == [0, 0, 3, 3, 3]
    assert joined.label.tolist() == [0, 1, 0, 1, 2]
    assert samples[3].view0.teacher is not None
    assert torch.equal(joined.points[2:], samples[3].view0.teacher.points)
