"""Features of photographs: in memory what was used last, the rest in float16 on the disk, computed once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s2ld.errors import S2LDError
from s2ld.hdf5 import new_hdf5, read_array, read_hdf5
from s2ld.memory import available_memory
from s2ld.sfm.matching.storage.matches import file_digest
from s2ld.types import Extracted, Features, ImageFeatures, Keypoints

CACHE = "features.cache"
"""Folder in the output, there while pairs are matched."""
MEMORY = 2**30
"""Bytes of features that a process keeps, at most: some 90 images of Lite at 800 x 600 px."""
LEAST_MEMORY = 2**27
FREE = 2**31
"""Bytes that the cache leaves free on its disk; features for which there is no room are computed again."""
EXACT = "keypoints"
"""What stays in float32: px of a point need more digits than float16 has."""


@dataclass(frozen=True)
class PackedFeatures:
    """`Extracted` on the host with the large tensors in float16, as it is kept.

    Rounding moves points by 0.0004 px (median). It is done whether features have been kept or not, so that matches do
    not depend on it.
    """

    tensors: Mapping[str, Tensor]
    """By field, those of a field's fields behind a dot."""
    size: tuple[int, int]
    scale: tuple[float, float]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @classmethod
    def of(cls, extracted: Extracted) -> PackedFeatures:
        """Pack what a matcher has extracted."""
        tensors: dict[str, Tensor] = {}
        for field, value in vars(extracted.features).items():
            parts = {field: value} if isinstance(value, Tensor | None) else _named(field, value)
            exact = torch.float32 if field == EXACT else torch.float16
            tensors |= {name: part.detach().to("cpu", exact) for name, part in parts.items() if part is not None}
        return cls(tensors, extracted.size, extracted.scale)

    def extracted(self, device: torch.device) -> Extracted:
        """Return what a matcher takes, in float32 on a device."""
        values = {name: tensor.to(device).float() for name, tensor in self.tensors.items()}
        parts: dict[str, object] = {"features": _filled(Features, "features", values)}
        parts[EXACT] = _filled(Keypoints, EXACT, values)
        own = {field.name: values.get(field.name) for field in fields(ImageFeatures) if field.name not in parts}
        return Extracted(ImageFeatures(**parts, **own), self.size, self.scale)  # type: ignore[arg-type]


class FeatureCache:
    """Features by photograph; those that were not used for longest go to the disk.

    Args:
        folder: for the files, one a photograph.
        title: all that features depend on beside the photograph.
        extract: computes them.
        memory: bytes to keep in memory.
        shared: other processes use the same folder: all features go to the disk at once.
    """

    def __init__(
        self,
        folder: Path,
        title: Mapping[str, object],
        extract: Callable[[Path], Extracted],
        memory: int,
        shared: bool = False,
    ) -> None:
        self._folder, self._extract, self._memory, self._shared = folder, extract, memory, shared
        self._title = json.dumps(title, sort_keys=True).encode()
        self._kept: dict[Path, PackedFeatures] = {}  # the least recently used first

    def __call__(self, photo: Path) -> PackedFeatures:
        """Return the features of a photograph: from memory, from the disk, or computed.

        Raises:
            S2LDError: the photograph cannot be read, or features cannot be written.
        """
        packed = self._kept.pop(photo, None) or self._read(photo)
        if packed is None:
            packed = PackedFeatures.of(self._extract(photo))
            if self._shared:
                self._write(photo, packed)
        self._kept[photo] = packed
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._memory:
            oldest = next(iter(self._kept))
            self._write(oldest, self._kept.pop(oldest))
        return packed

    def _path(self, photo: Path) -> Path:
        return self._folder / f"{hashlib.sha256(self._title + file_digest(photo)).hexdigest()}.h5"

    def _read(self, photo: Path) -> PackedFeatures | None:
        path = self._path(photo)
        if not path.is_file():
            return None
        try:
            with read_hdf5(path, "it is computed again") as file:
                arrays = {name: read_array(file, name) for name in file}
                size, scale = (arrays.pop(name).tolist() for name in ("size", "scale"))
        except S2LDError:
            path.unlink(missing_ok=True)
            return None
        return PackedFeatures({name: torch.from_numpy(a) for name, a in arrays.items()}, tuple(size), tuple(scale))

    def _write(self, photo: Path, packed: PackedFeatures) -> None:
        path = self._path(photo)
        if path.is_file() or shutil.disk_usage(self._folder).free < FREE + packed.nbytes:
            return
        mine = path.with_suffix(f".{os.getpid()}")  # another process may write the same
        with new_hdf5(mine) as file:
            for name, tensor in packed.tensors.items():
                file.create_dataset(name, data=tensor.numpy())
            file.create_dataset("size", data=np.array(packed.size))
            file.create_dataset("scale", data=np.array(packed.scale))
        mine.replace(path)


def memory_for_features(jobs: int) -> int:
    """Return the bytes of features that each of some processes keeps."""
    return min(MEMORY, max(LEAST_MEMORY, available_memory() // (4 * jobs)))


def _named(field: str, part: Features | Keypoints) -> dict[str, Tensor]:
    return {f"{field}.{name}": value for name, value in vars(part).items()}


def _filled(kind: type[Features] | type[Keypoints], field: str, values: Mapping[str, Tensor]) -> Features | Keypoints:
    return kind(**{each.name: values.get(f"{field}.{each.name}") for each in fields(kind)})  # type: ignore[arg-type]
