"""Pairs of photographs with known cameras: any folder with a list of them, in one of two forms.

``pairs.json`` is a list of objects with ``image0``, ``image1`` (paths inside the folder), ``K0``, ``K1`` (3 x 3, px of
the files as stored, pixel centres at integers) and ``T_0to1`` (4 x 4, x1 = R x0 + t). Other keys are ignored.

A ``.txt`` is a list in SuperGlue's form (Sarlin et al., CVPR 2020; its ``*_pairs_with_gt.txt``), in which test pairs of
ScanNet, YFCC and PhotoTourism are handed around: on each line two paths, two rotations (the 0 to 3 quarter turns
counter-clockwise that set an image upright), then K0 (9), K1 (9) and T_0to1 (16) row by row, of the files as stored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2ld.config import CN
from s2ld.data.given import given
from s2ld.data.images.reading import network_size, read_image, resize
from s2ld.data.index.matrices import Array, is_intrinsics, is_rotation
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.geometry.camera import rescale_intrinsics

QUARTER_TURN = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""What a counter-clockwise quarter turn of an image does to camera-frame points: (x, y, z) to (y, -x, z)."""
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
    try:
        text = path.read_text()
    except OSError as error:
        raise S2LDError(
            f"{path}: cannot read this list of pairs ({error.strerror}); DATA.POSED_PAIRS.ROOT must be a folder with it"
        ) from error
    except UnicodeDecodeError as error:
        raise S2LDError(f"{path}: not a text file in UTF-8; DATA.POSED_PAIRS.LIST must be a list of pairs") from error
    if path.suffix == ".txt":
        lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines:
            raise S2LDError(f"{path}: this list holds no pairs; write one a line")
        return [_read_line(words, f"{path}:{number}") for number, words in lines]
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise S2LDError(f"{path}: not JSON ({error}); write it anew") from error
    if not isinstance(entries, list) or not entries:
        raise S2LDError(
            f"{path}: must be a list of at least one pair, each an object with image0, image1, K0, K1, T_0to1"
        )
    return [_read_pair(entry, f"{path}: pair {number}") for number, entry in enumerate(entries)]


def _read_line(words: list[str], origin: str) -> _Pair:
    """Read a line of SuperGlue's form."""
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
    return _read_pair({"image0": words[0], "image1": words[1], "K0": K0, "K1": K1, "T_0to1": T_0to1}, origin, turns)


def _read_pair(entry: Any, origin: str, turns: tuple[int, int] = (0, 0)) -> _Pair:
    if not isinstance(entry, dict):
        raise S2LDError(f"{origin}: must be an object, not {type(entry).__name__}")
    missing = [key for key in ("image0", "image1", "K0", "K1", "T_0to1") if key not in entry]
    if missing:
        raise S2LDError(f"{origin}: lacks {', '.join(missing)}; add it")
    T_0to1 = _matrix(entry, "T_0to1", 4, origin)
    if not is_rotation(T_0to1[:3, :3]):
        raise S2LDError(f"{origin}: T_0to1 holds no rotation; it must be [[R, t], [0, 0, 0, 1]] with x1 = R x0 + t")
    return _Pair(
        str(entry["image0"]),
        str(entry["image1"]),
        _intrinsics(entry, "K0", origin),
        _intrinsics(entry, "K1", origin),
        T_0to1,
        turns,
    )


def _intrinsics(entry: dict[str, Any], key: str, origin: str) -> Array:
    K = _matrix(entry, key, 3, origin)
    if not is_intrinsics(K):
        raise S2LDError(f"{origin}: {key} must be [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy, px")
    return K


def _matrix(entry: dict[str, Any], key: str, side: int, origin: str) -> Array:
    try:
        matrix = np.asarray(entry[key], np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (side, side) or not np.isfinite(matrix).all():
        raise S2LDError(f"{origin}: {key} must be {side} rows of {side} finite numbers")
    return matrix
