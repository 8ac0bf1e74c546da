"""A cache that is made pair by pair: what a kill, a full disk and changed settings do to it."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from full_disk import largest_file

from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.cache import (
    CacheHeader,
    PairPrediction,
    header_changes,
    read_cache,
    read_header,
)
from s2ld.evaluation.predictions.journal import Journal, read_title
from s2ld.evaluation.predictions.unfinished import Unfinished, complete_cache

PAIRS = 40
HEADER = CacheHeader("w", "0123456789abcdef", "posed_pairs", PAIRS, "model", "data", 0.05)
PATIENCE = 120  # s, for a machine that is busy with other things


def made(number: int, matches: int = 20) -> PairPrediction:
    values = np.random.default_rng(number).random((matches, 6), np.float32)
    K, scale, T = np.eye(3, dtype=np.float32), np.ones(2, np.float32), np.full((4, 4), np.nan, np.float32)
    arrays = (values[:, :2], values[:, 2:4], values[:, 4], values[:, 5], K, K, scale, scale, T)
    return PairPrediction(("a", f"{number}"), ((64, 48), (64, 48)), *arrays, source="made/up")


def assert_whole(path: Path, matches: int = 20) -> None:
    assert read_header(path) == HEADER
    for number, prediction in enumerate(read_cache(path)):
        expected = made(number, matches)
        assert (prediction.names, prediction.source) == (expected.names, "made/up")
        assert np.array_equal(prediction.points1, expected.points1)
        assert np.isnan(prediction.T_0to1).all()
    assert number == PAIRS - 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_cache import HEADER, PAIRS, made
from s2ld.evaluation.predictions.unfinished import complete_cache
from s2ld.log import logger

logger.enable("s2ld")
logger.add(sys.stdout, format="{message}")

def predict(todo):
    for number in todo:
        print(number, flush=True)
        yield made(number, 50000)

complete_cache(Path(sys.argv[1]), HEADER, predict)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """The child is killed at a random moment of its work on a pair: while it makes, writes or syncs it."""
    path, rng, last = tmp_path / "sub/predictions.h5", np.random.default_rng(), 0
    own = Path(__file__).parent
    command = [sys.executable, "-c", CHILD, str(path), str(own), str(own.parents[1] / "support")]
    for kill in (True, True, False):
        before, last = last, last + int(rng.integers(2, 9))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said = iter(child.stdout)
            if before:
                line, start = next(said), int(next(said))
                assert line.endswith(f".partial: going on after {start} of {PAIRS} pairs\n")
                assert start in (before, before + 1)
            if kill:
                next(line for line in said if int(line) == last)
                child.kill()
            child.communicate(timeout=PATIENCE)
        assert child.returncode == (-signal.SIGKILL if kill else 0)
        assert (read_header(path) is None) == kill
    assert_whole(path, 50000)


def test_a_journal_cut_or_spoilt_at_any_byte_keeps_the_whole_records_before(tmp_path: Path) -> None:
    path = tmp_path / "j"
    records, journal = [b"", b"ab", b"cdefg"], Journal(path, b"title")
    ends = [path.stat().st_size]
    for record in records:
        journal.append(record)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for place in range(ends[0], len(whole)):
        kept = sum(end <= place for end in ends) - 1
        spoilt = bytes(byte ^ (255 * (i == place)) for i, byte in enumerate(whole))
        for content in (whole[:place], spoilt):
            path.write_bytes(content)
            again = Journal(path, b"title")
            assert list(again) == records[:kept]
            again.append(b"new")
            assert list(Journal(path, b"title")) == [*records[:kept], b"new"]
    for place in range(ends[0]):
        path.write_bytes(whole[:place])
        assert list(Journal(path, b"title")) == []
        assert read_title(path) == b"title"
    path.write_bytes(whole)
    assert len(Journal(path, b"another")) == 0
    assert read_title(path) == b"another"


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "predictions.h5"
    starts: list[int] = []

    def predict(todo: Sequence[int]) -> Iterator[PairPrediction]:
        starts.append(todo[0])
        return map(made, todo)

    with (
        largest_file(100_000),
        pytest.raises(S2LDError, match=r"\.partial: cannot write more than .* \(File too large\)") as full,
    ):
        complete_cache(path, HEADER, predict)
    assert "\n" not in str(full.value)
    assert complete_cache(path, HEADER, predict)
    assert 3 < starts[1] < PAIRS
    assert f"the {starts[1]} records that it holds" in str(full.value)
    assert any(f"going on after {starts[1]} of {PAIRS} pairs" in line for line in told)
    assert_whole(path)


def test_a_full_disk_at_the_end_keeps_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "predictions.h5"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(todo: Sequence[int]) -> Iterator[PairPrediction]:
        yield from map(made, todo)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    try:
        with pytest.raises(S2LDError, match=r"predictions\.h5: cannot write this file \(File too large\)"):
            complete_cache(path, HEADER, full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not path.exists()
    assert complete_cache(path, HEADER, lambda todo: map(made, todo))
    assert_whole(path)


def test_ctrl_c_says_what_is_kept(tmp_path: Path) -> None:
    def interrupted(todo: Sequence[int]) -> Iterator[PairPrediction]:
        yield made(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="1 of 40 pairs are kept"):
        complete_cache(tmp_path / "predictions.h5", HEADER, interrupted)
    assert complete_cache(tmp_path / "predictions.h5", HEADER, lambda todo: map(made, todo))
    assert_whole(tmp_path / "predictions.h5")


def test_what_has_changed_is_named_and_predicted_anew(tmp_path: Path, told: list[str]) -> None:
    base, other = build_config(), build_config((), ["MODEL.MATCH.THRESHOLD", "0.5", "DATA.TEST_LONG_SIDE", "320"])
    old = replace(HEADER, pairs=2, model=str(base.MODEL.dump()), data=str(base.DATA.dump()))
    new = replace(old, digest="f" * 64, model=str(other.MODEL.dump()), data=str(other.DATA.dump()))
    assert header_changes(old, new) == [
        "digest ffffffffffff (was 0123456789ab)",
        "MODEL.MATCH.THRESHOLD 0.5 (was 0.2)",
        "DATA.TEST_LONG_SIDE 320 (was 640)",
    ]
    assert header_changes(old, replace(old, model="ratio: 0.8: *")) != []
    path = tmp_path / "predictions.h5"
    starts: list[int] = []

    def predict(todo: Sequence[int]) -> Iterator[PairPrediction]:
        starts.append(todo[0])
        return map(made, todo)

    assert complete_cache(path, old, predict)
    assert not complete_cache(path, old, predict)
    assert not told
    assert complete_cache(path, new, predict)
    assert any("predicting anew; changed: digest" in line for line in told)
    Journal(path.with_name("predictions.h5.partial"), b"half of another run").append(b"damaged")
    assert complete_cache(path, old, predict)
    assert starts == [0, 0, 0]


def test_a_journal_with_pairs_missing_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match=r"\.partial: holds 3 of 40 pairs"):
        complete_cache(tmp_path / "predictions.h5", HEADER, lambda todo: map(made, todo[:3]))
    assert read_header(tmp_path / "predictions.h5") is None


def test_pairs_of_several_journals_become_the_cache_that_one_process_makes(tmp_path: Path, told: list[str]) -> None:
    one, many = tmp_path / "one.h5", tmp_path / "ma[n]y.h5"
    complete_cache(one, HEADER, lambda todo: map(made, todo))
    for rank in range(3):  # the last one was killed early
        journal = Unfinished(many, HEADER)
        journal.begin(rank)
        for number in list(range(rank, PAIRS, 3))[: 2 if rank == 2 else None]:
            journal.add(number, made(number))
    stale = Unfinished(many, replace(HEADER, digest="another"))
    stale.begin(3)
    stale.add(0, made(1))
    left: list[int] = []

    def predict(todo: Sequence[int]) -> Iterator[PairPrediction]:
        left.extend(todo)
        return map(made, todo)

    assert complete_cache(many, HEADER, predict)
    assert left == list(range(8, PAIRS, 3))
    assert any(f"going on after {PAIRS - len(left)} of {PAIRS} pairs" in line for line in told)
    assert many.read_bytes() == one.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ma[n]y.h5", "one.h5"]
