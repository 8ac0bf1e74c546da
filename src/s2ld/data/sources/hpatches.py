"""HPatches (Balntas et al., CVPR 2017): pairs of one plane, or of one view in changing light, with homographies.

Folder form of ``hpatches-sequences-release``: a folder for each sequence, ``i_*`` (illumination) or ``v_*``
(viewpoint), with the images ``1.ppm`` to ``6.ppm`` and the texts ``H_1_2`` to ``H_1_6``, 3 x 3, from px of image 1 to
px of image k, both at the size of the files and with pixel centres at integers. Image 1 pairs with each of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s2ld.config import CN
from s2ld.data.images.reading import find_image, network_size, read_image, resize
from s2ld.data.index.matrices import Array, read_matrix
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.geometry.camera import rescale_intrinsics

SUBSETS = {"i_": "illumination", "v_": "viewpoint"}
PARTNERS = range(2, 7)  # of image 1
LARGE = frozenset(
    (
        *("i_contruction", "i_crownnight", "i_dc", "i_pencils", "i_whitebuilding"),
        *("v_artisans", "v_astronautis", "v_talent"),
    )
)
"""Sequences above 1600 x 1200 px, which D2-Net (Dusmanu et al., CVPR 2019) and everybody since leave out."""


@dataclass(frozen=True)
class _Pair:
    sequence: str
    image1: str  # stem of the second image
    H: Array  # px of the files


class HPatchesPairs:
    """The pairs of DATA.HPATCHES.ROOT, shorter sides resized to DATA.HPATCHES.SHORT_SIDE.

    There is no camera: `T_0to1` is NaN, and `K` is only there because a view has one (focal length the longer side,
    principal point the image's centre). `source` names the subset: ``hpatches/illumination`` or ``hpatches/viewpoint``.

    Args:
        config: the DATA node.

    Raises:
        S2LDError: the folder is missing or has no sequence of the subset, a homography is missing, malformed or
            singular; `__getitem__`: an image is missing.
    """

    def __init__(self, config: CN) -> None:
        node = config.HPATCHES
        self.root = Path(node.ROOT)
        self.short_side = int(node.SHORT_SIDE)
        self.multiple = int(config.POSED_PAIRS.MULTIPLE)
        sequences = _sequences(self.root, node.SUBSET, node.SKIP_LARGE)
        self._pairs = [
            _Pair(name, str(k), _read_homography(self.root / name / f"H_1_{k}")) for name in sequences for k in PARTNERS
        ]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairSample:
        pair = self._pairs[index]
        view0, view1 = (self._view(pair.sequence, stem) for stem in ("1", pair.image1))
        # from resized to image px of view 0, by H, and back to resized px of view 1
        to_image0, to_resized1 = _resizing(view0.scale).inverse(), _resizing(view1.scale)
        return PairSample(
            view0,
            view1,
            torch.full((4, 4), torch.nan),
            f"hpatches/{SUBSETS[pair.sequence[:2]]}",
            (to_resized1 @ torch.from_numpy(pair.H) @ to_image0).float(),
        )

    def _view(self, sequence: str, stem: str) -> ViewSample:
        path = find_image(self.root / sequence, stem)
        full = read_image(path, grey=True, upright=False)
        height, width = full.shape
        long_side = max(width, height)
        if self.short_side:
            long_side = self.short_side * long_side / min(width, height)
        image, scale = resize(full, network_size(width, height, long_side, self.multiple))
        height, width = image.shape
        focal = float(max(width, height))
        K = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        return ViewSample(torch.from_numpy(image)[None].float() / 255, K, None, scale, f"{sequence}/{path.name}")


def _resizing(scale: tuple[float, float]) -> Tensor:
    """Return (3, 3) float64, image px to resized px, pixel edges aligned."""
    return rescale_intrinsics(torch.eye(3, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


def _sequences(root: Path, subset: str, skip_large: bool) -> list[str]:
    try:
        folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    except OSError as error:
        raise S2LDError(f"{root}: cannot list this folder ({error.strerror}); set DATA.HPATCHES.ROOT") from error
    chosen = [
        name
        for name in folders
        if subset in ("all", SUBSETS.get(name[:2])) and name[:2] in SUBSETS and not (skip_large and name in LARGE)
    ]
    if not chosen:
        raise S2LDError(
            f"{root}: no sequence of DATA.HPATCHES.SUBSET {subset!r} here; DATA.HPATCHES.ROOT must be the folder that "
            "holds i_* and v_* folders"
        )
    return chosen


def _read_homography(path: Path) -> Array:
    H = read_matrix(path, 3)
    if not np.isfinite(H).all() or np.linalg.matrix_rank(H) < 3:
        raise S2LDError(f"{path}: not an invertible homography; fetch this file again")
    return H
