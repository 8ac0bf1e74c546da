"""What hloc expects of its files, by a reader that knows its rules only, not our writer."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.record_files import HlocFiles
from s2ld.sfm.matching.hloc import check_names, write_hloc
from s2ld.sfm.matching.storage.tables import FolderMatches, IndexMatches

NAMES = ["db/a.jpg", "db/b.jpg", "query/c d.png"]


def matches() -> FolderMatches:
    random = np.random.default_rng(0)
    keypoints = [random.uniform(0, 99, (n, 2)).astype(np.float32) for n in (5, 4, 3)]
    scores = [random.uniform(0, 9, len(points)).astype(np.float32) for points in keypoints]
    pairs = {
        (0, 1): IndexMatches(np.array([[0, 3], [4, 1]], np.int32), np.array([0.5, 0.25], np.float32)),
        (0, 2): IndexMatches(np.zeros((0, 2), np.int32), np.zeros(0, np.float32)),
        (1, 2): IndexMatches(np.array([[3, 2]], np.int32), np.array([1.0], np.float32)),
    }
    return FolderMatches(keypoints, scores, pairs)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_hloc(tmp_path, NAMES, [(100, 80)] * 3, [2.0] * 3, matches())
    return tmp_path


def read_keypoints(path: Path, name: str) -> tuple[np.ndarray, float]:
    """As hloc's import of features: group of the image's name, dataset `keypoints`, its `uncertainty`."""
    with h5py.File(path, "r") as file:
        data = file[name]["keypoints"]
        return data[()], data.attrs["uncertainty"]


def read_matches(path: Path, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
    """As hloc: the group of the pair in either order, `matches0` with -1 for none, rows exchanged where reversed."""
    with h5py.File(path, "r") as file:
        key, other = ("/".join(n.replace("/", "-") for n in names) for names in ((name0, name1), (name1, name0)))
        exchanged = key not in file
        group = file[other if exchanged else key]
        partner, scores = group["matches0"][()], group["matching_scores0"][()]
    assert partner.dtype.kind == "i"
    assert scores.dtype == np.float16
    rows = np.where(partner != -1)[0]
    pairs = np.stack([rows, partner[rows]], -1)
    return (pairs[:, ::-1] if exchanged else pairs), scores[rows]


def test_features_are_as_hloc_reads_them(written: Path) -> None:
    for name, expected in zip(NAMES, matches().keypoints, strict=True):
        points, uncertainty = read_keypoints(written / "features.h5", name)
        assert points.dtype == np.float32
        assert np.array_equal(points, expected)
        assert uncertainty == pytest.approx(1.0)
    with h5py.File(written / "features.h5") as file:
        assert file["db/a.jpg/image_size"][()].tolist() == [100, 80]
        assert file["db/a.jpg/scores"].shape == (5,)


def test_matches_are_as_hloc_reads_them(written: Path) -> None:
    pairs, scores = read_matches(written / "matches.h5", "db/a.jpg", "db/b.jpg")
    assert pairs.tolist() == [[0, 3], [4, 1]]
    assert scores.tolist() == [0.5, 0.25]
    assert read_matches(written / "matches.h5", "db/b.jpg", "db/a.jpg")[0].tolist() == [[3, 0], [1, 4]]
    assert len(read_matches(written / "matches.h5", "db/a.jpg", "query/c d.png")[0]) == 0
    with h5py.File(written / "matches.h5") as file:
        assert set(file) == {"db-a.jpg", "db-b.jpg"}
        assert file["db-a.jpg/db-b.jpg/matches0"].shape == (5,)
    lines = (written / "pairs.txt").read_text().splitlines()
    assert lines[0].split(" ") == ["db/a.jpg", "db/b.jpg"]
    assert len(lines) == 3


def test_our_reader_of_hloc_files_agrees(written: Path) -> None:
    files, truth = HlocFiles(written / "features.h5", written / "matches.h5"), matches()
    place = files.find("db/b.jpg", "query/c d.png")
    assert place is not None
    record = files.read(place, "db/b.jpg", "query/c d.png")
    assert np.array_equal(record.points0, truth.keypoints[1][[3]])
    assert np.array_equal(record.points1, truth.keypoints[2][[2]])
    assert record.confidence.tolist() == [1.0]


def test_names_that_hloc_would_confuse_are_refused() -> None:
    check_names(NAMES)
    with pytest.raises(S2LDError, match="one name in hloc"):
        check_names(["a/b.jpg", "a-b.jpg"])
    with pytest.raises(S2LDError, match=r"hloc's files: the name fa\\udce7ade\.jpg is not in UTF-8"):
        check_names(["a.jpg", "fa\udce7ade.jpg"])
