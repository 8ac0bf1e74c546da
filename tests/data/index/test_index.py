"""Both forms of index files, and files that mean harm."""

from __future__ import annotations

import functools
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2ld.data.index.files import SceneIndex, Selection, narrow, read_index, read_indices, write_index
from s2ld.errors import S2LDError

SHARED = Path(__file__).resolve().parents[4] / "shared"


def objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def historical() -> dict[str, Any]:
    """Four slots, of which the second was dropped by a filter; two pairs."""
    rng = np.random.default_rng(0)
    K = [rng.random((3, 3)) for _ in range(4)]
    T = [rng.random((4, 4)).astype(np.float32) for _ in range(4)]
    return {
        "image_paths": objects(["s/a.jpg", None, "s/c.jpg", "s/d.jpg"]),
        "depth_paths": objects(["s/a.h5", None, "s/c.h5", None]),
        "intrinsics": objects([K[0], None, K[2], K[3]]),
        "poses": objects([T[0], None, T[2], T[3]]),
        "pair_infos": [
            (np.array([3, 0]), np.float64(0.25), np.array([1.0, 2.0, 3.0, 4.0])),
            ((np.int64(0), 2), 0.5, None),
        ],
    }


def check(index: SceneIndex) -> None:
    content = historical()
    assert index.image_paths.tolist() == ["s/a.jpg", "s/c.jpg", "s/d.jpg"]
    assert index.depth_paths.tolist() == ["s/a.h5", "s/c.h5", ""]
    assert index.pairs.tolist() == [[2, 0], [0, 1]]
    assert index.overlap.tolist() == [0.25, 0.5]
    for row, slot in enumerate((0, 2, 3)):
        assert np.array_equal(index.intrinsics[row], content["intrinsics"][slot])
        assert np.array_equal(index.poses[row], content["poses"][slot])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_historical_form_of_any_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "scene.npz"
    path.write_bytes(pickle.dumps(historical(), protocol))
    index = read_index(path)
    check(index)
    assert (index.name, index.angle_deg, len(index)) == ("scene", None, 2)


def test_historical_form_in_a_zip_of_object_arrays(tmp_path: Path) -> None:
    content = historical()
    content["pair_infos"] = objects(content["pair_infos"])
    with (tmp_path / "scene.npz").open("wb") as file:
        np.savez(file, **content)
    check(read_index(tmp_path / "scene.npz"))


def test_plain_form_survives_the_way_to_disk_and_needs_no_unpickling(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    angle = np.array([3.0, 30.0], np.float32)
    arrays = {field: getattr(old, field) for field in ("image_paths", "depth_paths", "intrinsics", "poses", "pairs")}
    write_index(SceneIndex("new", **arrays, overlap=old.overlap, angle_deg=angle), tmp_path / "new.npz")
    new = read_index(tmp_path / "new.npz")
    check(new)
    assert np.array_equal(new.angle_deg, angle)
    with np.load(tmp_path / "new.npz", allow_pickle=False) as plain:
        assert plain["pairs"].tolist() == [[2, 0], [0, 1]]


def test_select_filters_by_overlap_and_angle(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    assert old.select((0.3, 1.0)).tolist() == [1]
    assert old.select((0.0, 1.0), max_angle=1.0).tolist() == [0, 1]  # it tells no angle
    arrays = {field: getattr(old, field) for field in ("image_paths", "depth_paths", "intrinsics", "poses", "pairs")}
    new = SceneIndex("new", **arrays, overlap=old.overlap, angle_deg=np.array([3.0, 30.0], np.float32))
    assert new.select(max_angle=10.0).tolist() == [0]


def test_scale_ratios_survive_and_are_filtered_either_way(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    assert len(old.select(max_scale=1.0)) == 2  # it tells no scale
    for ratios, kept in (([2.0, 1.0], [1]), ([0.5, 1.4], [1]), ([1.0, 1.6], [0])):
        write_index(replace(old, scale_ratio=np.array(ratios, np.float32)), tmp_path / "new.npz")
        new = read_index(tmp_path / "new.npz")
        assert new.select(max_scale=1.5).tolist() == kept
        assert len(new.select()) == 2


def mapped(array: np.ndarray) -> bool:
    """Tell whether an array's bytes are those of a mapped file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


ARRAYS = ("image_paths", "depth_paths", "intrinsics", "poses", "pairs", "overlap")


def test_plain_form_is_mapped_and_is_pickled_as_its_path(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    assert not any(mapped(getattr(old, key)) for key in ARRAYS)
    many = replace(old, pairs=np.tile(old.pairs, (50_000, 1)), overlap=np.tile(old.overlap, 50_000))
    assert len(pickle.dumps(many)) > 500_000
    write_index(many, tmp_path / "new.npz")
    new = read_index(tmp_path / "new.npz")
    assert all(mapped(getattr(new, key)) for key in ARRAYS)
    assert not any(getattr(new, key).flags.writeable for key in ARRAYS)
    assert len(pickle.dumps(new)) < 1000
    again = pickle.loads(pickle.dumps(new))
    assert all(
        mapped(getattr(again, key)) and np.array_equal(getattr(again, key), getattr(many, key)) for key in ARRAYS
    )
    changed = pickle.loads(pickle.dumps(replace(new, name="other")))  # is no longer what the file says
    assert changed.name == "other"


def test_numbers_take_few_bytes(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    assert (old.pairs.dtype, old.overlap.dtype) == (np.uint8, np.float32)
    assert [narrow(np.array([0]), limit).dtype for limit in (256, 257, 65536, 65537)] == [
        *(np.uint8, np.uint16, np.uint16, np.uint32)
    ]


def test_a_selection_holds_no_rows(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    many = replace(old, pairs=np.tile(old.pairs, (50_000, 1)), overlap=np.tile(old.overlap, 50_000))
    write_index(many, tmp_path / "many.npz")
    chosen = Selection(read_index(tmp_path / "many.npz"), (0.3, 1.0), 180.0)
    assert (len(chosen), chosen[0], chosen[-1]) == (50_000, 1, 99_999)
    assert np.array_equal(chosen.rows(), many.select((0.3, 1.0)))
    assert chosen.rows().dtype == np.uint32
    assert len(pickle.dumps(chosen)) < 1000


def test_changed_bytes_of_a_plain_file_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    write_index(read_index(tmp_path / "old.npz"), tmp_path / "new.npz")
    data = bytearray((tmp_path / "new.npz").read_bytes())
    place = data.index("s/c.jpg".encode("utf-32-le"))
    data[place] += 1
    (tmp_path / "new.npz").write_bytes(data)
    with pytest.raises(S2LDError, match=r"new\.npz.*image_paths"):
        read_index(tmp_path / "new.npz")


def test_compressed_plain_form_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    np.savez_compressed(tmp_path / "small.npz", **{key: getattr(old, key) for key in ARRAYS})
    check(read_index(tmp_path / "small.npz"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pairs", np.array([[0.0, 1.0], [1.0, 2.0]]), "whole numbers"),
        ("pairs", np.array([0, 1]), "shape"),
        ("image_paths", np.array([1, 2, 3]), "texts"),
        ("image_paths", np.array(["a", "b", "c"])[:, None], "texts"),
        ("depth_paths", np.array([b"a", b"b", b"c" * 5000]), "texts of at most 4096 characters"),
        ("poses", np.tile(np.eye(4) + 0j, (3, 1, 1)), "must be numbers"),
        ("overlap", np.array([0.5, np.nan]), "overlap of pair 1 is nan"),
        ("angle_deg", np.array([np.nan, 5.0]), "angle_deg of pair 0 is nan"),
        ("scale_ratio", np.array([1.0, np.inf]), "scale_ratio of pair 1 is inf"),
        ("overlap", np.array(["a", "b"]), "floating"),
        ("overlap", np.zeros(3, np.float32), "2 pairs"),
        ("angle_deg", np.zeros(3, np.float32), "angle_deg"),
        ("scale_ratio", np.ones(3, np.float32), "scale_ratio"),
        ("image_sizes", np.array([[8, 8]]), "image_sizes"),
        ("image_sizes", np.array([[8, 8], [8, 0], [8, 8]]), "image_sizes"),
    ],
)
def test_inconsistent_plain_index_is_told_in_one_line(tmp_path: Path, key: str, value: np.ndarray, words: str) -> None:
    (tmp_path / "old.npz").write_bytes(pickle.dumps(historical()))
    old = read_index(tmp_path / "old.npz")
    np.savez(tmp_path / "bad.npz", **{**{key: getattr(old, key) for key in ARRAYS}, key: value})
    with pytest.raises(S2LDError, match=words) as error:
        read_index(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


def test_size_of_the_intrinsics_image_is_known_for_megadepth_only(tmp_path: Path) -> None:
    content = historical()
    for K in content["intrinsics"]:
        if K is not None:
            K[:2, 2] = 320, 239.5
    (tmp_path / "other.npz").write_bytes(pickle.dumps(content))
    assert read_index(tmp_path / "other.npz").image_sizes is None
    names = [path and f"Undistorted_SfM/0000/images/{Path(path).name}" for path in content["image_paths"]]
    content["image_paths"] = objects(names)
    (tmp_path / "own.npz").write_bytes(pickle.dumps(content))
    own = read_index(tmp_path / "own.npz")
    assert own.image_sizes is not None
    assert own.image_sizes.tolist() == [[640, 479]] * 3
    write_index(own, tmp_path / "plain.npz")
    assert np.array_equal(read_index(tmp_path / "plain.npz").image_sizes, own.image_sizes)
    content["intrinsics"][0][0, 2] = 320.2
    (tmp_path / "moved.npz").write_bytes(pickle.dumps(content))
    assert read_index(tmp_path / "moved.npz").image_sizes is None


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("form", ["pickle", "zip"])
@pytest.mark.parametrize("function", ["system", "eval", "load", "partial", "getattr"])
def test_hostile_file_is_refused_and_nothing_in_it_runs(tmp_path: Path, form: str, function: str) -> None:
    trace = tmp_path / "trace"
    call = {
        "system": Call(os.system, f"touch {trace}"),
        "eval": Call(eval, f"open({str(trace)!r}, 'w')"),
        "load": Call(np.load, str(trace)),
        "partial": Call(functools.partial(open, str(trace), "w")),
        "getattr": Call(getattr, Call(Path, str(trace)), "touch"),
    }[function]
    path = tmp_path / "evil.npz"
    if form == "pickle":
        path.write_bytes(pickle.dumps({**historical(), "extra": call}))
    else:
        with path.open("wb") as file:
            np.savez(file, image_paths=objects([call]))
    with pytest.raises(S2LDError) as refused:
        read_index(path)
    message = str(refused.value)
    assert str(path) in message
    assert f".{function}" in message
    assert "\n" not in message
    assert not trace.exists()


@pytest.mark.parametrize(
    "value",
    [
        Call(np.ndarray, (1,), np.dtype("f8")),  # numpy's constructors are not for a file to call
        np.zeros(1, [("a", object)]),  # nor may it invent fields
        np.dtype("M8[s]"),
        Call(np.frombuffer, b"12345678", "O"),
    ],
)
def test_only_plain_arrays_are_made(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "odd.npz"
    path.write_bytes(pickle.dumps({**historical(), "extra": value}))
    with pytest.raises(S2LDError, match=r"odd\.npz"):
        read_index(path)


def broken(change: str) -> Any:
    content = historical()
    if change == "empty":
        content["pair_infos"] = []
    elif change == "no poses":
        del content["poses"]
    elif change == "outside":
        content["pair_infos"] = [((0, 4), 0.5, None)]
    elif change == "dropped":
        content["pair_infos"] = [((0, 1), 0.5, None)]
    elif change == "misshapen":
        content["poses"][0] = np.eye(3)
    elif change == "not finite":
        content["intrinsics"][0] = np.full((3, 3), np.nan)
    elif change == "no focal length":
        content["intrinsics"][0] = np.zeros((3, 3))
    elif change == "unlike lengths":
        content["poses"] = content["poses"][:3]
    elif change == "NaN overlap":
        content["pair_infos"][1] = ((0, 2), np.nan, None)
    elif change == "long path":
        content["image_paths"][0] = "x" * 10**6
    elif change == "number for path":
        content["image_paths"][0] = 5
    elif change == "large pair":
        content["pair_infos"] = [(np.zeros(10**6), 0.5, None)] * 10**5
    elif change == "large pose":
        content["poses"][0] = np.zeros((1000, 1000), np.float32)
    elif change == "list":
        return [content]
    return content


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("empty", "no pair"),
        ("no poses", "'poses'"),
        ("outside", "outside of 0 to 3"),
        ("dropped", "without path"),
        ("misshapen", "4 x 4"),
        ("not finite", "finite"),
        ("no focal length", "focal length is not positive"),
        ("unlike lengths", "unlike lengths"),
        ("NaN overlap", "overlap of pair 1 is nan"),
        ("long path", "texts of at most 4096"),
        ("number for path", "texts of at most 4096"),
        ("large pair", "too many values"),
        ("large pose", "4 x 4"),
        ("list", "not a list"),
    ],
)
def test_inconsistent_index_is_told_in_one_line(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "scene.npz"
    path.write_bytes(pickle.dumps(broken(change)))
    with pytest.raises(S2LDError, match=words) as error:
        read_index(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = pickle.dumps(historical())
    with (tmp_path / "whole.npz").open("wb") as file:
        np.savez(file, pairs=np.zeros((1, 2), int))
    zipped = (tmp_path / "whole.npz").read_bytes()
    for number, data in enumerate([whole[: len(whole) // 2], b"", b"no index", zipped[: len(zipped) // 2]]):
        path = tmp_path / f"damaged{number}.npz"
        path.write_bytes(data)
        with pytest.raises(S2LDError, match=f"damaged{number}"):
            read_index(path)
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("pairs.npy", "no array")
    with pytest.raises(S2LDError, match=r"text\.npz"):
        read_index(tmp_path / "text.npz")
    with pytest.raises(S2LDError, match="absent"):
        read_index(tmp_path / "absent.npz")


def test_folder_and_list_of_scenes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.npz").write_bytes(pickle.dumps(historical()))
    assert [index.name for index in read_indices(tmp_path)] == ["a", "b"]
    (tmp_path / "list.txt").write_text("b\n")
    assert [index.name for index in read_indices(tmp_path, tmp_path / "list.txt")] == ["b"]
    with pytest.raises(S2LDError, match="no index file"):
        read_indices(tmp_path / "nowhere")
    with pytest.raises(S2LDError, match=r"other\.txt"):
        read_indices(tmp_path, tmp_path / "other.txt")
    with pytest.raises(S2LDError, match=r"a\.npz: not a text file"):
        read_indices(tmp_path, tmp_path / "a.npz")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_the_real_megadepth_1500_index() -> None:
    folder = SHARED / "megadepth_test_1500_scene_info"
    scenes = read_indices(folder, folder / "megadepth_test_1500.txt")
    assert [len(scene) for scene in scenes] == [300] * 5
    for scene in scenes:
        low, high = (float(part) for part in scene.name.split("_")[1:])
        assert len(scene.select((low, high))) == 300
        rotations = scene.poses[:, :3, :3]
        assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-6


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_both_forms_of_real_scenes_agree() -> None:
    plain, old = read_indices(SHARED / "real_scenes/index"), read_indices(SHARED / "real_scenes/index_pickled")
    assert sum(len(scene) for scene in plain) == 4719
    for new, other in zip(plain, old, strict=True):
        assert new.angle_deg is not None
        assert other.angle_deg is None
        for field in ("image_paths", "depth_paths", "intrinsics", "poses", "pairs"):
            assert np.array_equal(getattr(new, field), getattr(other, field)), field
        assert np.allclose(new.overlap, other.overlap)
