"""`s2ld build-dataset` on rendered photographs: against their true cameras and depth, with all that is bad."""

from __future__ import annotations

import errno
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rendered
from PIL import ExifTags, Image

from s2ld.cli.sfm.build_dataset import main, script
from s2ld.cli.sfm.compare_scenes import main as compare
from s2ld.config import build_config
from s2ld.data.datamodule import PairDataModule
from s2ld.data.index.files import read_index, write_index
from s2ld.data.preflight import walk
from s2ld.data.sources.megadepth import megadepth_files
from s2ld.errors import S2LDError
from s2ld.sfm.dataset.settings import build_settings
from s2ld.sfm.depth.colmap_maps import write_map
from s2ld.sfm.mapping.pipeline import map_photos
from s2ld.sfm.mapping.read_model import read_model
from s2ld.sfm.photos.copies import copy_photos
from s2ld.sfm.photos.usable import DIAGONAL_35MM, find_photos

pycolmap = pytest.importorskip("pycolmap")
SMALL = ["--jobs", "1", "MAX_SIDE", "320", "DEPTH.LONG_SIDE", "160", "SFM.EXHAUSTIVE", "10", "SFM.PARTNERS", "8"]
VIEWS = 8


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The index files of two rendered scenes."""
    folder = tmp_path_factory.mktemp("places")
    return [rendered.render(folder / str(seed), VIEWS, seed) for seed in (0, 2)]


@pytest.fixture(scope="module")
def photos(places: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with two unrelated places and everything that is bad, images only."""
    folder = tmp_path_factory.mktemp("photos") / "mixed bag"
    for index, prefix in zip(places, "ab", strict=True):
        rendered.copy(rendered.photographs(index), folder, prefix)
    focal = read_index(places[1]).intrinsics[0, 0, 0]
    for path in folder.glob("b*.jpg"):
        with Image.open(path) as image:
            exif = Image.Exif()
            exif[ExifTags.Base.Make] = "Renderer"
            details = exif.get_ifd(ExifTags.IFD.Exif)
            details[ExifTags.Base.FocalLengthIn35mmFilm] = round(focal * DIAGONAL_35MM / np.hypot(*image.size))
            image.save(path, exif=exif, quality=95)
    turned = folder / "a000.jpg"
    with Image.open(turned) as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter to the right
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "a000.png", exif=exif)
    turned.unlink()
    shutil.copy(folder / "a001.jpg", folder / "again.jpg")
    (folder / "broken.jpg").write_bytes((folder / "a001.jpg").read_bytes()[:99])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)).save(folder / "noise.png")
    return folder


@pytest.fixture(scope="module")
def built(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of it."""
    out = tmp_path_factory.mktemp("built") / "out"
    main([str(photos), str(out), *SMALL], progress=False)
    return out


def test_two_places_of_one_folder_are_two_scenes_near_the_truth(built: Path, places: list[Path]) -> None:
    found = sorted((built / "index").glob("mixed_bag_?.npz"))
    assert len(found) == 2
    prefixes = set()
    for path in found:
        (prefix,) = {Path(name).name[0] for name in read_index(path).image_paths}
        prefixes.add(prefix)
        reference = named(places["ab".index(prefix)], prefix)
        result = compare([str(path), str(reference)])
        assert result.common >= VIEWS - 2
        assert result.position.max() < 0.01
        assert np.median(result.depth) < 0.01
        assert result.both > 0.2
    assert prefixes == {"a", "b"}


def test_photographs_share_cameras_by_size_and_exif(built: Path) -> None:
    database = pycolmap.Database.open(built / "work/mixed_bag/database.db")
    prior = {camera.camera_id: camera.has_prior_focal_length for camera in database.read_all_cameras()}
    images = {image.name[:1]: image.camera_id for image in database.read_all_images()}
    database.close()
    assert len(prior) == 3  # noise.png has another size
    assert (prior[images["a"]], prior[images["b"]], prior[images["n"]]) == (False, True, False)


def named(index: Path, prefix: str) -> Path:
    """Write the true index with the names that the photographs had."""
    truth = read_index(index)
    path = index.with_name(f"as_{prefix}.npz")
    images = np.array([f"{prefix}{Path(name).name}" for name in truth.image_paths])
    write_index(replace(truth, image_paths=images), path)
    return path


def test_what_is_not_used_is_listed_with_its_reason(built: Path) -> None:
    report = (built / "report.txt").read_text()
    for line in (
        "mixed_bag/again.jpg: the same pixels as a001.jpg",
        "mixed_bag/broken.jpg: not an image that OpenCV can decode",
        "mixed_bag/noise.png: not registered",
    ):
        assert line in report
    assert "mixed_bag_0" in report.split("not used")[0]


def test_training_reads_it_and_the_places_are_apart(built: Path) -> None:
    config = build_config([built / "dataset.yaml"])
    train, val = ((built / f"{name}.txt").read_text().split() for name in ("train", "val"))
    assert not set(train) & set(val)
    data = PairDataModule(config)
    data.setup("fit")
    assert len(data.val_layout) == 1
    for split in ("train", "val"):
        (files,) = megadepth_files(config.DATA, split)
        result = walk(files, config.DATA.MEGADEPTH, False, 0)
        assert sum(sum(scene.counts.values()) for scene in result.scenes) == 0
        assert sum(scene.pairs for scene in result.scenes) > 5
    for path in (built / "index").glob("mixed_bag_?.npz"):
        index = read_index(path)
        assert index.scale_ratio is not None
        assert (index.overlap >= 0.1).all()
        assert (index.overlap <= 0.8).all()
        assert (built / path.stem / "depths.jpg").is_file()


def test_what_is_done_is_kept(built: Path, photos: Path) -> None:
    def stamps() -> dict[Path, int]:
        files = [*built.glob("mixed_bag_?/*/*"), *built.glob("index/mixed_bag_?.npz"), *built.glob("work/*/*.db")]
        return {path: path.stat().st_mtime_ns for path in files}

    before = stamps()
    assert len(before) > 4 * (VIEWS - 1)
    main([str(photos), str(built), *SMALL, "SPLIT.VAL", "0.5"], progress=False)
    assert stamps() == before


def test_the_last_line_trains_on_it_as_the_readme_does(
    built: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script([str(photos), str(built), *SMALL]) == 0
    printed, root = capsys.readouterr().out, Path(__file__).parents[3]
    said, _, line = printed.strip().splitlines()[-1].partition(": ")
    program, command, *configs = shlex.split(line)
    assert (said, program, command, configs[0]) == ("train with", "s2ld", "train", str(built / "dataset.yaml"))
    assert " ".join(["dataset.yaml", *configs[1:]]) in (root / "README.md").read_text()
    config = build_config(configs)
    assert config.TRAIN.INIT_WEIGHTS
    assert Path(config.DATA.MEGADEPTH.ROOT) == built.resolve()


def test_settings_of_pairs_make_no_camera_anew(built: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    kept = {path: path.stat().st_mtime_ns for path in [*out.glob("mixed_bag_?/*/*"), *out.glob("work/*/*.db")]}
    main([str(photos), str(out), *SMALL, "PAIRS.PER_IMAGE", "2"], progress=False)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for path in out.glob("index/mixed_bag_?.npz"):
        assert np.bincount(read_index(path).pairs.ravel()).max() <= 2


def test_other_photographs_are_made_anew(places: list[Path], tmp_path: Path) -> None:
    photos, out = tmp_path / "place", tmp_path / "out"
    rendered.copy(rendered.photographs(places[0])[:1], photos)
    arguments = [str(photos), str(out), *SMALL]
    assert script(arguments) == 2
    state = out / "work/place/state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "scenes": ["place"]}))
    for path in (out / "place/images/old.jpg", out / "index/place.npz", out / "other/kept.jpg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert script(arguments) == 2
    assert (out / "index/place.npz").exists()
    rendered.copy(rendered.photographs(places[0])[1:2], photos)
    assert script(arguments) == 2
    assert {path.name for path in out.rglob("*") if path.is_file()} == {
        "kept.jpg",
        "log.txt",
        "report.txt",
        "state.json",
    }


def test_after_a_full_disk_it_goes_on(
    built: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(built, out)
    state = out / "work/mixed_bag/state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "later": "others"}))
    lost = out / "mixed_bag_0/depths/a002.jpg.h5"
    if not lost.exists():
        lost = out / "mixed_bag_0/depths/b002.jpg.h5"
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("mixed_bag_?/*/*")}

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("s2ld.files._flush", full)
        assert script([str(photos), str(out), *SMALL]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("s2ld build-dataset: ")
    assert "No space left on device" in line
    main([str(photos), str(out), *SMALL], progress=False)
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_sfm_goes_on_where_it_was_stopped(places: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered.copy(rendered.photographs(places[0]), tmp_path / "photos")
    photos = find_photos(tmp_path / "photos", progress=False).photos
    copies = copy_photos(photos, tmp_path / "copies", 320, 1, progress=False)
    arguments = (tmp_path / "copies", copies, tmp_path / "work", build_settings([], []), 1, False)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for stage in ("extract_features", "match_image_pairs", "incremental_mapping"):
        with monkeypatch.context() as patch:
            patch.setattr(pycolmap, stage, stop)
            with pytest.raises(KeyboardInterrupt):
                map_photos(*arguments)
    for stage in ("extract_features", "match_image_pairs"):
        monkeypatch.setattr(pycolmap, stage, stop)  # all of it is done
    (model,) = map_photos(*arguments)
    assert len(read_model(model).images) == VIEWS
    monkeypatch.setattr(pycolmap, "incremental_mapping", stop)
    assert map_photos(*arguments) == [model]


def test_a_model_that_is_there_takes_the_place_of_sfm(built: Path, photos: Path, tmp_path: Path) -> None:
    text, out = tmp_path / "text", tmp_path / "out"
    text.mkdir()
    pycolmap.Reconstruction(built / "work/mixed_bag/sparse/0").write_text(text)
    images = tmp_path / "mixed_bag/images"
    shutil.copytree(built / "work/mixed_bag/photos", images)
    result = main([str(images), str(out), "--model", str(text), *SMALL], progress=False)
    assert result.scenes == ["mixed_bag"]
    assert any(reason == "not in the model" for _, reason in result.rejected)
    names = {Path(name).name[0] for name in read_index(out / "index/mixed_bag.npz").image_paths}
    (twin,) = [p for p in built.glob("index/mixed_bag_?.npz") if Path(read_index(p).image_paths[0]).name[0] in names]
    same = compare([str(out / "index/mixed_bag.npz"), str(twin)])
    assert same.position.max() < 1e-6
    assert np.median(same.depth) < 1e-3
    train, val = (read_index(out / f"index/mixed_bag_{name}.npz") for name in ("train", "val"))
    held = set(val.pairs.ravel().tolist()) - set(train.pairs.ravel().tolist())
    assert held
    assert all(held & set(pair) for pair in val.pairs.tolist())
    assert "SAME PLACE" in result.report


def test_colmaps_own_depth_is_taken(built: Path, photos: Path, tmp_path: Path) -> None:
    model = pycolmap.Reconstruction(built / "work/mixed_bag/sparse/0")
    workspace = tmp_path / "dense"
    shutil.copytree(built / "work/mixed_bag/photos", workspace / "images")
    (workspace / "sparse").mkdir()
    model.write_text(workspace / "sparse")
    cameras = workspace / "sparse/cameras.txt"
    flat = re.sub(r"SIMPLE_RADIAL (\d+ \d+ )(\S+) (\S+ \S+) \S+", r"PINHOLE \1\2 \2 \3", cameras.read_text())
    cameras.write_text(flat)
    for image in model.images.values():
        write_map(workspace / f"stereo/depth_maps/{image.name}.geometric.bin", np.full((240, 320), 2.5, np.float32))
    out = tmp_path / "out"
    with pytest.raises(S2LDError, match="overlap"):  # depth that fits nothing gives no pair
        main([str(workspace / "images"), str(out), "--model", str(workspace / "sparse"), *SMALL], progress=False)
    with h5py.File(next((out / "dense/depths").glob("*.h5"))) as file:
        depth = np.asarray(file["depth"])
    values = np.unique(depth[depth > 0])
    assert len(values) == 1


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert script(arguments) == 2
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "build-dataset:" in line]
    lines = [line for line in lines if "build-dataset: warning: " not in line]
    assert len(lines) == 1
    return lines[0]


def test_bad_input_is_one_line(
    places: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    take_output: Callable[[Path], None],
) -> None:
    one, out = tmp_path / "one", str(tmp_path / "out")
    rendered.copy(rendered.photographs(places[0])[:1], one)
    assert "1 usable photograph(s); a scene needs 4" in refused([str(one), out], capsys)
    assert "1 usable photograph(s)" in (tmp_path / "out/report.txt").read_text()
    assert "lies within" in refused([str(one), str(one / "out")], capsys)
    assert "no such folder" in refused([str(tmp_path / "nowhere"), out], capsys)
    assert "no COLMAP model here" in refused([str(one), out, "--model", str(tmp_path)], capsys)
    assert "did you mean MAX_SIDE" in refused([str(one), out, "MAXSIDE", "3"], capsys)
    assert "--jobs" in refused([str(one), out, "--jobs", "0"], capsys)
    (tmp_path / "empty").mkdir()
    assert "no image in this folder" in refused([str(tmp_path / "empty"), out], capsys)
    model = tmp_path / "model"
    model.mkdir()
    for name in ("cameras", "images", "points3D"):
        (model / f"{name}.bin").write_bytes(b"\1")
    assert "cameras.bin: damaged" in refused([str(one), out, "--model", str(model)], capsys)
    take_output(tmp_path / "taken")
    assert "another process is writing to this output" in refused([str(one), str(tmp_path / "taken")], capsys)

    def missing(name: str) -> Any:
        raise ImportError("No module named 'pycolmap'")

    monkeypatch.setattr("s2ld.sfm.mapping.colmap.importlib.import_module", missing)
    assert 'pip install "s2ld[sfm]"' in refused([str(one), out], capsys)
