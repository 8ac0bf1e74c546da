"""Pairs of photographs with known cameras: any folder with a list of them, in one of two forms.

``pairs.json`` is a list of objects with ``image0``, ``image1`` (paths inside the folder, not out of it), ``K0``, ``K1``
(3 x 3, px of the files as stored, pixel centres at integers) and ``T_0to1`` (4 x 4, x1 = R x0 + t). Other keys are
ignored.

A ``.txt`` is a list in SuperGlue's form (Sarlin et al., CVPR 2020; its ``*_pairs_with_gt.txt``), in which test pairs of
ScanNet, YFCC and PhotoTourism are handed around: on each line two paths, two rotations (the 0 to 3 quarter turns
counter-clockwise that set an image upright), then K0 (9), K1 (9) and T_0to1 (16) row by row, of the files as stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2ld.config import CN
from s2ld.data.given import given
from s2ld.data.images.reading import network_size, read_image, resize
from s2ld.data.index.matrices import ORTHONORMAL_TOLERANCE, Array, are_intrinsics, are_rotations
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError, one_line, shown
from s2ld.files import portable_name, read_text
from s2ld.geometry.camera import rescale_intrinsics

QUARTER_TURN = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""What a counter-clockwise quarter turn of an image does to camera-frame points: (x, y, z) to (y, -x, z)."""
_FORM = "it must be [[R, t], [0, 0, 0, 1]] with x1 = R x0 + t"
LINE_LENGTH = 38  # two paths, two rotations, 9 + 9 + 16 numbers


@dataclass(frozen=True)
class _Pair:
    image0: str
    image1: str
    K0: Array
    K1: Array
    T_0to1: Array
    turns: tuple[int, int]  # counter-clockwise quarter turns


class PosedPairs:
    """The pairs of DATA.POSED_PAIRS, longer sides resized to DATA.TEST_LONG_SIDE; there is no depth.

    That size holds in validation too, whatever DATA.IMAGE_SIZE is: these pairs stand for how the weights will be used.
    Where a list tells rotations the images are turned, and with them the intrinsics and the pose.

    Args:
        config: the DATA node.

    Raises:
        S2LDError: DATA.POSED_PAIRS.ROOT is not given; the list is missing, empty or of no known form, or a pair of it
            is malformed (its number is named); `__getitem__`: an image is missing.
    """

    def __init__(self, config: CN) -> None:
        self.root = Path(str(given(config.POSED_PAIRS.ROOT, "POSED_PAIRS.ROOT")))
        self.long_side = int(config.TEST_LONG_SIDE)
        self.multiple = int(config.POSED_PAIRS.MULTIPLE)
        self._pairs = _read_list(self.root / config.POSED_PAIRS.LIST)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairSample:
        pair = self._pairs[index]
        turn0, turn1 = np.eye(4), np.eye(4)
        turn0[:3, :3], turn1[:3, :3] = (np.linalg.matrix_power(QUARTER_TURN, turns) for turns in pair.turns)
        return PairSample(
            self._view(pair.image0, pair.K0, pair.turns[0]),
            self._view(pair.image1, pair.K1, pair.turns[1]),
            torch.from_numpy(turn1 @ pair.T_0to1 @ turn0.T).float(),
            f"posed_pairs/{self.root.resolve().name}",
        )

    def _view(self, name: str, K: Array, turns: int) -> ViewSample:
        full = read_image(self.root / name, grey=True, upright=False)
        for _ in range(turns):
            # pixel (x, y) goes to (y, width - 1 - x)
            pixels = QUARTER_TURN + np.array([[0, 0, 0], [0, 0, full.shape[1] - 1], [0, 0, 0]])
            K, full = pixels @ K @ QUARTER_TURN.T, np.rot90(full)
        image, scale = resize(
            np.ascontiguousarray(full), network_size(full.shape[1], full.shape[0], self.long_side, self.multiple)
        )
        resized_K = rescale_intrinsics(torch.from_numpy(K), torch.tensor(scale, dtype=torch.float64))
        return ViewSample(torch.from_numpy(image)[None].float() / 255, resized_K.float(), None, scale, name)


def _read_list(path: Path) -> list[_Pair]:
    remedy = "DATA.POSED_PAIRS.ROOT must be its folder, and DATA.POSED_PAIRS.LIST its name"
    text = read_text(path, "list of pairs", remedy)
    if path.suffix == ".txt":
        lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines:
            raise S2LDError(f"{path}: this list holds no pairs; write one a line")
        origins = [f"{path}:{number}" for number, _ in lines]
        read = [_read_line(words, origin) for (_, words), origin in zip(lines, origins, strict=True)]
        return _to_pairs([entry for entry, _ in read], origins, [turns for _, turns in read])
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise S2LDError(f"{path}: not JSON ({one_line(error)}); write it anew") from error
    if not isinstance(entries, list) or not entries:
        raise S2LDError(
            f"{path}: must be a list of at least one pair, each an object with image0, image1, K0, K1, T_0to1"
        )
    return _to_pairs(entries, [f"{path}: pair {number}" for number in range(len(entries))])


def _read_line(words: list[str], origin: str) -> tuple[dict[str, Any], tuple[int, int]]:
    """Read a line of SuperGlue's form as an entry of a pairs.json, and its rotations."""
    if len(words) != LINE_LENGTH:
        raise S2LDError(
            f"{origin}: must hold {LINE_LENGTH} words, not {len(words)}: two paths, two rotations, K0, K1 and T_0to1 "
            "(a list without ground truth cannot be evaluated)"
        )
    try:
        numbers = np.array(words[4:], np.float64)
        turns = (int(words[2]), int(words[3]))
    except ValueError as error:
        raise S2LDError(f"{origin}: after the two paths all words must be numbers") from error
    if not set(turns) <= {0, 1, 2, 3}:
        raise S2LDError(f"{origin}: the rotations {turns[0]} and {turns[1]} must be 0 to 3 quarter turns")
    K0, K1, T_0to1 = numbers[:9].reshape(3, 3), numbers[9:18].reshape(3, 3), numbers[18:].reshape(4, 4)
    if any(turn and K[0, 1] != 0 for turn, K in zip(turns, (K0, K1), strict=True)):
        raise S2LDError(f"{origin}: intrinsics with skew cannot be rotated; undistort the images, or write rotation 0")
    return {"image0": words[0], "image1": words[1], "K0": K0, "K1": K1, "T_0to1": T_0to1}, turns


def _to_pairs(entries: list[Any], origins: list[str], turns: list[tuple[int, int]] | None = None) -> list[_Pair]:
    """Check all pairs at once, as lists of hundreds of thousands need it; the first bad one is named by its origin."""
    for entry, origin in zip(entries, origins, strict=True):
        if not isinstance(entry, dict):
            raise S2LDError(f"{origin}: must be an object, not {type(entry).__name__}")
        missing = [key for key in ("image0", "image1", "K0", "K1", "T_0to1") if key not in entry]
        if missing:
            raise S2LDError(f"{origin}: lacks {', '.join(missing)}; add it")
        for key in ("image0", "image1"):
            _check_path(entry[key], f"{origin}: {key}")
    T_0to1 = _matrices(entries, "T_0to1", 4, origins)
    _refuse_first(~are_rotations(T_0to1[:, :3, :3]), origins, f"T_0to1 holds no rotation; {_FORM}")
    another = np.abs(T_0to1[:, 3] - (0, 0, 0, 1)).max(1) > ORTHONORMAL_TOLERANCE
    _refuse_first(another, origins, f"T_0to1 ends in another row; {_FORM}")
    K0, K1 = (_matrices(entries, key, 3, origins) for key in ("K0", "K1"))
    for key, K in (("K0", K0), ("K1", K1)):
        must = f"{key} must be [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy, px"
        _refuse_first(~are_intrinsics(K), origins, must)
    names = [(entry["image0"], entry["image1"]) for entry in entries]
    every = zip(names, K0, K1, T_0to1, turns or [(0, 0)] * len(names), strict=True)
    return [_Pair(*images, *arrays) for images, *arrays in every]


def _check_path(name: object, origin: str) -> None:
    """Raise for what is no path that stays inside a folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise S2LDError(f"{origin} is {shown(name)}; it must be the path of an image inside the folder")
    if (".." in name and ".." in PurePath(name).parts) or PurePath(name).is_absolute():
        raise S2LDError(f"{origin} {shown(name)} leads out of the folder; put or link the image into it")
    portable_name(name, origin)


def _matrices(entries: list[dict[str, Any]], key: str, side: int, origins: list[str]) -> Array:
    """Return (n, side, side)."""
    must = f"{key} must be {side} rows of {side} finite numbers"
    values = [entry[key] for entry in entries]
    try:
        matrices = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrices = np.empty(0)
    if matrices.shape != (len(values), side, side):
        _refuse_first(np.array([not _is_matrix(value, side) for value in values]), origins, must)
    _refuse_first(~np.all(np.isfinite(matrices), axis=(1, 2)), origins, must)
    return matrices


def _is_matrix(value: Any, side: int) -> bool:
    try:
        return np.asarray(value, np.float64).shape == (side, side)
    except (TypeError, ValueError, OverflowError):
        return False


def _refuse_first(bad: NDArray[Any], origins: list[str], must: str) -> None:
    if bad.any():
        raise S2LDError(f"{origins[int(bad.argmax())]}: {must}")
