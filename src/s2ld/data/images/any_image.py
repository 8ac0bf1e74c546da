"""Any image that a user has, as pixels of 8 bits, and as what a network sees of it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.data.images.image_files import check_size, pillow_pixels
from s2ld.data.images.pixels import to_uint8
from s2ld.data.images.reading import UInt8Image, read_image, resize, to_grey
from s2ld.errors import S2LDError, first_sentence
from s2ld.types import ImageBatch


def to_array(image: Any, name: str = "image") -> UInt8Image:
    """Return any image that `Matcher` takes as (H, W), (H, W, 3) RGB or (H, W, 4) RGBA uint8; `name` is for errors.

    Raises:
        S2LDError: an unreadable file, or an array of another shape, type or range.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(os.fsdecode(image))
    measured = False
    if isinstance(image, Tensor):
        array, layout = _of_tensor(_one(image, name), name), "(C, H, W)"
    elif hasattr(image, "convert") and hasattr(image, "mode"):
        array, layout, measured = _of_pillow(image, name), "(H, W, C)", True
    elif isinstance(image, np.ndarray):
        array, layout = image, "(H, W, C)"
    else:
        raise S2LDError(f"{name}: a {type(image).__name__} is no image; give a path, an array, a tensor or a PIL image")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        shape = tuple(image.shape) if isinstance(image, Tensor) else array.shape
        raise S2LDError(f"{name}: shape {shape} is no image; give (H, W) or {layout} with 1, 3 or 4 channels")
    return to_uint8(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array, name, measured)


def network_image(
    image: UInt8Image, size: tuple[int, int], device: torch.device
) -> tuple[ImageBatch, tuple[float, float]]:
    """Return an image of `to_array` as a network sees it at `size` (width, height), and its scale.

    The scale is (x, y), image px per resized px.
    """
    grey, scale = resize(to_grey(image), size)
    tensor = torch.from_numpy(np.ascontiguousarray(grey)).to(device)
    return ImageBatch(tensor.to(torch.float32).div(255)[None, None]), scale


def _one(image: Tensor, name: str) -> Tensor:
    """Return (C, H, W) of a batch of one."""
    if image.ndim == 4 and len(image) > 1:
        raise S2LDError(
            f"{name}: a batch of {len(image)} images; Matcher.match_batch and s2ld.compat.LoFTRLike take batches"
        )
    return image[0] if image.ndim == 4 and len(image) == 1 else image


def _of_tensor(image: Tensor, name: str) -> NDArray[Any]:
    """Return (H, W, C) or (H, W) of a tensor (C, H, W) or (H, W); what short floats round beyond [0, 1] is clipped."""
    try:
        tensor = image.detach().cpu()
        if tensor.is_floating_point():
            slack = 2 * torch.finfo(tensor.dtype).eps
            tensor = tensor.to(torch.float64 if tensor.dtype == torch.float64 else torch.float32)
            if tensor.numel() and -slack <= tensor.min() and tensor.max() <= 1 + slack:
                tensor = tensor.clamp(0, 1)
        array = tensor.numpy()
    except (RuntimeError, TypeError) as error:
        reason = first_sentence(error)
        raise S2LDError(f"{name}: a tensor without plain values ({reason}); give a dense, real one") from error
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _of_pillow(image: Any, name: str) -> NDArray[Any]:
    check_size(image.width, image.height, name)
    try:
        return pillow_pixels(image)
    except Exception as error:  # whatever a damaged file, which is decoded only now, may lead Pillow into
        reason = first_sentence(error)
        raise S2LDError(f"{name}: this Pillow image cannot be read ({reason}); is its file complete?") from error
