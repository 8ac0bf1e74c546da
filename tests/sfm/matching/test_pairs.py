from itertools import combinations
from pathlib import Path

import pytest

from s2ld.errors import S2LDError
from s2ld.sfm.matching.pairs import (
    ROW,
    all_pairs,
    listed_pairs,
    neighbour_pairs,
    rows_of_pairs,
    sequential_pairs,
)


def test_all_and_sequential_pairs() -> None:
    assert all_pairs(3) == [(0, 1), (0, 2), (1, 2)]
    assert sequential_pairs(4, 2) == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]
    assert sequential_pairs(4, 99) == all_pairs(4)


def test_a_list_gives_each_pair_once_and_names_what_it_cannot_use(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("a.jpg b.jpg\n# comment\n\nb.jpg a.jpg\nd e.jpg\ta.jpg\na.jpg x.jpg\na.jpg\na.jpg a.jpg\n")
    pairs, refused = listed_pairs(path, ["a.jpg", "b.jpg", "d e.jpg"])
    assert pairs == [(0, 1), (0, 2)]
    assert [line.split(": ")[1] for line in refused] == [
        "no usable photograph of the name x.jpg",
        "a line must hold two names, not 1",
        "a photograph with itself",
    ]
    path.write_text("a.jpg x.jpg\n")
    with pytest.raises(S2LDError, match=r"no usable pair; the first line: .*x.jpg"):
        listed_pairs(path, ["a.jpg"])
    with pytest.raises(S2LDError, match="cannot read this list"):
        listed_pairs(tmp_path / "missing.txt", ["a.jpg"])


def test_rows_hold_all_pairs_of_one_photograph_each() -> None:
    rows = rows_of_pairs(all_pairs(30))
    assert sorted(pair for row in rows for pair in row) == list(combinations(range(30), 2))
    assert max(map(len, rows)) <= ROW
    assert all(len({first for first, _ in row}) == 1 for row in rows)


def test_neighbours_become_pairs_once() -> None:
    assert neighbour_pairs([[1, 2], [0], [2, 1]]) == [(0, 1), (0, 2), (1, 2)]
