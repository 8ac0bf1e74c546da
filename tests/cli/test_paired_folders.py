"""Which images of two folders belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.cli.match.pairs import pairs_from_folders, unread_pictures
from s2ld.errors import S2LDError


def folders(root: Path, left: str, right: str) -> tuple[Path, Path]:
    for name, files in (("left", left), ("right", right)):
        (root / name).mkdir()
        for file in files.split():
            (root / name / file).touch()
    return root / "left", root / "right"


def paired(root: Path, left: str, right: str) -> tuple[list[tuple[str, str]], list[str]]:
    pairs, alone = pairs_from_folders(*folders(root, left, right))
    return [(a.name, b.name) for a, b in pairs], [line.replace(f"{root}/", "") for line in alone]


def test_equal_file_names_come_before_equal_stems(tmp_path: Path) -> None:
    pairs, alone = paired(tmp_path, "v1.jpg v1.png v2.jpg v3.png", "v1.jpg v2.jpg v3.jpg")
    assert pairs == [("v1.jpg", "v1.jpg"), ("v2.jpg", "v2.jpg"), ("v3.png", "v3.jpg")]
    assert alone == ["left/v1.png: no image of this name in right"]


def test_one_stem_that_is_left_in_each_folder_is_a_pair(tmp_path: Path) -> None:
    pairs, alone = paired(tmp_path, "a.jpg a.png", "a.jpg a.tif")
    assert pairs == [("a.jpg", "a.jpg"), ("a.png", "a.tif")]
    assert alone == []


def test_what_names_do_not_tell_is_named_and_not_guessed(tmp_path: Path) -> None:
    pairs, alone = paired(tmp_path, "a.png a.tif b.jpg", "a.jpg b.jpg c.jpg")
    assert pairs == [("b.jpg", "b.jpg")]
    assert [line.split(":")[0] for line in alone] == ["left/a.png", "left/a.tif", "right/a.jpg", "right/c.jpg"]
    assert "a.png and a.tif of left or a.jpg of right, their names do not tell" in alone[0]
    assert "no image of this name in left" in alone[3]


def test_nothing_but_doubt_is_an_error_and_no_sorted_order(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match=r"a\.png: which images belong together.*--pairs"):
        paired(tmp_path, "a.png a.tif", "a.jpg b.jpg")


def test_pictures_that_are_not_read_are_named(tmp_path: Path) -> None:
    left, right = folders(tmp_path, "a.jpg b.gif", "a.jpg")
    pairs, alone = pairs_from_folders(left, right)
    assert len(pairs) == 1
    assert alone == unread_pictures(left)
    assert alone[0].startswith(f"{left}/b.gif: ")
    assert unread_pictures(right) == []
