from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from slow_identity import slow_identify

from s2ld.errors import S2LDError
from s2ld.sfm.matching.folder import RawMatches
from s2ld.sfm.matching.identity import IdentitySettings, identify
from s2ld.sfm.matching.keypoints import ImageKeypoints, PairMatches
from s2ld.sfm.matching.storage.tables import FolderMatches, TableStore

IMAGES = 5
POINTS = 40


def image(points: np.ndarray, scale: float = 1.0) -> ImageKeypoints:
    rows = len(points)
    return ImageKeypoints(
        points.astype(np.float32), np.ones(rows, np.float32), np.array([scale, scale]), np.zeros((1, 4), np.float16)
    )


def folder(spread: float, noise: float, seed: int = 0) -> tuple[RawMatches, np.ndarray]:
    """Images that are shifted copies of each other; each detects all points, off by `spread` px.

    Returns the matches, and where points are without the detections' spread (IMAGES, POINTS, 2).
    """
    random = np.random.default_rng(seed)
    grid = 20.0 + 12.0 * np.stack(np.meshgrid(np.arange(8), np.arange(5)), -1).reshape(-1, 2)
    shift = random.uniform(-5, 5, (IMAGES, 1, 2))
    truth = grid[None] + shift
    detected = truth + random.uniform(-spread, spread, truth.shape)
    pairs = {}
    rows = np.arange(POINTS, dtype=np.int32)
    one = np.full(POINTS, 0.5, np.float32)
    for i in range(IMAGES):
        for j in range(i + 1, IMAGES):
            there = detected[i] + shift[j] - shift[i] + random.uniform(-noise, noise, (POINTS, 2))
            back = detected[j] + shift[i] - shift[j] + random.uniform(-noise, noise, (POINTS, 2))
            pairs[i, j] = PairMatches(rows, rows, back.astype(np.float32), there.astype(np.float32), one, one)
    return RawMatches([image(points) for points in detected], pairs), truth


def tracks(matches: FolderMatches) -> list[set[tuple[int, int]]]:
    """Connected keypoints (image, row), by the obvious way."""
    groups: list[set[tuple[int, int]]] = []
    for (i, j), found in matches.pairs.items():
        for a, b in found.indices.tolist():
            ends = {(i, a), (j, b)}
            touched = [group for group in groups if group & ends]
            groups = [group for group in groups if not group & ends] + [set.union(ends, *touched)]
    return groups


def test_equal_detections_make_one_track_a_point() -> None:
    raw, truth = folder(spread=0.0, noise=0.1)
    matches = identify(raw)
    assert [len(points) for points in matches.keypoints] == [POINTS] * IMAGES
    assert sorted(len(track) for track in tracks(matches)) == [IMAGES] * POINTS
    for points, true in zip(matches.keypoints, truth, strict=True):
        nearest = np.linalg.norm(points[:, None] - true[None], axis=2).min(1)
        assert nearest.max() < 0.1  # means of several measurements and the exact detection


def test_detections_that_disagree_stay_apart_as_tracks_of_their_own() -> None:
    raw, _ = folder(spread=3.0, noise=0.05)
    matches = identify(raw)
    found = tracks(matches)
    assert len(found) > 3 * POINTS  # nearly one for each detection of each image
    assert np.mean([len({image for image, _ in track}) for track in found]) > IMAGES - 0.5
    whole = [track for track in found if len({image for image, _ in track}) == len(track)]
    assert len(whole) > 0.95 * len(found)  # but where two detections happen to lie as near as the radius


def test_measurements_are_merged_by_confidence() -> None:
    points = [image(np.array([[50.0, 50.0]])) for _ in range(3)]

    def pair(back: float, there: float, confidence: float) -> PairMatches:
        row, sure = np.zeros(1, np.int32), np.full(1, confidence, np.float32)
        return PairMatches(row, row, *(np.array([[50 + x, 50]], np.float32) for x in (back, there)), sure, sure)

    raw = RawMatches(points, {(0, 1): pair(-0.2, 0.2, 0.9), (0, 2): pair(0, 0, 0.3), (1, 2): pair(0, 0, 0.3)})
    matches = identify(raw, IdentitySettings(least_pairs=2))
    # image 1: its detection (0.9 + 0.3), measured from 0 (0.9, at +0.2) and from 2 (0.3)
    assert matches.keypoints[1].tolist() == [[pytest.approx(50 + 0.9 * 0.2 / 2.4), 50]]
    assert matches.scores[1].tolist() == [pytest.approx(2.4)]


def test_what_does_not_come_back_or_is_seldom_measured_is_dropped() -> None:
    raw, _ = folder(spread=0.0, noise=0.0)
    bad = raw.pairs[0, 1]
    wrong = bad.points1.copy()
    wrong[:10] += 2.0
    lost = bad.confidence0.copy()
    lost[10:15] = 0
    pairs = {**raw.pairs, (0, 1): PairMatches(bad.cell0, bad.cell1, bad.points0, wrong, lost, bad.confidence1)}
    matches = identify(RawMatches(raw.images, pairs))
    assert len(matches.pairs[0, 1]) == POINTS - 15
    assert len(matches.pairs[0, 2]) == POINTS
    few = {(0, 1): raw.pairs[0, 1], **{pair: found for pair, found in raw.pairs.items() if 0 not in pair}}
    matches = identify(RawMatches(raw.images, few), IdentitySettings(least_pairs=4))
    assert len(matches.pairs[0, 1]) == POINTS  # image 0 has one partner, image 1 all four
    few[1, 2] = PairMatches(*(getattr(few[1, 2], name)[20:] for name in few[1, 2].__dataclass_fields__))
    matches = identify(RawMatches(raw.images, few), IdentitySettings(least_pairs=4))
    assert len(matches.pairs[1, 3]) == POINTS  # through image 3, which is measured in 3, as often as it can be
    assert len(matches.pairs[1, 2]) == POINTS - 20


def test_of_many_detections_the_most_confident_are_used() -> None:
    raw, _ = folder(spread=3.0, noise=0.0)
    sure = np.linspace(0.9, 0.1, POINTS).astype(np.float32)
    pairs = {pair: PairMatches(m.cell0, m.cell1, m.points0, m.points1, sure, sure) for pair, m in raw.pairs.items()}
    matches = identify(RawMatches(raw.images, pairs), IdentitySettings(radius=0, most=7))
    for (i, j), found in matches.pairs.items():
        assert len(found) == 14  # the seven of both images
        best = matches.keypoints[i][found.indices[:, 0]]
        nearest = np.linalg.norm(raw.images[i].points[None] - best[:, None], axis=2)
        assert (nearest.min(0) < 1e-4)[:7].all(), (i, j)


def test_no_keypoint_is_in_two_matches_of_a_pair_and_none_in_no_match() -> None:
    random = np.random.default_rng(3)
    raw, _ = folder(spread=1.0, noise=0.3)
    for mode in ("identity", "grid", "none"):
        matches = identify(raw, IdentitySettings(mode, radius=float(random.uniform(1, 6)), cycle=9.0))
        used: Sequence[set[int]] = [set() for _ in raw.images]
        for (i, j), found in matches.pairs.items():
            assert len(np.unique(found.indices[:, 0])) == len(np.unique(found.indices[:, 1])) == len(found)
            used[i].update(found.indices[:, 0].tolist())
            used[j].update(found.indices[:, 1].tolist())
        assert [sorted(rows) for rows in used] == [list(range(len(points))) for points in matches.keypoints]


def test_switched_off_each_match_has_points_of_its_own() -> None:
    raw, _ = folder(spread=0.0, noise=0.0)
    matches = identify(raw, IdentitySettings("none"))
    assert {len(track) for track in tracks(matches)} == {2}
    assert np.array_equal(matches.keypoints[0][:POINTS], raw.images[0].points)
    gridded = identify(raw, IdentitySettings("grid", radius=4.0))
    assert np.allclose((gridded.keypoints[1] + 0.5) % 4.0, 0)


def test_px_of_the_network_are_meant() -> None:
    raw, _ = folder(spread=0.0, noise=0.2)
    large = [image(10 * each.points, scale=10.0) for each in raw.images]
    pairs = {
        pair: PairMatches(m.cell0, m.cell1, 10 * m.points0, 10 * m.points1, m.confidence0, m.confidence1)
        for pair, m in raw.pairs.items()
    }
    small, big = identify(raw), identify(RawMatches(large, pairs))
    assert [len(points) for points in small.keypoints] == [len(points) for points in big.keypoints]


@pytest.mark.parametrize(
    "values", [{"mode": "maybe"}, {"radius": -1}, {"least_pairs": 0}, {"most": 0}, {"mode": "grid", "radius": 0}]
)
def test_settings_out_of_range_are_named(values: dict[str, object]) -> None:
    with pytest.raises(S2LDError, match=r"mode|radius"):
        IdentitySettings(**values)


@pytest.mark.parametrize("mode", ["identity", "grid", "none"])
def test_image_by_image_and_from_a_file_it_is_what_all_at_once_gives(mode: str, tmp_path: Path) -> None:
    raw, _ = folder(spread=1.0, noise=0.3)
    few = {pair: matches for pair, matches in raw.pairs.items() if pair != (1, 3)}
    settings = IdentitySettings(mode, radius=1.5, cycle=0.6, most=30)
    store = TableStore(tmp_path / "identity.db", [bytes([i]) for i in range(IMAGES)], {})
    found, expected = (
        identify(RawMatches(raw.images, few), settings, store),
        slow_identify(RawMatches(raw.images, few), settings),
    )
    assert list(found.pairs) == list(expected.pairs)
    for pair, matches in expected.pairs.items():
        assert np.array_equal(found.pairs[pair].indices, matches.indices)
        assert np.array_equal(found.pairs[pair].scores, matches.scores)
    for some, other in ((found.keypoints, expected.keypoints), (found.scores, expected.scores)):
        assert all(map(np.array_equal, some, other))
    assert sum(len(matches) for matches in found.pairs.values()) > 100


@pytest.mark.parametrize("mode", ["identity", "grid", "none"])
@pytest.mark.parametrize("seed", range(4))
def test_tables_and_matches_that_exist_only_grow(mode: str, seed: int, tmp_path: Path) -> None:
    """Photographs are added in any order and number; their names lie anywhere between the others."""
    random = np.random.default_rng(seed)
    raw, _ = folder(spread=1.0, noise=0.3, seed=seed)
    settings = IdentitySettings(mode, radius=0.8, cycle=0.7, most=int(random.integers(10, 50)))
    there: list[int] = []
    tables: dict[int, np.ndarray] = {}
    matches: dict[tuple[int, int], np.ndarray] = {}
    for new in np.split(random.permutation(IMAGES), [2, 3]):
        there = sorted([*there, *new.tolist()])
        pairs = {(there.index(i), there.index(j)): found for (i, j), found in raw.pairs.items() if {i, j} <= set(there)}
        store = TableStore(tmp_path / "identity.db", [bytes([i]) for i in there], {})
        grown = identify(RawMatches([raw.images[i] for i in there], pairs), settings, store)
        for number, image in enumerate(there):
            old = tables.get(image, np.zeros((0, 2)))
            tables[image] = grown.keypoints[number]
            assert np.array_equal(tables[image][: len(old)], old)
            assert len(grown.scores[number]) == len(tables[image])
        for (i, j), found in grown.pairs.items():
            pair = there[i], there[j]
            before = matches.get(pair, np.zeros((0, 2)))
            assert np.array_equal(found.indices[: len(before)], before)
            assert all(len(np.unique(rows)) == len(rows) for rows in found.indices.T)
            matches[pair] = found.indices
    used = {(pair[side], row) for pair, found in matches.items() for side in (0, 1) for row in found[:, side].tolist()}
    assert used == {(image, row) for image, points in tables.items() for row in range(len(points))}
    anew = identify(raw, settings)
    total, expected = sum(map(len, matches.values())), sum(map(len, anew.pairs.values()))
    assert total > 0.9 * expected > 100


def test_nothing_new_changes_nothing(tmp_path: Path) -> None:
    raw, _ = folder(spread=1.0, noise=0.3)
    store = TableStore(tmp_path / "identity.db", [bytes([i]) for i in range(IMAGES)], {})
    identify(raw, IdentitySettings(), store)
    before = (tmp_path / "identity.db").read_bytes()
    identify(raw, IdentitySettings(), store)
    assert before[100:] == (tmp_path / "identity.db").read_bytes()[100:]  # behind the header, which counts changes


def test_a_detection_that_is_measured_often_enough_later_brings_its_older_measurements(tmp_path: Path) -> None:
    raw, _ = folder(spread=0.0, noise=0.0)
    rows = slice(0, 20)
    few = {
        pair: PairMatches(*(getattr(m, name)[rows] for name in m.__dataclass_fields__))
        if 0 in pair and pair != (0, 4)
        else m
        for pair, m in raw.pairs.items()
    }
    settings = IdentitySettings(least_pairs=3)
    digests = [bytes([i]) for i in range(IMAGES)]
    first = {pair: few[pair] for pair in few if 4 not in pair}
    store = TableStore(tmp_path / "identity.db", digests[:4], {})
    assert len(identify(RawMatches(raw.images[:4], first), settings, store).pairs[1, 2]) == 20
    grown = identify(RawMatches(raw.images, few), settings, TableStore(tmp_path / "identity.db", digests, {}))
    assert len(grown.pairs[1, 2]) == len(grown.pairs[1, 4]) == POINTS
