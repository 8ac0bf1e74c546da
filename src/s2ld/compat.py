"""Our network in the place of others': what their users call, and what they get back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.data.images.reading import MULTIPLE
from s2ld.errors import S2LDError
from s2ld.matcher_options import check_cuts
from s2ld.models.checkpoint import load_model
from s2ld.models.fast.inference import for_inference, with_threshold
from s2ld.models.sparse_matching import foremost_rows
from s2ld.pretrained import DEFAULT, resolve
from s2ld.types import ImageBatch

_GREY = (0.299, 0.587, 0.114)


class LoFTRLike(nn.Module):
    """Takes and returns what kornia's `LoFTR` does, on the device that it is moved to; for inference alone.

    Images are matched at the size that they have. Sides that are no multiple of 8 are continued by their last pixels,
    and nothing is matched outside of the images. Keypoints have pixel centres at integers; those of kornia's LoFTR lie
    0.5 px beside them.
    """

    def __init__(
        self, pretrained: str | Path = DEFAULT, threshold: float | None = None, top_k: int | None = None
    ) -> None:
        """Load weights; `threshold` and `top_k` are attributes, which may be changed between calls.

        Args:
            pretrained: as `Matcher.from_pretrained` takes it: a name, a path or hf://user/name@REVISION.
            threshold: confidence that a match must exceed, in [0, 1); None: that of the weights.
            top_k: most matches of a pair, the most confident ones; None: all.

        Raises:
            S2LDError: no such weights, or an argument is out of range.
        """
        super().__init__()
        check_cuts(threshold, top_k)
        self.threshold, self.top_k = threshold, top_k
        self.network = for_inference(load_model(resolve(pretrained))[0])
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the module around it does: its weights are fused for inference."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Match the pairs of a batch.

        Args:
            data: `image0` (N, 1, H0, W0) and `image1` (N, 1, H1, W1), of any sizes, floats in [0, 1] or uint8; three
                channels are RGB. `mask0` (N, H0, W0) and `mask1`, optional, are false or 0 where an image is padded, at
                right and bottom; one value for each 8 × 8 cell, as LoFTR's own code has them, will do.

        Returns:
            `keypoints0` and `keypoints1` (M, 2) px of the images as given, x right and y down, `confidence` (M,), and
            `batch_indexes` (M,) int64, which pair each belongs to, ascending.

        Raises:
            S2LDError: images or masks of another shape, or an attribute is out of range.
        """
        check_cuts(self.threshold, self.top_k)
        images0, images1 = (self._images(data, side) for side in (0, 1))
        pairs = len(images0.image)
        if pairs != len(images1.image):
            raise S2LDError(f"{pairs} images and {len(images1.image)} make no pairs; give as many of both")
        found = with_threshold(self.network, self.threshold)(images0, images1)
        points0, points1 = found.fine.points0, found.fine.points1
        inside = _inside(points0, data["image0"]) & _inside(points1, data["image1"])
        rows = inside.nonzero()[:, 0]
        batch, confidence = found.coarse.batch[rows], found.coarse.confidence[rows]
        if self.top_k is not None:
            best = foremost_rows(batch, confidence, pairs, self.top_k)
            rows, batch, confidence = rows[best], batch[best], confidence[best]
        return {
            "keypoints0": points0[rows].float(),
            "keypoints1": points1[rows].float(),
            "confidence": confidence.float(),
            "batch_indexes": batch,
        }

    def _images(self, data: Mapping[str, Tensor], side: int) -> ImageBatch:
        image, mask = _get(data, f"image{side}"), data.get(f"mask{side}")
        image = _grey(image.to(next(self.network.parameters()).device), f"image{side}")
        height, width = image.shape[2:]
        right, bottom = -width % MULTIPLE, -height % MULTIPLE
        if right or bottom:
            image = F.pad(image, (0, right, 0, bottom), "replicate")
        return ImageBatch(image, None if mask is None else _cells(mask.to(image.device), (height, width), len(image)))


def _get(data: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in data:
        raise S2LDError(f"{key} is missing; give image0 and image1, each (N, 1, H, W)")
    return data[key]


def _grey(image: Tensor, name: str) -> Tensor:
    """(N, 1 or 3, H, W) → (N, 1, H, W) float32 in [0, 1]."""
    if image.ndim != 4 or image.shape[1] not in (1, 3) or 0 in image.shape:
        raise S2LDError(f"{name}: shape {tuple(image.shape)}; give (N, 1, H, W), or (N, 3, H, W) in RGB")
    image = image.float() if image.is_floating_point() else image.float() / 255
    return image if image.shape[1] == 1 else (image * image.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)


def _cells(mask: Tensor, size: tuple[int, int], images: int) -> Tensor:
    """Return (N, h, w) bool, cells of which no pixel is padded, of a mask of pixels or of cells.

    Args:
        mask: (N, H, W) or (N, h, w); a second axis of length 1 may be there.
        size: (H, W) of the images.
        images: N.
    """
    mask = (mask if mask.ndim == 3 else mask.squeeze(1)) > 0
    height, width = (-(-side // MULTIPLE) for side in size)
    if mask.shape == (images, height, width):
        return mask
    if mask.shape != (images, *size):
        wanted = (images, *size)
        raise S2LDError(f"a mask has the shape {tuple(mask.shape)}; give one value for each pixel, {wanted}")
    padded = F.pad((~mask).float()[:, None], (0, -size[1] % MULTIPLE, 0, -size[0] % MULTIPLE))
    return F.max_pool2d(padded, MULTIPLE)[:, 0] == 0


def _inside(points: Tensor, image: Tensor) -> Tensor:
    """(M,) bool: which of (M, 2) points lie in the image (N, C, H, W), its border pixels included."""
    limit = points.new_tensor([image.shape[3], image.shape[2]]) - 0.5
    return ((points >= -0.5) & (points <= limit)).all(1)
