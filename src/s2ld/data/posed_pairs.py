"""Pairs of photographs with known cameras: any folder with a ``pairs.json``.

The file is a list of objects with ``image0``, ``image1`` (paths inside the folder), ``K0``, ``K1`` (3 x 3, px of the
files as stored, pixel centres at integers) and ``T_0to1`` (4 x 4, x1 = R x0 + t). Other keys are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.images import network_size, read_image, resize
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.geometry.camera import rescale_intrinsics

LIST_NAME = "pairs.json"
ORTHONORMAL_TOLERANCE = 1e-3  # of a rotation matrix written with four digits


@dataclass(frozen=True)
class _Pair:
    image0: str
    image1: str
    K0: NDArray[np.float64]
    K1: NDArray[np.float64]
    T_0to1: NDArray[np.float64]


class PosedPairs:
    """The pairs of DATA.POSED_PAIRS.ROOT, longer sides resized to DATA.TEST_LONG_SIDE; there is no depth.

    That size holds in validation too, whatever DATA.IMAGE_SIZE is: these pairs stand for how the weights will be used.

    Args:
        config: the DATA node.

    Raises:
        S2LDError: the list is missing, empty or not JSON, or a pair of it is malformed (its number is named);
            `__getitem__`: an image is missing.
    """

    def __init__(self, config: CN) -> None:
        self.root = Path(config.POSED_PAIRS.ROOT)
        self.long_side = int(config.TEST_LONG_SIDE)
        self.multiple = int(config.POSED_PAIRS.MULTIPLE)
        self._pairs = _read_list(self.root / LIST_NAME)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairSample:
        pair = self._pairs[index]
        return PairSample(
            self._view(pair.image0, pair.K0),
            self._view(pair.image1, pair.K1),
            torch.from_numpy(pair.T_0to1).float(),
            f"posed_pairs/{self.root.resolve().name}",
        )

    def _view(self, name: str, K: NDArray[np.float64]) -> ViewSample:
        full = read_image(self.root / name, grey=True, upright=False)
        image, scale = resize(full, network_size(full.shape[1], full.shape[0], self.long_side, self.multiple))
        resized_K = rescale_intrinsics(torch.from_numpy(K), torch.tensor(scale, dtype=torch.float64))
        return ViewSample(torch.from_numpy(image)[None].float() / 255, resized_K.float(), None, scale, name)


def _read_list(path: Path) -> list[_Pair]:
    try:
        entries = json.loads(path.read_text())
    except OSError as error:
        raise S2LDError(
            f"{path}: cannot read this list of pairs ({error.strerror}); DATA.POSED_PAIRS.ROOT must be a folder with it"
        ) from error
    except ValueError as error:
        raise S2LDError(f"{path}: not JSON ({error}); write it anew") from error
    if not isinstance(entries, list) or not entries:
        raise S2LDError(
            f"{path}: must be a list of at least one pair, each an object with image0, image1, K0, K1, T_0to1"
        )
    return [_read_pair(entry, f"{path}: pair {number}") for number, entry in enumerate(entries)]


def _read_pair(entry: Any, origin: str) -> _Pair:
    if not isinstance(entry, dict):
        raise S2LDError(f"{origin}: must be an object, not {type(entry).__name__}")
    missing = [key for key in ("image0", "image1", "K0", "K1", "T_0to1") if key not in entry]
    if missing:
        raise S2LDError(f"{origin}: lacks {', '.join(missing)}; add it")
    T_0to1 = _matrix(entry, "T_0to1", 4, origin)
    R = T_0to1[:3, :3]
    if np.abs(R @ R.T - np.eye(3)).max() > ORTHONORMAL_TOLERANCE or np.linalg.det(R) < 0:
        raise S2LDError(f"{origin}: T_0to1 holds no rotation; it must be [[R, t], [0, 0, 0, 1]] with x1 = R x0 + t")
    return _Pair(
        str(entry["image0"]),
        str(entry["image1"]),
        _intrinsics(entry, "K0", origin),
        _intrinsics(entry, "K1", origin),
        T_0to1,
    )


def _intrinsics(entry: dict[str, Any], key: str, origin: str) -> NDArray[np.float64]:
    K = _matrix(entry, key, 3, origin)
    if min(K[0, 0], K[1, 1]) <= 0 or K[1, 0] != 0 or not np.array_equal(K[2], [0, 0, 1]):
        raise S2LDError(f"{origin}: {key} must be [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy, px")
    return K


def _matrix(entry: dict[str, Any], key: str, side: int, origin: str) -> NDArray[np.float64]:
    try:
        matrix = np.asarray(entry[key], np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (side, side) or not np.isfinite(matrix).all():
        raise S2LDError(f"{origin}: {key} must be {side} rows of {side} finite numbers")
    return matrix
