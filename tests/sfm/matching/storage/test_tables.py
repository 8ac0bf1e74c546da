"""Tables in a file: whole changes, other orders of images, files of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from s2ld.errors import S2LDError
from s2ld.sfm.matching.storage.tables import IndexMatches, Table, TableStore

A, B, C = b"a", b"b", b"c"


def matches(*rows: tuple[int, int]) -> IndexMatches:
    return IndexMatches(np.array(rows, np.int32).reshape(-1, 2), np.full(len(rows), 0.5, np.float32))


def table() -> Table:
    rows = np.array([7], np.int32), np.array([0], np.int32)
    return Table(np.array([[1, 2]], np.float32), np.array([3], np.float32), *rows)


def test_images_and_pairs_are_found_in_another_order(tmp_path: Path) -> None:
    store = TableStore(tmp_path / "t.db", [A, B, C], {})
    with store.change():
        store.write_table(1, table())
        store.write_matches((0, 1), matches((5, 6), (7, 8)))
        store.write_matches((1, 2), matches())
    reopened = TableStore(tmp_path / "t.db", [B, A, b"d"], {})
    assert reopened.ids == [2, 1, 4]
    again = reopened.all()
    assert again.keypoints[0].tolist() == [[1, 2]]
    assert again.scores[0].tolist() == [3]
    assert len(again.keypoints[1]) == 0
    assert list(again.pairs) == [(0, 1)]
    assert again.pairs[0, 1].indices.tolist() == [[6, 5], [8, 7]]


def test_a_change_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = TableStore(tmp_path / "t.db", [A, B], {})

    def change() -> None:
        with store.change():
            store.write_matches((0, 1), matches((0, 0)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change()
    assert not store.all().pairs


def test_a_file_of_another_kind_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"no database " * 99)
    with pytest.raises(S2LDError, match=r"t\.db: cannot keep tables .*file is not a database.*delete it"):
        TableStore(tmp_path / "t.db", [A], {})


def test_tables_of_another_title_are_refused_and_the_difference_is_named(tmp_path: Path) -> None:
    TableStore(tmp_path / "t.db", [A], {"radius": 0.3, "mode": "identity"})
    with pytest.raises(
        S2LDError, match=r"t\.db: holds keypoints made otherwise \(radius 0.3 there, 0.4 now\).*--refit"
    ):
        TableStore(tmp_path / "t.db", [A], {"radius": 0.4, "mode": "identity"})
