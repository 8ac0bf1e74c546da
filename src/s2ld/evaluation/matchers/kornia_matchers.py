"""kornia's matchers with weights from files of the user; nothing is downloaded.

They get the grey image that ours gets (DISK and ALIKED three times, as their three channels), and their points are
taken as they give them: LoFTR's count from the corner of a pixel, 0.5 px beside all others, as in published numbers.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s2ld.data.images.reading import MULTIPLE
from s2ld.errors import S2LDError
from s2ld.evaluation.matchers.interface import MatchedPair
from s2ld.evaluation.matchers.other_matchers import XFEAT_STAR_TOP_K, XFEAT_TOP_K, SiftDetector
from s2ld.models.checkpoint import load_plain, load_strict
from s2ld.types import ImageBatch

LIGHTGLUE_KEYPOINTS = 2048
"""Most keypoints an image, as in LightGlue's evaluation."""
DERIVED = ("confidence_thresholds", "hw_grid")
"""Buffers that LightGlue and ALIKED compute, and that their files lack."""
_LIGHTGLUE_FILES = "https://github.com/cvg/LightGlue/releases/tag/v0.1_arxiv"
_Call = Callable[[Tensor, Tensor], MatchedPair]


@dataclass(frozen=True)
class KorniaKind:
    """What one of kornia's matchers is made of."""

    name: str
    """Of its row in tables."""
    files: tuple[str, ...]
    """Its weight files, as their authors call them."""
    where: str
    """Where to get them."""
    settings: str
    build: Callable[[Any, Sequence[Path], torch.device], _Call]
    """From kornia.feature, the files and the device."""
    multiple: int = 1
    """Of what the sides of images must be multiples, px."""


class KorniaMatcher:
    """A matcher of kornia.

    Args:
        kind: of `KORNIA`.
        paths: its weight files, as many and in the order that the kind names.
        device: where it runs.

    Raises:
        S2LDError: a weight file is missing, of another network or holds more than tensors.
    """

    def __init__(self, kind: str, paths: Sequence[Path], device: torch.device) -> None:
        entry = KORNIA[kind]
        if len(paths) != len(entry.files):
            raise S2LDError(f"{kind} needs its weights: --matcher {kind}={','.join(entry.files)}; {entry.where}")
        for path, file in zip(paths, entry.files, strict=True):
            if not path.is_file():
                raise S2LDError(f"{path}: no such weight file; give the path of {file}: {entry.where}")
        kornia = import_module("kornia")
        self.name, self.multiple = entry.name, entry.multiple
        self.weights = ", ".join(path.name for path in paths)
        self.digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
        self.settings = self.model = f"kornia {kornia.__version__}, {entry.settings}"
        self._call = entry.build(import_module("kornia.feature"), paths, device)

    def __call__(self, images0: ImageBatch, images1: ImageBatch) -> MatchedPair:
        """See `PairMatcher`."""
        return self._call(images0.image, images1.image)


def load_kornia(module: nn.Module, path: Path, device: torch.device, node: str = "state_dict") -> Any:
    """Fill a module from a file: its own keys must be there, but for those of `DERIVED`; others are ignored."""
    content = load_plain(path)
    state = content.get(node, content) if isinstance(content, dict) else {}
    renamed = {_renamed(key): value for key, value in state.items() if isinstance(value, Tensor)}
    own = module.state_dict()
    load_strict(
        module, {key: renamed.get(key, own[key]) for key in own if key in renamed or key.endswith(DERIVED)}, path
    )
    return module.eval().requires_grad_(False).to(device)


def _renamed(key: str) -> str:
    """Return the name in kornia's modules of a key of LoFTR's and LightGlue's files."""
    return re.sub(r"^(self|cross)_attn\.(\d+)", r"transformers.\2.\1_attn", key.removeprefix("matcher."))


def _loftr(feature: Any, paths: Sequence[Path], device: torch.device, fixed_encoding: bool = False) -> _Call:
    config = feature.loftr.loftr.default_cfg
    config = {**config, "coarse": {**config["coarse"], "temp_bug_fix": fixed_encoding}}
    loftr = load_kornia(feature.LoFTR(pretrained=None, config=config), paths[0], device)

    def match(image0: Tensor, image1: Tensor) -> MatchedPair:
        found = loftr({"image0": image0, "image1": image1})
        return _without_keypoints(found["keypoints0"], found["keypoints1"], found["confidence"])

    return match


def _xfeat(feature: Any, paths: Sequence[Path], device: torch.device, star: bool = False) -> _Call:
    xfeat = feature.XFeat(top_k=XFEAT_STAR_TOP_K if star else XFEAT_TOP_K)
    load_kornia(xfeat.net, paths[0], device)
    xfeat.eval().to(device)

    def match(image0: Tensor, image1: Tensor) -> MatchedPair:
        points0, points1 = (xfeat.match_xfeat_star if star else xfeat.match_xfeat)(image0, image1)
        return _without_keypoints(points0, points1, torch.ones(len(points0)))

    return match


def _without_keypoints(points0: Tensor, points1: Tensor, confidence: Tensor) -> MatchedPair:
    none = torch.zeros(0, 2)
    return MatchedPair(points0.float(), points1.float(), confidence, torch.ones_like(confidence), none, none)


def _disk(feature: Any, paths: Sequence[Path], device: torch.device) -> _Call:
    disk = load_kornia(feature.DISK(), paths[0], device, node="extractor")

    def detect(image: Tensor) -> dict[str, Tensor]:
        (found,) = disk(image.expand(-1, 3, -1, -1), LIGHTGLUE_KEYPOINTS, pad_if_not_divisible=True)
        return {"keypoints": found.keypoints, "descriptors": found.descriptors}

    return _with_lightglue(feature, "disk", detect, paths[1], device)


def _aliked(feature: Any, paths: Sequence[Path], device: torch.device) -> _Call:
    aliked = load_kornia(feature.ALIKED("aliked-n16", max_num_keypoints=LIGHTGLUE_KEYPOINTS), paths[0], device)

    def detect(image: Tensor) -> dict[str, Tensor]:
        (found,) = aliked(image.expand(-1, 3, -1, -1))
        return {"keypoints": found.keypoints, "descriptors": found.descriptors}

    return _with_lightglue(feature, "aliked", detect, paths[1], device)


def _sift(feature: Any, paths: Sequence[Path], device: torch.device) -> _Call:
    detector = SiftDetector(LIGHTGLUE_KEYPOINTS)

    def detect(image: Tensor) -> dict[str, Tensor]:
        found = detector(image)
        # these weights have learnt from COLMAP's keypoints: sigma, and an angle in (-pi, pi]
        angles = math.pi - torch.remainder(math.pi - found.angles, 2 * math.pi)
        arrays = {"keypoints": found.points, "descriptors": found.descriptors, "scales": found.sigmas, "oris": angles}
        return {key: value.to(device) for key, value in arrays.items()}

    return _with_lightglue(feature, "sift", detect, paths[0], device)


def _with_lightglue(
    feature: Any, features: str, detect: Callable[[Tensor], dict[str, Tensor]], path: Path, device: torch.device
) -> _Call:
    lightglue = feature.LightGlue(None, **{**feature.LightGlue.features[features], "weights": None})  # no download
    load_kornia(lightglue, path, device)

    def match(image0: Tensor, image1: Tensor) -> MatchedPair:
        sides = [detect(image) for image in (image0, image1)]
        points0, points1 = (side["keypoints"] for side in sides)
        rows, scores = torch.zeros(0, 2, dtype=torch.long, device=points0.device), points0.new_zeros(0)
        if min(len(points0), len(points1)) > 1:
            data = {}
            for number, (side, image) in enumerate(zip(sides, (image0, image1), strict=True)):
                size = torch.tensor([[image.shape[-1], image.shape[-2]]], device=image.device)
                data[f"image{number}"] = {**{key: value[None] for key, value in side.items()}, "image_size": size}
            found = lightglue(data)
            rows, scores = found["matches"][0], found["scores"][0]
        ones = torch.ones_like(scores)
        return MatchedPair(points0[rows[:, 0]], points1[rows[:, 1]], scores, ones, points0, points1)

    return match


_LOFTR_FILES = "get it from https://huggingface.co/kornia/loftr"
_XFEAT_FILES = "get it from https://github.com/verlab/accelerated_features/tree/main/weights"
_LIGHTGLUE = f"at most {LIGHTGLUE_KEYPOINTS} keypoints, LightGlue above 0.1"
KORNIA: Mapping[str, KorniaKind] = {
    "kornia-loftr": KorniaKind(
        "LoFTR", ("loftr_outdoor.ckpt",), _LOFTR_FILES, "dual softmax above 0.2", _loftr, MULTIPLE
    ),
    "kornia-loftr-indoor-new": KorniaKind(
        name="LoFTR indoor",
        files=("loftr_indoor_ds_new.ckpt",),
        where=_LOFTR_FILES,
        settings="dual softmax above 0.2, temp_bug_fix",
        build=partial(_loftr, fixed_encoding=True),
        multiple=MULTIPLE,
    ),
    "kornia-xfeat": KorniaKind("XFeat (kornia)", ("xfeat.pt",), _XFEAT_FILES, f"top_k {XFEAT_TOP_K}", _xfeat),
    "kornia-xfeat-star": KorniaKind(
        name="XFeat* (kornia)",
        files=("xfeat.pt",),
        where=_XFEAT_FILES,
        settings=f"top_k {XFEAT_STAR_TOP_K}, semi-dense, two scales, refined",
        build=partial(_xfeat, star=True),
    ),
    "kornia-disk-lightglue": KorniaKind(
        name="DISK+LightGlue",
        files=("depth-save.pth", "disk_lightglue.pth"),
        where=f"get them from https://github.com/cvlab-epfl/disk and {_LIGHTGLUE_FILES}",
        settings=_LIGHTGLUE,
        build=_disk,
    ),
    "kornia-aliked-lightglue": KorniaKind(
        name="ALIKED+LightGlue",
        files=("aliked-n16.pth", "aliked_lightglue.pth"),
        where=f"get them from https://github.com/Shiaoming/ALIKED/tree/main/models and {_LIGHTGLUE_FILES}",
        settings=_LIGHTGLUE,
        build=_aliked,
    ),
    "kornia-sift-lightglue": KorniaKind(
        name="SIFT+LightGlue",
        files=("sift_lightglue.pth",),
        where=f"get it from {_LIGHTGLUE_FILES}",
        settings=_LIGHTGLUE,
        build=_sift,
    ),
}
"""Name on the command line to what it is."""
