"""Any two images in, matches in their own pixels out."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from s2ld.data.images.any_image import network_image, to_array
from s2ld.data.images.reading import MULTIPLE, UInt8Image, network_size
from s2ld.devices import allow_forks, choose_device, float32_by_default
from s2ld.errors import S2LDError
from s2ld.geometry.camera import resized_to_image
from s2ld.matcher_options import KEEP_SIZE, MAX_SIDE, check_cuts, check_options, check_pairs
from s2ld.memory import available_memory
from s2ld.models.checkpoint import load_model
from s2ld.models.fast.compiled import compile_encoder, without_compiled
from s2ld.models.fast.inference import computing_in, for_inference, memory_needed, with_threshold
from s2ld.models.network import S2LD
from s2ld.models.precision import resolve_precision
from s2ld.pretrained import resolve
from s2ld.turns import predict_turned
from s2ld.types import Extracted, FloatArray, ImageBatch, ImageFeatures, Matches, Prediction

_Scales = tuple[tuple[float, float], tuple[float, float]]
"""Image px per resized px, (x, y), of the two images of a pair."""


class Matcher:
    """A network with weights that matches images of any size.

    An image is a path; an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of bool, integers of 8, 16 or 32
    bits, or floats in [0, 1]; a tensor (H, W), (C, H, W) or (1, C, H, W) of the same; or a Pillow image. More than 8
    bits are read in full and stretched where little of their range is used (`s2ld.data.images.pixels.to_uint8`). A file
    is turned upright by its EXIF entry first, and its points belong to the upright image.

    Calls take a `threshold` and a `top_k` of their own; None is the matcher's.

    In a forked process it computes with one thread. It pickles; a `fast` one is compiled again where it arrives.
    """

    def __init__(
        self,
        model: S2LD,
        threshold: float | None = None,
        max_side: int | None = None,
        device: str | torch.device = "auto",
        size: tuple[int, int] | None = None,
        precision: str = "fp32",
        fast: bool = False,
        rotation: str = "none",
        top_k: int | None = None,
    ) -> None:
        """Make a copy of a network for inference on `device` (see `for_inference`), with the threshold.

        Args:
            model: the network with its weights; it stays as it is.
            threshold: confidence that a match must exceed, in [0, 1); None: that of the model's config.
            max_side: longer side of the images as the network sees them, resized px, smaller images are enlarged to
                it; -1 keeps the size; None: 640.
            device: a torch device, or "auto": CUDA where there is a GPU, else the CPU.
            size: exact (width, height) in resized px instead of `max_side`; rounded down to multiples of 8.
            precision: "fp32"; "bf16" for about half the time where the processor computes in bfloat16; or "auto", which
                is bf16 there and fp32 elsewhere.
            fast: compile the network for `size` now, which takes a minute or so and pays after about a thousand pairs.
            rotation: "none", or "auto": image 1 is matched after the quarter turn that fits image 0 best, found on
                small copies for about a third of a pair's time more. Only for calls with both images at once: `extract`
                and `match_many` refuse it, and `detect` takes images as they are.
            top_k: most matches of a pair, the most confident ones; None: all.

        Raises:
            S2LDError: an argument is out of range, the device is not there, or it cannot be compiled here.
        """
        allow_forks()
        if not isinstance(model, nn.Module):
            raise S2LDError(f"model must be a network, not a {type(model).__name__}; Matcher.from_pretrained loads one")
        check_options(threshold, max_side, size, fast, rotation, top_k)
        self.device = choose_device(device)
        self.precision = resolve_precision(precision, self.device)
        self._precision = partial(computing_in, self.precision, self.device)
        self.model = for_inference(model).to(self.device, torch.float32)  # whatever torch's default was before
        if threshold is not None:
            self.model.threshold = float(threshold)
        self.max_side = MAX_SIDE if max_side is None else int(max_side)
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.rotation, self.top_k = rotation, top_k
        self.fast = fast
        self._compile()

    def _compile(self) -> None:
        if self.fast and self.size is not None:
            with torch.inference_mode(), float32_by_default(), self._precision():
                compile_encoder(self.model, self.resized_size(*self.size), self.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "model": without_compiled(self.model)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()  # compiled code belongs to its process

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "s2ld-lite",
        threshold: float | None = None,
        max_side: int | None = None,
        device: str | torch.device = "auto",
        size: tuple[int, int] | None = None,
        precision: str = "fp32",
        fast: bool = False,
        rotation: str = "none",
        top_k: int | None = None,
    ) -> Self:
        """Load weights by name, by path (.safetensors, .pt, .ckpt) or from a hub (hf://user/name@REV); see `__init__`.

        Raises:
            S2LDError: no such weights, a file that cannot be read, or an argument out of range.
        """
        allow_forks()
        model, _ = load_model(resolve(name_or_path))
        return cls(model, threshold, max_side, device, size, precision, fast, rotation, top_k)

    def __call__(
        self, image0: Any, image1: Any, *, threshold: float | None = None, top_k: int | None = None
    ) -> Matches:
        """Match two images.

        Returns:
            Matches with points in px of the images as given.

        Raises:
            S2LDError: an image cannot be read or understood, the pair does not fit into memory, or an argument is out
                of range.
        """
        check_cuts(threshold, top_k)
        array0, array1 = to_array(image0, "image0"), to_array(image1, "image1")
        with self._guarded(_size(array0), _size(array1)):
            (batch0, scale0), (batch1, scale1) = self._prepare(array0), self._prepare(array1)
            network = with_threshold(self.model, threshold)
            predict = network if self.rotation == "none" else partial(predict_turned, network)
            return self._matches(predict(batch0, batch1), [(scale0, scale1)], top_k)[0]

    def extract(self, image: Any) -> Extracted:
        """Return what is computed of one image alone, for `match`: with many pairs of few images, once for each image.

        Raises S2LDError as `__call__` does, and with rotation "auto", for which the partner must be known.
        """
        self._refuse_rotation()
        array = to_array(image)
        with self._guarded(_size(array)):
            batch, scale = self._prepare(array)
            return Extracted(self.model.extract(batch), _size(array), scale)

    def match(
        self,
        extracted0: Extracted,
        extracted1: Extracted,
        *,
        threshold: float | None = None,
        top_k: int | None = None,
    ) -> Matches:
        """Match two images by what `extract` of the same matcher returned; as `__call__`, but for rounding."""
        return self.match_many([(extracted0, extracted1)], threshold=threshold, top_k=top_k)[0]

    def match_batch(
        self, images0: Any, images1: Any, *, threshold: float | None = None, top_k: int | None = None
    ) -> list[Matches]:
        """Match the images of two batches pair by pair: tensors (N, C, H, W), or sequences of any N images each.

        On a GPU pairs of equal sizes are matched at once. Raises S2LDError as `match_many` does, or for other numbers.
        """
        if len(images0) != len(images1):
            raise S2LDError(f"{len(images0)} images and {len(images1)} make no pairs; give as many of both")
        sides = ([self.extract(image) for image in images] for images in (images0, images1))
        at_once = 1 if self.device.type == "cpu" else max(1, len(images0))
        return self.match_many(list(zip(*sides, strict=True)), at_once, threshold=threshold, top_k=top_k)

    def match_many(
        self,
        pairs: Sequence[tuple[Extracted, Extracted]],
        batch: int = 1,
        *,
        threshold: float | None = None,
        top_k: int | None = None,
    ) -> list[Matches]:
        """Match pairs as `match` does, up to `batch` of equal sizes at once: for GPUs, a CPU takes longer.

        Fewer are taken at once where the main memory would not hold so many.

        Returns:
            What `match` returns for each pair, but for rounding, in the order of the pairs.

        Raises:
            S2LDError: a batch below 1, rotation "auto", or as `__call__`.
        """
        self._refuse_rotation()
        check_pairs(pairs, batch)
        check_cuts(threshold, top_k)
        network = with_threshold(self.model, threshold)
        alike: dict[tuple[torch.Size, ...], list[int]] = {}
        for number, pair in enumerate(pairs):
            alike.setdefault(tuple(side.features.features.coarse.shape for side in pair), []).append(number)
        found: dict[int, Matches] = {}
        for numbers in alike.values():
            at_once = min(batch, self._pairs_that_fit(*(side.size for side in pairs[numbers[0]])))
            for first in range(0, len(numbers), at_once):
                some = numbers[first : first + at_once]
                matches = self._match_at_once(network, [pairs[number] for number in some], top_k)
                found.update(zip(some, matches, strict=True))
        return [found[number] for number in range(len(pairs))]

    def _refuse_rotation(self) -> None:
        if self.rotation != "none":
            raise S2LDError(
                f"rotation {self.rotation!r} needs both images at once: call the matcher on the pair, or make one with "
                "rotation 'none' for features that are extracted once"
            )

    def _match_at_once(
        self, network: S2LD, pairs: Sequence[tuple[Extracted, Extracted]], top_k: int | None
    ) -> list[Matches]:
        """Match pairs of equal sizes in one batch."""
        with self._guarded(*(side.size for side in pairs[0]), pairs=len(pairs)):
            side0, side1 = (joined_features([side.features for side in sides]) for sides in zip(*pairs, strict=True))
            encoded = network.encode_pair(side0, side1)
            return self._matches(network.predict(encoded), [(one.scale, other.scale) for one, other in pairs], top_k)

    def _matches(self, prediction: Prediction, scales: Sequence[_Scales], top_k: int | None) -> list[Matches]:
        most = self.top_k if top_k is None else top_k
        found = _matches(prediction, scales)
        return found if most is None else [matches.top(most) for matches in found]

    def _pairs_that_fit(self, *sizes: tuple[int, int]) -> int:
        """How many pairs of images of these two sizes, px as given, the main memory holds at once, at least one."""
        needed = self._memory_needed([self.resized_size(*size) for size in sizes])
        return max(1, available_memory() // needed)

    def detect(self, image: Any) -> tuple[FloatArray, FloatArray]:
        """Return the keypoints of one image, one for each 8 x 8 cell: points (P, 2) in image px and scores (P,).

        They are ordered by falling score. Raises S2LDError as `__call__` does.
        """
        array = to_array(image)
        with self._guarded(_size(array)):
            batch, scale = self._prepare(array)
            keypoints = self.model.detect(batch)
        score = to_numpy(keypoints.score.flatten())
        order = np.argsort(-score, kind="stable")
        return to_image_px(keypoints.points[0], scale)[order], score[order]

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Return (width, height) in resized px at which the network sees an image of that size."""
        if self.size is not None:
            return self.size[0] // MULTIPLE * MULTIPLE, self.size[1] // MULTIPLE * MULTIPLE
        return network_size(width, height, max(width, height) if self.max_side == KEEP_SIZE else self.max_side)

    def check_memory(self, *sizes: tuple[int, int]) -> None:
        """Refuse what the machine could only answer by killing the process: before every work, with a way out.

        Args:
            sizes: (width, height) of one image or of the two of a pair, px as given.

        Raises:
            S2LDError: more is needed than is available; the message names the `max_side` that would fit.
        """
        available = available_memory()
        resized = [self.resized_size(*size) for size in sizes]
        needed = self._memory_needed(resized)
        if needed <= available:
            return
        sides = range(MULTIPLE, max(map(max, resized)), MULTIPLE)
        fitting = bisect_right(
            sides, available, key=lambda side: self._memory_needed([network_size(*size, side) for size in sizes])
        )
        remedy = f"max_side (--resize) {sides[fitting - 1]} would fit" if fitting else "end other programs"
        raise S2LDError(
            f"{_at(resized)} takes about {needed / 2**30:.1f} GiB and does not fit into {available / 2**30:.1f} GiB of "
            f"available memory; {remedy}"
        )

    def _memory_needed(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Bytes of the main memory, for images of these sizes in resized px."""
        cells = [math.prod(size) // MULTIPLE**2 for size in sizes]
        images = 5 * MULTIPLE**2 * sum(cells)  # as uint8 and float32
        return images + (memory_needed(self.model.config, cells) if self.device.type == "cpu" else 0)

    def _prepare(self, array: UInt8Image) -> tuple[ImageBatch, tuple[float, float]]:
        return network_image(array, self.resized_size(*_size(array)), self.device)

    @contextmanager
    def _guarded(self, *sizes: tuple[int, int], pairs: int = 1) -> Iterator[None]:
        """Run the network on images of these sizes (`check_memory`); what memory cannot hold ends in one line."""
        allow_forks()
        self.check_memory(*sizes)
        try:
            with torch.inference_mode(), float32_by_default(), self._precision():
                yield
        except (RuntimeError, cv2.error) as error:  # neither has a class of its own for what a CPU cannot allocate
            if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error):
                what = _at([self.resized_size(*size) for size in sizes])
                remedy = "max_side (--resize)" if pairs == 1 else f"batch, {pairs} pairs at once,"
                raise S2LDError(
                    f"{what} does not fit into the memory of {self.device}; make {remedy} smaller"
                ) from error
            raise


def _size(array: UInt8Image) -> tuple[int, int]:
    return array.shape[1], array.shape[0]


def _at(sizes: Sequence[tuple[int, int]]) -> str:
    return "matching " + " with ".join(f"{width} x {height} px" for width, height in sizes)


def joined_features(sides: Sequence[ImageFeatures]) -> ImageFeatures:
    """Return features of images of one size as a batch; of one image they are not copied."""
    return sides[0] if len(sides) == 1 else ImageFeatures.joined(sides)


def _matches(prediction: Prediction, scales: Sequence[_Scales]) -> list[Matches]:
    """Return the matches of each pair of a batch."""
    fine, sides = prediction.fine, (prediction.encoded.keypoints0, prediction.encoded.keypoints1)
    points0, points1 = fine.points0.detach().float().cpu(), fine.points1.detach().float().cpu()
    confidence, score = to_numpy(prediction.coarse.confidence), to_numpy(fine.score)
    descriptors0, descriptors1 = (None if x is None else to_numpy(x) for x in (fine.descriptors0, fine.descriptors1))
    ends = np.searchsorted(prediction.coarse.batch.cpu().numpy(), np.arange(len(scales) + 1))
    matches = []
    for number, ((start, end), (scale0, scale1)) in enumerate(zip(pairwise(ends), scales, strict=True)):
        some = slice(start, end)
        matches.append(
            Matches(
                points0=to_image_px(points0[some], scale0),
                points1=to_image_px(points1[some], scale1),
                confidence=confidence[some],
                score=score[some],
                descriptors0=None if descriptors0 is None else descriptors0[some],
                descriptors1=None if descriptors1 is None else descriptors1[some],
                keypoints0=to_image_px(sides[0].points[number], scale0),
                keypoints1=to_image_px(sides[1].points[number], scale1),
            )
        )
    return matches


def to_image_px(points: Tensor, scale: tuple[float, float]) -> FloatArray:
    """Return (P, 2) points in resized px as px of the image as given; `scale`: image px per resized px, (x, y)."""
    points = points.detach().float().cpu()
    return to_numpy(resized_to_image(points, points.new_tensor(scale), "edge"))


def to_numpy(tensor: Tensor) -> FloatArray:
    """Return a tensor of any device as a float32 array."""
    return tensor.detach().float().cpu().numpy()
