"""The real pair that sections match."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from s2ld.data.images.motorcycle import load_motorcycle
from s2ld.data.images.reading import UInt8Image, resize, to_grey


def motorcycle(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the motorcycle pair resized to a width and height in px, multiples of 8, as (1, 1, H, W) grey in [0, 1].

    Raises:
        S2LDError: scikit-image, which ships it, is not installed.
    """
    stereo = load_motorcycle()
    left, right = (resize(to_grey(image), size)[0] for image in (stereo.left, stereo.right))
    return _tensor(left), _tensor(right)


def _tensor(image: UInt8Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).float().div(255)[None, None]
