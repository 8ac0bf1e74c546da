"""What the first convolution sees of an image: its grey values as they are, or of usual brightness and contrast.

Nothing here learns. Light then changes the network's input less than the image, on every road into the network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2ld.errors import S2LDError
from s2ld.geometry.linalg import full_precision
from s2ld.models.detector import CELL
from s2ld.types import ImageBatch

USUAL_MEAN, USUAL_DEVIATION = 0.45, 0.22
"""Of the grey values in [0, 1] of photographs: what a first layer trained on plain images expects."""
LEAST_DEVIATION = 0.01
"""Standard deviation in grey values of which an image's contrast is not raised further: that of rounding and noise."""
LOCAL_DEVIATION = 12**-0.5
"""Of grey values that are all equally frequent, as in an equalised histogram: for a neighbourhood with contrast."""
LEAST_LOCAL_DEVIATION = LOCAL_DEVIATION / 3
"""As `LEAST_DEVIATION`, of a neighbourhood of the normalised image: contrast is raised at most three times."""
WINDOW = 1 / 16
"""Standard deviation of the Gaussian window that a neighbourhood is, in long sides of the image."""


def checked(images: ImageBatch) -> Tensor:
    """Return the image (N, 1, H, W) of a batch.

    Raises:
        S2LDError: it is no `ImageBatch`, of another shape, of colours or of integers, or a side is no multiple of 8.
    """
    if not isinstance(images, ImageBatch):
        raise S2LDError(f"a network takes ImageBatch(image), not a {type(images).__name__}; Matcher takes any image")
    image = images.image
    if torch.compiler.is_compiling():  # what is traced, for ONNX too, has sizes that were checked, or none yet
        return image
    if image.ndim != 4 or image.shape[1] != 1 or image.shape[2] % CELL or image.shape[3] % CELL:
        raise S2LDError(
            f"a network takes grey images (N, 1, H, W), sides multiples of {CELL}, not {tuple(image.shape)}; Matcher "
            "takes any image"
        )
    if not image.is_floating_point():
        raise S2LDError(f"a network takes grey values in [0, 1], not {image.dtype}; divide them by 255")
    return image


class InputNormalisation(nn.Module):
    """Normalises grey images by their own statistics, of valid pixels alone.

    Args:
        kind: "none": images stay as they are. "image": mean and standard deviation of each image become the usual ones.
            "local": after that those of each neighbourhood, the deviation within limits and the mean as far as there is
            contrast: flat regions keep theirs. This is what CLAHE does (Zuiderveld, Graphics Gems IV, 1994) but for
            the form of its curves: its 8×8 tiles, between which it interpolates, are a window of this standard
            deviation, and its clipped histogram is the limit.

    Raises:
        S2LDError: another kind.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in ("none", "image", "local"):
            raise S2LDError(f"MODEL.INPUT.NORMALISATION is {kind!r}; use none, image or local")
        self.kind = kind

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Image (N, 1, H, W) in [0, 1], mask (N, h, w) false where cells are padded → (N, 1, H, W), zero there."""
        if self.kind == "none":
            return image
        with torch.autocast(image.device.type, enabled=False):
            image = full_precision(image)
            valid = torch.ones_like(image[:, 0, ::CELL, ::CELL]) if mask is None else mask.to(image.dtype)
            # the moments of cells give those of images and of neighbourhoods
            moments = F.avg_pool2d(torch.cat([image, image.square()], 1), CELL)
            mean, deviation = _mean_and_deviation(_over_image(moments, valid))
            gain = USUAL_DEVIATION / (deviation.square() + LEAST_DEVIATION**2).sqrt()
            image = (image - mean) * gain + USUAL_MEAN
            if self.kind == "local":
                local_mean, local_deviation = _mean_and_deviation(_over_window(moments, valid))
                image = _localised(image, (local_mean - mean) * gain + USUAL_MEAN, local_deviation * gain)
            return image if mask is None else image * _of_pixels(valid[:, None])


def _localised(image: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Normalise an image (N, 1, H, W) by mean and deviation around each cell, (N, 1, h, w)."""
    power = deviation.square() + LEAST_LOCAL_DEVIATION**2
    gain, flat = LOCAL_DEVIATION * power.rsqrt(), LEAST_LOCAL_DEVIATION**2 / power
    bias = USUAL_MEAN + (mean - USUAL_MEAN) * flat - mean * gain
    maps = F.interpolate(torch.cat([gain, bias], 1), scale_factor=float(CELL), mode="bilinear", align_corners=False)
    return torch.addcmul(maps[:, 1:], image, maps[:, :1])


def _mean_and_deviation(moments: Tensor) -> tuple[Tensor, Tensor]:
    """First and second moment (N, 2, h, w) → mean and standard deviation, (N, 1, h, w)."""
    mean, square = moments[:, :1], moments[:, 1:]
    return mean, (square - mean.square()).clamp(min=0).sqrt()


def _over_image(moments: Tensor, valid: Tensor) -> Tensor:
    """Moments of cells (N, 2, h, w) → of the valid part of the image (N, 2, 1, 1)."""
    return (moments * valid[:, None]).sum((2, 3), keepdim=True) / valid.sum((1, 2))[:, None, None, None]


def _over_window(moments: Tensor, valid: Tensor) -> Tensor:
    """Moments of cells (N, 2, h, w) → of the valid part of the window around each, (N, 2, h, w)."""
    rows, columns = valid.amax(2).sum(1), valid.amax(1).sum(1)  # of the image in its padding
    width = WINDOW * torch.maximum(rows, columns)
    down = _gaussian(valid.shape[1], rows, width)
    across = _gaussian(valid.shape[2], columns, width).transpose(2, 3)
    sums = down @ torch.cat([moments * valid[:, None], valid[:, None]], 1) @ across
    return sums[:, :2] / sums[:, 2:]


def _gaussian(side: int, inside: Tensor, width: Tensor) -> Tensor:
    """Weight of each cell of a side for each of them, (N, 1, side, side), at standard deviations (N,) in cells.

    Cells beyond the number (N,) of those inside look as the last of these does, so that interpolation ends there.
    """
    cells = torch.arange(side, device=width.device, dtype=width.dtype)
    centres = torch.minimum(cells, inside[:, None] - 1)
    return torch.exp(-0.5 * ((cells - centres[:, :, None]) / width[:, None, None]).square())[:, None]


def _of_pixels(cells: Tensor) -> Tensor:
    """(N, 1, h, w) → (N, 1, H, W)."""
    return F.interpolate(cells, scale_factor=float(CELL), mode="nearest")
