"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from s2ld.config import build_config
from s2ld.errors import S2LDError, as_one_line
from s2ld.files import is_portable, make_folder, printable, read_text, whole_file, whole_folder
from s2ld.models.checkpoint import save_weights


def write_half(path: Path, stop: type[BaseException]) -> None:
    with whole_file(path) as part:
        part.write_text("half")
        raise stop


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    with whole_file(path) as part:
        part.write_text("old")
        assert not path.exists()
    assert path.read_text() == "old"
    for stop in (KeyboardInterrupt, ValueError):
        with pytest.raises(stop):
            write_half(path, stop)
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_may_be_read_by_whom_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "a.txt.part").touch(0o600)  # as a killed process leaves it
        with whole_file(tmp_path / "a.txt") as part:
            part.touch(0o600)  # as temporary files are made
        save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, build_config())
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "a.txt": mode,
        "w.safetensors": mode,
    }


def fill(folder: Path, text: str, stop: type[BaseException] | None = None) -> None:
    with whole_folder(folder) as part:
        (part / "sub").mkdir()
        (part / "sub/a.txt").write_text(text)
        if stop:
            raise stop


def test_a_folder_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sparse"
    fill(path, "old")
    (tmp_path / "new/sparse.part").mkdir()  # what a kill leaves
    for stop in (KeyboardInterrupt, ValueError):
        with pytest.raises(stop):
            fill(path, "half", stop)
    with pytest.raises(S2LDError, match=r"new/sparse: cannot write this folder"):
        fill(path, "half", OSError)
    assert (path / "sub/a.txt").read_text() == "old"
    fill(path, "new")
    assert (path / "sub/a.txt").read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["sparse"]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(S2LDError, match=r"file/a\.txt: cannot write this file"), whole_file(tmp_path / "file/a.txt"):
        pass
    with pytest.raises(S2LDError, match=r"folder: cannot write this file"), whole_file(tmp_path / "folder") as part:
        part.write_text("")
    for path in (tmp_path / "file", tmp_path / "file/sub"):
        with pytest.raises(S2LDError, match="cannot create this output folder"):
            make_folder(path)


def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # permissions do not bind the tests' user, root
    with pytest.raises(S2LDError, match="not writable"):
        make_folder(tmp_path)


def test_an_error_of_a_loader_process_is_cut_to_its_own_line() -> None:
    text = (
        "Caught S2LDError in DataLoader worker process 0.\nTraceback:\n  File x\ns2ld.errors.S2LDError: a.jpg: broken\n"
    )
    assert str(as_one_line(S2LDError(text))) == "a.jpg: broken"
    assert str(as_one_line(S2LDError("a.jpg: broken"))) == "a.jpg: broken"


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def move(source: Path, target: Path) -> None:
        done.append("moved")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", move)
    with whole_file(tmp_path / "folder/a.txt") as part:
        part.write_text("a")
    assert done == ["a.txt.part", "moved", "folder"]


@pytest.mark.parametrize("text", ["a.jpg b.jpg\r\n", "straße\n", ""])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a.txt").write_bytes(text.encode(encoding))
        assert read_text(tmp_path / "a.txt", "list", "check it") == text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a b\n".encode("utf-16"), "not a text file in UTF-8 but in UTF-16; save this list as UTF-8"),
        ("a b\n".encode("utf-16-be"), "not a text file in UTF-8, so no list; check it"),
        ("straße\n".encode("latin-1"), "not a text file in UTF-8"),
        (b"a.jpg\0 b.jpg\n", "not a text file in UTF-8"),
    ],
)
def test_what_is_no_text_is_said_in_one_line(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(S2LDError, match=rf"a\.txt: {words}") as caught:
        read_text(tmp_path / "a.txt", "list", "check it")
    assert "\n" not in str(caught.value)


def test_pipes_and_missing_files_are_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "a pipe or a device"),
        ("/dev/zero", "a pipe"),
        (tmp_path / "x", "No such"),
    ):
        with pytest.raises(S2LDError, match=f"cannot read this list .*{words}.*; check it"):
            read_text(path, "list", "check it")


def test_odd_names_are_printed_in_one_line() -> None:
    assert printable("fa\udce7ade\n\0.jpg") == "fa\\udce7ade\\n\\x00.jpg"
    assert printable("façade\u202f3.jpg") == "façade\u202f3.jpg"
    assert is_portable("façade\u202f 3.jpg")
    assert not any(map(is_portable, ("fa\udce7ade", "a\nb", "a\0b", "\ud800")))
