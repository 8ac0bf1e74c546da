"""HDF5 files on a full disk, and those that lead elsewhere or declare what they do not hold."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from full_disk import largest_file

from s2ld.data.images.photo_files import PhotoFiles, UnreadableError, depth_map, depth_shape, read_depth
from s2ld.data.synthetic.export import _write_view
from s2ld.data.synthetic.render import Rendered
from s2ld.data.teacher import TeacherFile, TeacherInfo, TeacherWriter
from s2ld.errors import S2LDError
from s2ld.evaluation.predictions.cache import read_cache
from s2ld.evaluation.predictions.record_files import HlocFiles, PairGroups
from s2ld.hdf5 import new_hdf5, read_array, read_hdf5
from s2ld.sfm.depth.depth_maps import _write as write_depth_map
from s2ld.training.consensus.cache import read_pair

NOISE = np.random.default_rng(0).random((64, 64)).astype(np.float32)
INFO = TeacherInfo("toy", "nobody", "CC0", "0" * 64, 4, 50)


def write(path: Path, size: int | None) -> None:
    with new_hdf5(path, size) as file:
        for name in "abcdefgh":
            file.create_group(name)["values"] = NOISE


def write_view(path: Path) -> None:
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    _write_view(Rendered(image, torch.from_numpy(NOISE)[None]), path.with_suffix(".jpg"), path)


WRITERS: list[Callable[[Path], None]] = [
    lambda path: write(path, None),
    lambda path: write(path, 8 * NOISE.nbytes),
    lambda path: write_depth_map(path, NOISE, {"key": "a"}),
    write_view,
]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("room", [0, 1500, 12_000])
def test_a_full_disk_is_one_line_and_the_old_file_stays(
    tmp_path: Path, writer: Callable[[Path], None], room: int
) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"old")
    path.with_suffix(".jpg").write_bytes(b"")
    with largest_file(room), pytest.raises(S2LDError, match=r"a\.(h5|jpg): cannot write this file \(File too large\)"):
        writer(path)
    assert path.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.h5", "a.jpg"]
    writer(path)
    with read_hdf5(path, "") as file:
        assert len(file)


def write_half(path: Path, size: int | None) -> None:
    with new_hdf5(path, size) as file:
        file["a"] = NOISE
        raise KeyboardInterrupt


@pytest.mark.parametrize("size", [None, 8 * NOISE.nbytes])
def test_what_is_written_is_read(tmp_path: Path, size: int | None) -> None:
    path = tmp_path / "new" / "a.h5"
    write(path, size)
    with read_hdf5(path, "") as file:
        assert sorted(file) == list("abcdefgh")
        np.testing.assert_array_equal(read_array(file, "h/values"), NOISE)
    assert path.stat().st_size < 2**18  # what was reserved and not used is given back


def test_a_writer_that_stops_leaves_nothing(tmp_path: Path) -> None:
    for size in (None, 1000):
        with pytest.raises(KeyboardInterrupt):
            write_half(tmp_path / "a.h5", size)
    assert not list(tmp_path.iterdir())


def test_descriptors_on_a_full_disk_are_kept_photograph_by_photograph(tmp_path: Path) -> None:
    path, points, found = tmp_path / "t.h5", NOISE[:, :2].copy(), NOISE[:, :4].copy()
    with largest_file(100), pytest.raises(S2LDError, match=r"t\.h5: cannot write this file \(File too large\)"):
        TeacherWriter(path, INFO)
    writer = TeacherWriter(path, INFO)
    writer.write("a/1.jpg", (64, 64), points, found)
    with (
        largest_file(path.stat().st_size),
        pytest.raises(S2LDError, match=r"t\.h5: no room for a/2\.jpg \(File too large\); make room .* goes on"),
    ):
        writer.write("a/2.jpg", (64, 64), points, found)
    writer.close()
    again = TeacherWriter(path, INFO)
    assert ("a/1.jpg" in again, "a/2.jpg" in again) == (True, False)
    again.write("a/2.jpg", (64, 64), points, found)
    again.close()
    np.testing.assert_array_equal(TeacherFile(path, 9).read("a/2.jpg", (64, 64)).points, points)


def external_link(file: h5py.File, name: str, secret: Path) -> None:
    file[name] = h5py.ExternalLink(str(secret), "/depth")


def soft_link(file: h5py.File, name: str, secret: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
    file[name] = h5py.SoftLink("/elsewhere/depth")


def external_storage(file: h5py.File, name: str, secret: Path) -> None:
    file.create_dataset(name, (8, 8), np.float32, external=[(str(secret), 0, 256)])


def virtual(file: h5py.File, name: str, secret: Path) -> None:
    layout = h5py.VirtualLayout((8, 8), np.float32)
    layout[:] = h5py.VirtualSource(str(secret), "depth", (8, 8))
    file.create_virtual_dataset(name, layout)


KINDS = [external_link, soft_link, external_storage, virtual]


def read_view_depth(path: Path) -> None:
    read_depth(PhotoFiles(path, path, (8, 8), ("a", "a")), (8, 8))


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("depth", depth_map),
    ("depth", read_view_depth),
    ("a/b/points0", lambda path: PairGroups(path).read("a/b", "a", "b")),
    ("a/keypoints", lambda path: HlocFiles(path, path).read("a/b", "a", "b")),
    ("00000000/points0", lambda path: list(read_cache(path))),
    ("00000000/points0", lambda path: read_pair(path, 0)),
    ("a/points", lambda path: TeacherFile(path, 9).read("a", (8, 8))),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "reader"), READERS)
def test_other_files_are_not_read(
    tmp_path: Path, kind: Callable[[h5py.File, str, Path], None], name: str, reader: Callable[[Path], object]
) -> None:
    secret, path = tmp_path / "secret.h5", tmp_path / "a.h5"
    with h5py.File(secret, "w") as file:
        file["depth"] = np.ones((8, 8), np.float32)
    with h5py.File(path, "w") as file:
        file.attrs.update({**INFO.__dict__, "header": "{}"})
        group = file.require_group(name).parent
        del file[name]
        group.attrs.update({"names": ["a", "b"], "sizes": [[8, 8]] * 2, "source": "", "size": (8, 8)})
        file.require_group("a/b")["matches0"] = np.zeros(8, int)
        kind(file, name, secret)
    with pytest.raises(S2LDError, match=r"a\.h5: .*(another file|other files)") as refused:
        reader(path)
    assert "\n" not in str(refused.value)


def test_links_within_a_file_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["group/depth"] = NOISE
        file["group/near"] = h5py.SoftLink("depth")
        file["depth"] = h5py.SoftLink("/group/near")
        file["ring"] = h5py.SoftLink("/ring")
    np.testing.assert_array_equal(depth_map(path), NOISE)
    with pytest.raises(S2LDError, match="ring is behind too many links"), read_hdf5(path, "") as file:
        read_array(file, "ring")


def test_depth_of_any_declared_shape_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("depth", (2**20, 2**20), np.float32, chunks=(64, 64), compression="gzip")
    with pytest.raises(S2LDError, match=r"a\.h5: .*\(1048576, 1048576\) is too large"):
        depth_map(path)
    for read in (depth_shape, lambda files: read_depth(files, None)):
        with pytest.raises(UnreadableError, match="is too large") as refused:
            read(PhotoFiles(path, path, None, ("a", "a")))
        assert refused.value.problem == "depth undecodable"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(S2LDError, match=r"a\.h5: no such file; a depth map is"):
        depth_map(tmp_path / "a.h5")


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("depth", data=NOISE, compression="gzip")
    whole, rng, told = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, 2500, 3):
            data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            depth_map(path)
        except S2LDError as error:
            told.append(str(error))
    assert len(told) > 50
    assert all("a.h5" in line and "\n" not in line for line in told)
