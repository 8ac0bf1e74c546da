"""A folder of rendered photographs, matched by the shipped weights."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import ExifTags, Image
from rendered_places import SIDE, write_two_places

from s2ld.cli.match.folder import build_parser, folder_settings, identity_settings
from s2ld.errors import S2LDError
from s2ld.sfm.mapping.mapper import run_mapper
from s2ld.sfm.mapping.reconstruction import reconstruct
from s2ld.sfm.matching import folder as folder_module
from s2ld.sfm.matching import match_folder as match_folder_module
from s2ld.sfm.matching.cost import Rate
from s2ld.sfm.matching.folder import MatcherSettings, match_pairs, measure_rate
from s2ld.sfm.matching.identity import IdentitySettings
from s2ld.sfm.matching.match_folder import (
    FolderSettings,
    MatchedFolder,
    match_folder,
    match_folder_by_sift,
    usable_photos,
)
from s2ld.sfm.matching.matcher import BATCH, KeypointMatcher
from s2ld.sfm.matching.pairs import all_pairs
from s2ld.sfm.matching.storage.features import PackedFeatures
from s2ld.sfm.matching.storage.matches import MatchJournal
from s2ld.sfm.photos.usable import find_photos
from s2ld.types import Extracted

pycolmap = pytest.importorskip("pycolmap")
SETTINGS = FolderSettings(matcher=MatcherSettings(max_side=SIDE, device="cpu"), progress=False)


def kept(matcher: KeypointMatcher, photo: Path) -> Extracted:
    """Features as they come from the cache."""
    return PackedFeatures.of(matcher.extract(photo)).extracted(matcher.device)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs of one place."""
    folder = tmp_path_factory.mktemp("places")
    some = folder / "some"
    some.mkdir()
    for path in sorted((write_two_places(folder) / "0").iterdir())[:4]:
        shutil.copy(path, some)
    return some


@pytest.fixture(scope="module")
def matched(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MatchedFolder]:
    output = tmp_path_factory.mktemp("matched")
    return output, match_folder(photos, output, SETTINGS)


def test_database_holds_the_keypoints_half_a_px_on_and_verified_matches(matched: tuple[Path, MatchedFolder]) -> None:
    output, done = matched
    database = pycolmap.Database.open(output / "database.db")
    images = {image.name: image for image in database.read_all_images()}
    assert list(images) == [photo.name for photo in done.folder.photos]
    (camera,) = database.read_all_cameras()
    assert (camera.width, camera.height, camera.has_prior_focal_length) == (320, 240, False)
    for photo, points in zip(done.folder.photos, done.matches.keypoints, strict=True):
        stored = database.read_keypoints(images[photo.name].image_id)[:, :2]
        assert np.allclose(stored, points + 0.5)
    assert database.num_verified_image_pairs() >= 4
    inliers, all_matches = database.num_inlier_matches(), database.num_matches()
    database.close()
    assert inliers > 0.8 * all_matches > 100


def test_hloc_files_hold_the_same(matched: tuple[Path, MatchedFolder]) -> None:
    output, done = matched
    names = [photo.name for photo in done.folder.photos]
    with h5py.File(output / "features.h5") as features, h5py.File(output / "matches.h5") as pairs:
        for name, points in zip(names, done.matches.keypoints, strict=True):
            assert np.array_equal(features[name]["keypoints"][()], points)
        for (i, j), found in done.matches.pairs.items():
            partner = pairs[f"{names[i]}/{names[j]}/matches0"][()]
            rows = np.flatnonzero(partner >= 0)
            assert np.array_equal(
                np.stack([rows, partner[rows]], 1)[np.argsort(rows)], found.indices[np.argsort(found.indices[:, 0])]
            )


def test_a_detection_is_at_one_place_in_all_pairs_and_pairs_agree_with_the_matcher(
    photos: Path, matched: tuple[Path, MatchedFolder]
) -> None:
    _, done = matched
    matcher = SETTINGS.matcher.build()
    paths = [photo.path for photo in done.folder.photos]
    plain = matcher.match(*(kept(matcher, path) for path in paths[:2]))
    found = done.raw.pairs[0, 1]
    believed = found.confidence1 > 0
    assert np.allclose(done.raw.images[0].points[found.cell0[believed]], plain.points0, atol=1e-3)
    assert np.allclose(found.points1[believed], plain.points1, atol=1e-2)
    assert np.allclose(found.confidence1[believed], plain.confidence, atol=1e-4)


def test_batches_give_what_single_pairs_give(
    matched: tuple[Path, MatchedFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, done = matched
    matcher = SETTINGS.matcher.build()
    extracted = [kept(matcher, photo.path) for photo in done.folder.photos[:3]]
    monkeypatch.setitem(BATCH, "cpu", 2)
    pairs = [(0, 1), (0, 2), (1, 2)]
    for pair, found in zip(
        pairs, matcher.match_both_ways([(extracted[i], extracted[j]) for i, j in pairs]), strict=True
    ):
        single = done.raw.pairs[pair]
        assert abs(len(found) - len(single)) <= 2  # but for rounding at the threshold
        both = np.intersect1d(found.cell0, single.cell0, return_indices=True)[1:]
        same = np.isclose(found.points1[both[0]], single.points1[both[1]], atol=1e-2, equal_nan=True).all(1)
        assert same.mean() > 0.98  # but for rounding where a point is just believed, or just refined


def test_a_run_goes_on_where_the_last_one_was_stopped(
    photos: Path, matched: tuple[Path, MatchedFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, done = matched
    data = (output / "matches.journal").read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/matches.journal").write_bytes(data[:-200])  # a kill in the middle of a record
    found = find_photos(photos, progress=False)
    kept = set(MatchJournal(tmp_path / "out/matches.journal", SETTINGS.matcher.title(), found).pairs)
    assert len(kept) == 5
    asked: list[tuple[int, int]] = []
    match = folder_module._match
    monkeypatch.setattr(folder_module, "_match", lambda *a: (asked.extend(a[-1].pairs), match(*a))[1])
    again = match_folder(photos, tmp_path / "out", SETTINGS)
    assert sorted(asked) == sorted(set(all_pairs(4)) - kept)
    for pair, first in done.raw.pairs.items():
        assert np.allclose(first.points1, again.raw.pairs[pair].points1, atol=1e-4, equal_nan=True)


def test_a_full_disk_is_one_line_and_keeps_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]
    flush = os.fsync

    def full(handle: int) -> None:
        calls[0] += 1
        if calls[0] > 4:
            raise OSError(28, "No space left on device")
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(S2LDError, match=r"No space left on device.*make room and run the same command"):
        match_folder(photos, tmp_path / "out", SETTINGS)
    monkeypatch.undo()
    journal = MatchJournal(
        tmp_path / "out/matches.journal", SETTINGS.matcher.title(), find_photos(photos, progress=False)
    )
    assert journal.images


def test_a_database_that_would_not_fit_is_refused_before_it_is_written(
    photos: Path, matched: tuple[Path, MatchedFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(matched[0] / "matches.journal", tmp_path / "matches.journal")
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(S2LDError, match=r"database.db: needs about .* MiB, and 1 are free"):
        match_folder(photos, tmp_path, SETTINGS)
    assert (tmp_path / "matches.h5").is_file()
    assert not (tmp_path / "database.db").exists()


def test_sift_that_would_not_fit_is_refused_before_it_begins(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2**24)  # an empty database fits
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(S2LDError, match=r"database.db: needs about .* MiB, and 16 are free"):
        match_folder_by_sift(photos, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out/database.db").exists()


def test_a_mapper_that_fails_is_one_line(
    matched: tuple[Path, MatchedFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Could not open\n  points3D.bin")

    monkeypatch.setattr(pycolmap, "incremental_mapping", fail)
    with pytest.raises(S2LDError, match=r"mapper failed \(Could not open points3D.bin; .* MiB are free"):
        run_mapper(matched[0] / "database.db", tmp_path, tmp_path / "models", progress=False)


def test_other_settings_are_named_and_a_new_name_of_a_photograph_is_recognised(
    photos: Path, matched: tuple[Path, MatchedFolder], tmp_path: Path
) -> None:
    output, _ = matched
    with pytest.raises(S2LDError, match=r"max_side 320 there, 256 now"):
        match_folder(photos, output, replace(SETTINGS, matcher=replace(SETTINGS.matcher, max_side=256)))
    moved = tmp_path / "photos"
    shutil.copytree(photos, moved)
    first = sorted(moved.iterdir())[0]
    first.rename(moved / "zzz.jpg")
    shutil.copy(output / "matches.journal", tmp_path / "matches.journal")
    journal = MatchJournal(tmp_path / "matches.journal", SETTINGS.matcher.title(), find_photos(moved, progress=False))
    assert sorted(journal.pairs) == all_pairs(4)
    old = MatchJournal(output / "matches.journal", SETTINGS.matcher.title(), find_photos(photos, progress=False))
    assert np.array_equal(journal.pairs[0, 3].cell1, old.pairs[0, 1].cell0)


def test_photographs_of_all_kinds(photos: Path, tmp_path: Path) -> None:
    """Mixed sizes and cameras, turned by EXIF, damaged, twice there: matched, or named with a reason."""
    mixed = tmp_path / "photos"
    mixed.mkdir()
    one, two, three, _ = sorted(photos.iterdir())
    with Image.open(one) as image:
        image.resize((240, 180)).save(mixed / "small.png")
    with Image.open(two) as image:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 30
        image.transpose(Image.Transpose.ROTATE_90).save(mixed / "turned.jpg", exif=exif, quality=95)
    shutil.copy(three, mixed / "third.jpg")
    shutil.copy(three, mixed / "again.jpg")
    (mixed / "broken.jpg").write_bytes(three.read_bytes()[:50])
    done = match_folder(mixed, tmp_path / "out", replace(SETTINGS, identity=IdentitySettings(least_pairs=1)))
    assert [photo.name for photo in done.folder.photos] == ["again.jpg", "small.png", "turned.jpg"]
    lines = (tmp_path / "out/rejected.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["broken.jpg", "third.jpg"]
    assert all(len(found) > 20 for found in done.matches.pairs.values())
    assert done.images == tmp_path / "out/images"  # COLMAP takes pixels as they are stored
    with Image.open(done.images / "turned.jpg") as image:
        assert image.size == (320, 240)
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    database = pycolmap.Database.open(tmp_path / "out/database.db")
    cameras = {(camera.width, camera.height, camera.has_prior_focal_length) for camera in database.read_all_cameras()}
    database.close()
    assert cameras == {(320, 240, False), (240, 180, False), (320, 240, True)}


def test_bad_input_is_one_line(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(sorted(photos.iterdir())[0], tmp_path / "one/a.jpg")
    with pytest.raises(S2LDError, match="one usable photograph makes no pair"):
        match_folder(tmp_path / "one", tmp_path / "out", SETTINGS)
    with pytest.raises(S2LDError, match="lies within"):
        usable_photos(photos, photos / "out", progress=False)
    with pytest.raises(S2LDError, match="at least one partner"):
        match_folder(photos, tmp_path / "out", replace(SETTINGS, pairs="sequential", neighbours=0))


def test_a_folder_that_another_process_writes_to_is_left_alone(
    photos: Path, tmp_path: Path, take_output: Callable[[Path], None]
) -> None:
    take_output(tmp_path)
    for match in (match_folder, match_folder_by_sift):
        with pytest.raises(S2LDError, match="another process is writing to this output"):
            match(photos, tmp_path, SETTINGS)
    with pytest.raises(S2LDError, match="another process is writing to this output"):
        reconstruct(tmp_path / "database.db", photos, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_day_is_not_begun_unless_it_was_agreed_to(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = Rate(extract=1.0, match=86_400.0, features=1, image=1, pair=1)
    monkeypatch.setattr(match_folder_module, "TOLD", 4)
    monkeypatch.setattr(match_folder_module, "measure_rate", lambda *_: rate)
    with pytest.raises(S2LDError, match=r"6 pairs, about 6.0 days, .*--yes"):
        match_folder(photos, tmp_path / "out", SETTINGS)
    with pytest.raises(S2LDError, match=r"4 pairs, about 4.0 days"):  # at most; the pairs are not known yet
        match_folder(photos, tmp_path / "out", replace(SETTINGS, pairs="retrieval", neighbours=1))
    assert not MatchJournal(
        tmp_path / "out/matches.journal", SETTINGS.matcher.title(), find_photos(photos, progress=False)
    ).images
    assert len(match_folder(photos, tmp_path / "out", replace(SETTINGS, agreed=True)).raw.pairs) == 6


def test_the_rate_is_that_of_a_pair_of_the_folder(photos: Path, matched: tuple[Path, MatchedFolder]) -> None:
    output, done = matched
    rate = measure_rate(done.folder, SETTINGS.matching(output))
    assert min(rate.extract, rate.match) > 0
    assert rate.pair == pytest.approx(len(done.raw.pairs[0, 1].to_bytes()), rel=0.02)
    assert rate.image == len(done.raw.images[1].to_bytes())


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        (FolderSettings(), 100, ("all", None)),
        (FolderSettings(), 101, ("retrieval", 20)),
        (FolderSettings(pairs="sequential"), 3, ("sequential", 10)),
        (FolderSettings(neighbours=5), 200, ("retrieval", 5)),
        (FolderSettings(pairs="list.txt"), 200, ("list.txt", None)),
    ],
)
def test_pairs_are_chosen_by_the_number_of_photographs(
    given: FolderSettings, count: int, expected: tuple[str, int | None]
) -> None:
    chosen = given.of(count)
    assert (chosen.pairs, chosen.neighbours) == expected


def test_a_photograph_that_is_added_leaves_the_others_keypoints_and_numbers_as_they_are(
    photos: Path, matched: tuple[Path, MatchedFolder], tmp_path: Path
) -> None:
    some, output = tmp_path / "photos", tmp_path / "out"
    for folder in (some, output):
        folder.mkdir()
    shutil.copy(matched[0] / "matches.journal", output)
    *first, last = sorted(photos.iterdir())
    for path in first:
        shutil.copy(path, some)
    match_folder(some, output, SETTINGS)
    before, numbers = tables_of(output)
    shutil.copy(last, some / "0.jpg")  # before the others by name
    grown = match_folder(some, output, SETTINGS)
    after, new_numbers = tables_of(output)
    assert len(grown.matches.keypoints) == 4
    assert new_numbers == {**numbers, "0.jpg": 4}
    assert all(np.array_equal(after[name][: len(points)], points) for name, points in before.items())
    other = replace(SETTINGS, identity=IdentitySettings(radius=0.5))
    with pytest.raises(S2LDError, match=r"identity.db: holds keypoints made otherwise \(radius 0.3 there, 0.5 now\)"):
        match_folder(some, output, other)
    anew = match_folder(some, output, replace(other, refit=True))
    assert sum(map(len, anew.matches.keypoints)) < sum(map(len, after.values()))


def tables_of(output: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Keypoints by name in hloc's file, which are those of the database, and the images' numbers there."""
    database = pycolmap.Database.open(output / "database.db")
    numbers = {image.name: image.image_id for image in database.read_all_images()}
    with h5py.File(output / "features.h5") as file:
        tables = {name: file[name]["keypoints"][()] for name in numbers}
    for name, points in tables.items():
        assert np.allclose(database.read_keypoints(numbers[name])[:, :2], points + 0.5)
    database.close()
    return tables, numbers


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_what_is_written_names_the_precision_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str
) -> None:
    monkeypatch.setattr("s2ld.models.precision.bfloat16_support", lambda device: (supported, device.type))
    args = build_parser().parse_args(["photos", "out", "--precision", "auto"])
    assert folder_settings(args, identity_settings(args)).matcher.precision == expected


def test_without_pycolmap_hlocs_files_are_written(
    photos: Path, matched: tuple[Path, MatchedFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(matched[0] / "matches.journal", tmp_path / "matches.journal")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(S2LDError, match=r"pycolmap cannot be loaded.*pip install"):
        match_folder(photos, tmp_path, SETTINGS)
    assert (tmp_path / "features.h5").is_file()
    assert (tmp_path / "matches.h5").is_file()


def test_pairs_by_retrieval_and_by_processes_are_the_same(
    photos: Path, matched: tuple[Path, MatchedFolder], tmp_path: Path
) -> None:
    _, done = matched
    settings = replace(SETTINGS, pairs="retrieval", neighbours=1, jobs=2)
    found = find_photos(photos, progress=False)
    journal = MatchJournal(tmp_path / "matches.journal", settings.matcher.title(), found)
    raw = match_pairs(found, [(0, 1), (2, 3)], settings.matching(tmp_path), journal)
    for pair, matches in raw.pairs.items():
        assert np.allclose(matches.points1, done.raw.pairs[pair].points1, atol=1e-2, equal_nan=True)
    again = match_folder(photos, tmp_path / "out", replace(settings, jobs=1))
    assert 2 <= len(again.matches.pairs) <= 4
