"""A folder matched in shares, by jobs of their own and by the processes of one run, is that of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_match_folder import SETTINGS
from test_match_folder import photos as photos

from s2ld.cli.match.folder import script
from s2ld.errors import S2LDError
from s2ld.sfm.matching.match_folder import MatchedFolder, match_folder
from s2ld.sfm.matching.shares import Share, match_shard

SOURCES = str(Path(__file__).parents[3] / "src")
BY_RETRIEVAL = replace(SETTINGS, pairs="retrieval", neighbours=2)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are rounded otherwise with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> MatchedFolder:
    """What one process makes of the folder."""
    return match_folder(photos, tmp_path_factory.mktemp("alone"), BY_RETRIEVAL)


def assert_same(done: MatchedFolder, expected: MatchedFolder) -> None:
    assert list(done.matches.pairs) == list(expected.matches.pairs)
    for pair, matches in expected.matches.pairs.items():
        assert np.array_equal(done.matches.pairs[pair].indices, matches.indices)
    assert all(map(np.array_equal, done.matches.keypoints, expected.matches.keypoints))


def test_three_shards_make_what_one_process_makes(photos: Path, alone: MatchedFolder, tmp_path: Path) -> None:
    merge = replace(BY_RETRIEVAL, merge=True)
    with pytest.raises(S2LDError, match="4 of 4 photographs are left; run the shards that have not ended"):
        match_folder(photos, tmp_path, merge)
    counts = [match_shard(photos, tmp_path, BY_RETRIEVAL, Share(number, 3)) for number in (2, 0)]
    with pytest.raises(S2LDError, match=r"\d of \d pairs are left; run the shards"):
        match_folder(photos, tmp_path, merge)
    counts.append(match_shard(photos, tmp_path, BY_RETRIEVAL, Share(1, 3)))
    assert sum(counts) == len(alone.raw.pairs)
    assert_same(match_folder(photos, tmp_path, merge), alone)
    assert not (tmp_path / "features.cache").exists()


def test_two_processes_make_what_one_makes(photos: Path, alone: MatchedFolder, tmp_path: Path) -> None:
    command = ["match-folder", photos, tmp_path, "--pairs", "retrieval", "--neighbours", 2, "--resize", 320]
    several = ["--devices", 2, "--accelerator", "cpu"]
    environment = {**os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "s2ld", *map(str, (*command, *several))],
        env=environment, check=False, capture_output=True, text=True, timeout=300, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("4 photographs, 0 rejected;")
    assert done.stdout.count("photographs") == 1  # one process reports
    journals = [tmp_path / "matches.journal", tmp_path / "matches.journal-1"]
    assert all(path.stat().st_size > 100_000 for path in journals)  # both have matched
    again = match_folder(photos, tmp_path, replace(BY_RETRIEVAL, merge=True))
    assert_same(again, alone)


def test_a_share_that_another_process_writes_is_left_alone(
    photos: Path, tmp_path: Path, take_output: Callable[[Path], None]
) -> None:
    (tmp_path / "matches.journal-1of3").touch()
    take_output(tmp_path / "matches.journal-1of3")
    with pytest.raises(S2LDError, match=r"1of3: another process is writing"):
        match_shard(photos, tmp_path, SETTINGS, Share(0, 3))
    (tmp_path / "whole").mkdir()
    take_output(tmp_path / "whole")
    with pytest.raises(S2LDError, match="another process is writing"):
        match_shard(photos, tmp_path / "whole", SETTINGS, Share(0, 3))


def test_shares_are_all_there_is_and_nothing_twice() -> None:
    items = list(range(10))
    for count in (1, 3, 10, 12):
        shares = [Share(number, count) for number in range(count)]
        assert [item for share in shares for item in share.of(items)] == items
        for share in shares:
            order = share.first(items)
            assert sorted(order) == items
            assert order[: len(share.of(items))] == list(share.of(items))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--shard", "0/3"], "--shard 0/3: give I/N"),
        (["--shard", "4"], "--shard 4: give I/N"),
        (["--devices", "2", "--shard", "1/2"], "--shard is of one process; leave it out"),
        (["--devices", "2", "--jobs", "2"], "--jobs is of one process; leave it out"),
        (["--devices", "0"], "--devices 0: give a number of processes from 1"),
        (["--num-nodes", "0"], "--num-nodes 0: give a number of machines from 1"),
    ],
)
def test_bad_numbers_of_processes_are_one_line(
    options: list[str], line: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script([str(photos), str(tmp_path), *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"s2ld match-folder: {line}")
