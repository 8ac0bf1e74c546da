"""Matches from other programs' files: every form, bad ones, missing ones, and their px."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.evaluation.matchers.recorded import RecordedMatches, open_recorded
from s2ld.evaluation.predictions.cache import CacheHeader, read_cache, read_header
from s2ld.evaluation.predictions.predict import match_into_cache
from s2ld.evaluation.predictions.record_files import NpzFolder, PairGroups, parse_record

CPU = torch.device("cpu")
SCALE = (2.0, 1.5)
KEYPOINTS0 = np.array([[10, 20], [30, 40], [50, 60.5]], np.float32)
KEYPOINTS1 = np.array([[11, 21], [31, 41]], np.float32)
PARTNERS = np.array([1, -1, 0])
CONFIDENCE = np.array([0.75, 0, 0.5], np.float32)
POINTS0, POINTS1 = KEYPOINTS0[[0, 2]], KEYPOINTS1[[1, 0]]
SUPERGLUE = {"keypoints0": KEYPOINTS0, "keypoints1": KEYPOINTS1, "matches": PARTNERS, "match_confidence": CONFIDENCE}


class Two:
    """Two pairs of one image with two others, which lie in another folder."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> PairSample:
        image, K = torch.zeros(1, 64, 96), torch.eye(3)
        names = ("wall/a.png", f"roof/{'bc'[index]}.png")
        views = [ViewSample(image, K, None, SCALE, name) for name in names]
        return PairSample(*views, torch.eye(4), "two")


def write_npz(folder: Path, pair: str) -> str:
    target = folder / "superglue/wall" / f"a_{pair}_matches.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, **SUPERGLUE)
    return str(folder / "superglue")


def write_flat_npz(folder: Path, pair: str) -> str:
    (folder / "flat").mkdir(exist_ok=True)
    np.savez(folder / f"flat/a_{pair}.npz", points0=POINTS0, points1=POINTS1, confidence=CONFIDENCE[[0, 2]])
    return str(folder / "flat")


def write_h5(folder: Path, pair: str) -> str:
    with h5py.File(folder / "pairs.h5", "a") as file:
        for key, value in SUPERGLUE.items():
            file[f"wall-a.png/roof-{pair}.png/{key}"] = value
    return str(folder / "pairs.h5")


def write_hloc(folder: Path, pair: str) -> str:
    with h5py.File(folder / "features.h5", "a") as file:
        file.require_group("wall/a.png").require_dataset("keypoints", (3, 2), "f4")[...] = KEYPOINTS0
        file[f"{pair}.png/keypoints"] = KEYPOINTS1
    with h5py.File(folder / "matches.h5", "a") as file:
        if pair == "b":
            group = file.create_group("wall-a.png/roof-b.png")
            group["matches0"], group["matching_scores0"] = PARTNERS, CONFIDENCE.astype(np.float16)
        else:  # the other way round, with hloc's old name, and file names only
            group = file.create_group("c.png_a.png")
            group["matches0"], group["matching_scores0"] = [2, 0], np.array([0.5, 0.75], np.float16)
    return f"{folder / 'features.h5'},{folder / 'matches.h5'}"


FORMS: dict[str, Callable[[Path, str], str]] = {
    "npz": write_npz,
    "npz flat": write_flat_npz,
    "h5": write_h5,
    "hloc": write_hloc,
}


def header(recorded: RecordedMatches) -> CacheHeader:
    return CacheHeader(recorded.weights, recorded.digest, "two", 2, recorded.model, "", 0.05)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_says_the_same_matches(form: str, tmp_path: Path) -> None:
    for pair in "bc":
        path = FORMS[form](tmp_path, pair)
    recorded, cache = open_recorded(form.split()[0], path, "resized", "error", "edge"), tmp_path / "cache.h5"
    assert match_into_cache(recorded, Two(), cache, header(recorded), CPU)
    for prediction in read_cache(cache):
        order = np.argsort(prediction.points0[:, 0])
        assert np.array_equal(prediction.points0[order], POINTS0)
        assert np.array_equal(prediction.points1[order], POINTS1)
        assert prediction.confidence[order].tolist() == [0.75, 0.5]
        assert prediction.source == "two"
    again = open_recorded(form.split()[0], path, "resized", "error", "edge")
    assert not match_into_cache(again, Two(), cache, header(again), CPU)


def test_image_px_become_resized_px_as_the_evaluation_takes_them_back(tmp_path: Path) -> None:
    for pair in "bc":
        path = write_npz(tmp_path, pair)
    for frame, shift in (("edge", 0.5), ("lineage", 0.0)):
        recorded = open_recorded("npz", path, "image", "error", frame)  # type: ignore[arg-type]
        match_into_cache(recorded, Two(), tmp_path / "cache.h5", header(recorded), CPU)
        found = next(read_cache(tmp_path / "cache.h5")).points0
        assert found == pytest.approx((POINTS0 + shift) / np.array(SCALE) - shift, abs=1e-5)


def test_px_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = Path(write_flat_npz(tmp_path, "b"))
    write_flat_npz(tmp_path, "c")
    np.savez(path / "a_b.npz", points0=POINTS0, points1=POINTS1 * 4)
    recorded = open_recorded("npz", str(path), "resized", "error", "edge")
    with pytest.raises(S2LDError, match=r"a_b\.npz: a point at \(124, 164\) is far outside .*--points-in, not resized"):
        match_into_cache(recorded, Two(), tmp_path / "cache.h5", header(recorded), CPU)


def test_missing_records_are_an_error_or_pairs_without_a_match(tmp_path: Path, told: list[str]) -> None:
    path, cache = write_npz(tmp_path, "b"), tmp_path / "cache.h5"
    strict = open_recorded("npz", path, "resized", "error", "edge")
    with pytest.raises(S2LDError, match=r"no record of 1 of 2 pairs, the first wall/a\.png - roof/c\.png; .*--missing"):
        match_into_cache(strict, Two(), cache, header(strict), CPU)
    lenient = open_recorded("npz", path, "resized", "none", "edge")
    assert match_into_cache(lenient, Two(), cache, header(lenient), CPU)
    assert [line.partition(" pairs")[0] for line in told] == ["WARNING: superglue: no record of 1 of 2"]
    assert [len(prediction.points0) for prediction in read_cache(cache)] == [2, 0]
    with pytest.raises(S2LDError, match="no record of 1 of 2"):  # not what the lenient one has left
        match_into_cache(strict, Two(), cache, header(strict), CPU)
    write_npz(tmp_path, "c")
    whole = open_recorded("npz", path, "resized", "error", "edge")
    assert whole.digest != strict.digest
    match_into_cache(whole, Two(), cache, header(whole), CPU)
    assert read_header(cache) == header(whole)


def test_a_record_that_would_serve_two_pairs_is_refused(tmp_path: Path) -> None:
    recorded = open_recorded("npz", write_flat_npz(tmp_path, "b"), "resized", "error", "edge")
    with pytest.raises(S2LDError, match=r"a_b\.npz would serve x/a\.png - x/b\.png and y/a\.png - y/b\.png"):
        recorded.check([("x/a.png", "x/b.png"), ("y/a.png", "y/b.png")])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"matches": np.array([5, -1, 0])}, "matches must be a row of keypoints1"),
        ({"matches": np.array([1, -1])}, "matches must be a row of keypoints1"),
        ({"matches": np.array([0.5, 1, 2])}, "matches must be a row of keypoints1"),
        ({"match_confidence": np.ones(2)}, "not of one length"),
        ({"match_confidence": np.full(3, np.nan)}, "finite numbers"),
        ({"keypoints0": np.full((3, 2), np.inf)}, "finite numbers"),
        ({"keypoints1": np.array([["a", "b"]])}, "finite numbers"),
        ({"keypoints1": np.ones((2, 3))}, r"must be \(N, 2\)"),
        ({"points0": np.ones((2, 2)), "points1": np.ones((3, 2))}, "not of one length"),
    ],
)
def test_records_that_make_no_sense_are_refused(change: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(S2LDError, match=f"^origin: .*{said}"):
        parse_record({**SUPERGLUE, **change}, "origin")


def test_records_may_be_empty_or_lack_confidence() -> None:
    none = np.zeros((0, 2), np.uint8)
    empty = parse_record({"keypoints0": none, "keypoints1": none, "matches": np.zeros(0, np.uint8)}, "origin")
    assert empty.points0.shape == empty.points1.shape == (0, 2)
    assert parse_record({"points0": POINTS0, "points1": POINTS1}, "origin").confidence.tolist() == [1, 1]
    with pytest.raises(S2LDError, match="holds keypoints0; it needs points0 and points1, or keypoints0"):
        parse_record({"keypoints0": KEYPOINTS0}, "origin")


class Hostile:
    """A pickle of it would call `open` and leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickles_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a_b.npz"
    np.savez(path, points0=np.array([Hostile(tmp_path / "ran")], object), points1=POINTS1)
    with pytest.raises(S2LDError, match=r"a_b\.npz: not an \.npz of plain arrays \(it holds pickled objects\)"):
        NpzFolder(tmp_path).read("a_b.npz", "a", "b")
    assert not (tmp_path / "ran").exists()
    np.savez(path, **SUPERGLUE)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(S2LDError, match=r"not an \.npz of plain arrays"):
        NpzFolder(tmp_path).read("a_b.npz", "a", "b")
    with pytest.raises(S2LDError, match=r"a_b\.npz: not a readable HDF5 file"):
        PairGroups(path)
    with pytest.raises(S2LDError, match=r"no folder with \.npz files"):
        NpzFolder(tmp_path / "absent")
    with pytest.raises(S2LDError, match=r"give FEATURES\.h5,MATCHES\.h5"):
        open_recorded("hloc", str(path), "resized", "error", "edge")


def test_hloc_without_features_of_an_image_is_named(tmp_path: Path) -> None:
    path = write_hloc(tmp_path, "b")
    with h5py.File(tmp_path / "features.h5", "a") as file:
        del file["wall"]
    recorded = open_recorded("hloc", path, "resized", "none", "edge")
    with pytest.raises(S2LDError, match=r"features\.h5: no keypoints of wall/a\.png"):
        match_into_cache(recorded, Two(), tmp_path / "cache.h5", header(recorded), CPU)
