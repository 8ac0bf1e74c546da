"""Training data in archives that a narrow way lets through: photographs and scenes, made smaller, in parts.

What lies in ``../shared`` here lies in ``../shared`` there after `unpack`, so that the same configs work.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from s2ld.config import CN
from s2ld.data.images import UInt8Image, read_image, resize
from s2ld.data.index import SceneIndex, read_indices, write_index
from s2ld.data.megadepth import MegaDepthFiles, megadepth_files
from s2ld.data.photo_files import Size, nearest, photo_files, present_depth, present_image, read_depth
from s2ld.data.photo_folders import list_photos
from s2ld.errors import S2LDError
from s2ld.files import whole_file
from s2ld.geometry.camera import rescale_intrinsics
from s2ld.parts import MANIFEST, Part, check, describe, read_manifest, write_manifest

NAME = "training"
"""Beginning of the archives' names."""
MARKS = "shared/packs"
"""Folder in which each unpacked archive leaves an empty file of its name."""
_BLOCK = 512  # bytes: a tar's header of a member, and what members are filled up to
_END = 20 * _BLOCK  # bytes: a tar's end, and its filling


@dataclass(frozen=True)
class Recoding:
    """How photographs are made smaller."""

    long_side: int
    """Longer side at most, px; depth maps and intrinsics follow. 0: as they are."""
    quality: int
    """Of JPEG; an image that it would not make smaller stays as it is."""


def stage(data: CN, root: Path, recoding: Recoding, sets: Sequence[CN] = ()) -> None:
    """Write photographs, training and validation scenes, light and posed pairs of a config below `root`.

    Args:
        data: the DATA node; its paths begin with ``../``.
        sets: the DATA nodes of its validation sets (DATA.VAL_SETS), of which what they test is written.
        root: stands for ``..``.
        recoding: of photographs and scenes; the others stay as they are.

    Raises:
        S2LDError: a path that lies elsewhere, or what the readers say of the files.
    """
    if data.PHOTOS:
        _stage_photos(Path(data.PHOTOS), data.PHOTOS_EXCLUDE, root, recoding)
    splits = [(files, data) for split in ("train", "val") for files in megadepth_files(data, split)]
    splits = splits if "megadepth" in data.TRAIN_SOURCES else []
    splits += [(files, own) for own in sets if own.TEST_SOURCE == "megadepth" for files in megadepth_files(own, "test")]
    for files, own in splits:
        for index in read_indices(files.index, files.scenes):
            _stage_scene(files, index, own.MEGADEPTH, root, recoding)
    folders = [data.LIGHT.ROOT] if "light" in (*data.TRAIN_SOURCES, *data.VAL_SOURCES) else []
    folders += [data.POSED_PAIRS.ROOT] if "posed_pairs" in data.VAL_SOURCES else []
    folders += [own.LIGHT.ROOT for own in sets if own.TEST_SOURCE == "light"]
    folders += [own.POSED_PAIRS.ROOT for own in sets if own.TEST_SOURCE == "posed_pairs"]
    for source in map(Path, dict.fromkeys(folders)):
        _copy(sorted(path for path in source.rglob("*") if path.is_file()), source, root / _place(source))


def pack(root: Path, folder: Path, size: int) -> Path:
    """Write all files below `root` into archives of at most `size` bytes in `folder` and return their list.

    Archives of an earlier call go.

    Raises:
        S2LDError: there is no file, one is larger than an archive, or `folder` cannot be written.
    """
    shares: list[list[Path]] = [[]]
    room = size - _END - _BLOCK
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        need = _BLOCK + -(-path.stat().st_size // _BLOCK) * _BLOCK
        if need > size - _END - _BLOCK:
            raise S2LDError(f"{path.name}: {need} bytes do not fit into an archive of {size}; allow larger ones")
        if need > room:
            shares.append([])
            room = size - _END - _BLOCK
        shares[-1].append(path)
        room -= need
    if not shares[0]:
        raise S2LDError(f"{root}: there is nothing to pack")
    for old in folder.glob(f"{NAME}-*.tar"):
        old.unlink()
    parts = []
    for number, share in enumerate(shares, 1):
        archive = folder / f"{NAME}-{number}of{len(shares)}.tar"
        with whole_file(archive) as part, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for path in share:
                tar.add(path, path.relative_to(root).as_posix())
            tar.addfile(tarfile.TarInfo(f"{MARKS}/{archive.name}"))
        parts.append(asdict(describe(archive)))
    return write_manifest(folder / (NAME + MANIFEST), {"parts": parts})


def unpack(manifest: Path, root: Path) -> list[str]:
    """Unpack the archives that are beside their list, each checked, and return those that still have to come.

    Raises:
        S2LDError: the list is none, an archive is damaged, or `root` cannot be written.
    """
    parts = [Part(**part) for part in read_manifest(manifest)["parts"]]
    for part in parts:
        archive = manifest.parent / part.name
        if not archive.is_file():
            continue
        check(archive, part)
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(root, filter="data")
        except OSError as error:
            raise S2LDError(f"{root}: cannot unpack {archive} here ({error.strerror}); choose another") from error
    return [part.name for part in parts if not (root / MARKS / part.name).is_file()]


def _place(path: Path) -> PurePosixPath:
    """Return where a path of the config lies below ``..``."""
    parts = PurePosixPath(path.as_posix()).parts
    if parts[:1] != ("..",) or ".." in parts[1:]:
        raise S2LDError(f"{path}: only data beside the checkout (../...) can be packed; link it there")
    return PurePosixPath(*parts[1:])


def _stage_photos(source: Path, exclude: Sequence[str], root: Path, recoding: Recoding) -> None:
    photos = [path for path in list_photos(source, deeper=False).photos if not path.name.startswith(tuple(exclude))]
    for path in tqdm(photos, desc="photographs", unit="file"):
        _write(root / _place(source) / path.name, _recoded(path, recoding)[0])


def _stage_scene(files: MegaDepthFiles, index: SceneIndex, node: CN, root: Path, recoding: Recoding) -> None:
    """Write a scene's images, depth maps and index, its intrinsics those of the images as written."""
    centre = 0.5 if node.PRINCIPAL_POINT == "half" else 0.0  # of the first pixel, as the index counts
    intrinsics, sizes = index.intrinsics.copy(), np.zeros((len(index.image_paths), 2), np.int64)
    for number in tqdm(range(len(sizes)), desc=index.name, unit="file"):
        photo = photo_files(files.root, index, number, node.LAYOUT, True)
        image, depth = present_image(photo), present_depth(photo)
        data, before, sizes[number] = _recoded(image, recoding)
        places = [root / _place(files.root) / path.relative_to(files.root) for path in (image, depth)]
        _write(places[0], data)
        own = before if photo.size is None else photo.size
        scale = torch.tensor([own[0] / sizes[number, 0], own[1] / sizes[number, 1]], dtype=torch.float64)
        intrinsics[number, :2, 2] -= centre
        intrinsics[number] = rescale_intrinsics(torch.from_numpy(intrinsics[number]), scale).numpy()
        intrinsics[number, :2, 2] += centre
        _write(places[1], _small_depth(read_depth(photo, before), (int(sizes[number, 0]), int(sizes[number, 1]))))
    target = root / _place(files.index) / f"{index.name}.npz"
    write_index(replace(index, intrinsics=intrinsics, image_sizes=sizes), target)


def _recoded(path: Path, recoding: Recoding) -> tuple[bytes, Size, Size]:
    """Return an image as a file's bytes, its size before, and its size in these bytes."""
    data, image = path.read_bytes(), read_image(path, upright=False)
    before = image.shape[1], image.shape[0]
    if not recoding.long_side or path.suffix.lower() not in (".jpg", ".jpeg"):
        return data, before, before
    factor = min(1.0, recoding.long_side / max(before))
    size = max(1, round(factor * before[0])), max(1, round(factor * before[1]))
    again = _jpeg(resize(image, size)[0], recoding)
    return (data if size == before and len(data) <= len(again) else again), before, size


def _jpeg(image: UInt8Image, recoding: Recoding) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, recoding.quality])
    return bytes(data.tobytes())


def _small_depth(depth: NDArray[np.float32], size: Size) -> bytes:
    """Return a depth map, nearest pixels at `size` (width, height), as the bytes of an HDF5 file."""
    if depth.shape != size[::-1]:
        depth = nearest(depth, size[::-1], (depth.shape[1] / size[0], depth.shape[0] / size[1]))
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("depth", data=depth, compression="gzip", shuffle=True)
    return buffer.getvalue()


def _copy(paths: Sequence[Path], source: Path, target: Path) -> None:
    for path in paths:
        place = target / path.relative_to(source)
        with _failures(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _write(path: Path, data: bytes) -> None:
    with _failures(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise S2LDError(f"{path}: cannot write this file ({error.strerror}); choose another folder") from error
