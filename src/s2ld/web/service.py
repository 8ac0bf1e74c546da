"""The work behind the addresses: photographs in, matches, keypoints and models out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2ld.data.images.pixels import UInt8Image
from s2ld.data.images.reading import jpeg_bytes, network_size, resize
from s2ld.geometry.two_view import Kind, TwoView, estimate
from s2ld.matcher import Matcher
from s2ld.types import FloatArray, Matches
from s2ld.web.fields import FOCAL, INLIER_THRESHOLD, MatchOptions
from s2ld.web.limits import BAD_INPUT, MOST_POINTS, Limits, Refused
from s2ld.web.line import Tell
from s2ld.web.uploads import Upload

PREVIEW_SIDE = 1600
"""px: longer side of the picture that a browser is given of a file that it cannot read itself."""
PREVIEW_QUALITY = 90
Size = tuple[int, int]
"""(width, height), px."""


@dataclass(frozen=True)
class Fit:
    """A model of two views, and what an inlier was."""

    model: TwoView
    threshold: float
    """px of photograph 1."""


@dataclass(frozen=True)
class Matched:
    """A pair that was matched."""

    weights: str
    matches: Matches
    sizes: tuple[Size, Size]
    """Of the photographs as sent, upright."""
    resized: tuple[Size, Size]
    """As the network saw them."""
    fit: Fit | None
    """None where none was asked for."""
    seconds: float
    """Of the work, without the time in the line."""


@dataclass(frozen=True)
class Preview:
    """A photograph for a browser that cannot read its file."""

    jpeg: bytes
    size: Size
    """Of the photograph as sent, upright."""


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of one photograph."""

    points: FloatArray
    """(P, 2) px, by falling score."""
    scores: FloatArray
    """(P,) in [0, 1]."""
    size: Size


class Service:
    """Matchers by name. Its methods that compute are called by one thread, after each other."""

    def __init__(self, matchers: Mapping[str, Matcher], limits: Limits) -> None:
        """Take matchers by the names that clients know them by, the default first, and the limits of photographs."""
        self._matchers, self._limits = dict(matchers), limits

    @property
    def thresholds(self) -> dict[str, float]:
        """Confidence that a match exceeds by default, by name of the weights, the default weights first."""
        return {name: float(matcher.model.threshold) for name, matcher in self._matchers.items()}

    def match(self, uploads: tuple[Upload, Upload], options: MatchOptions, tell: Tell) -> Matched:
        """Match two photographs.

        Raises:
            S2LDError: one cannot be read, or the pair does not fit into memory.
            Refused: one has too many pixels.
        """
        started = time.perf_counter()
        tell("reading the photographs")
        image0, image1 = (upload.decode(self._limits) for upload in uploads)
        matcher = self._matcher(options.weights, options.resolution, options.rotation)
        cuts: dict[str, Any] = {"threshold": options.threshold, "top_k": options.top_k}
        if options.rotation == "none":
            tell("features of the first photograph")
            extracted0 = matcher.extract(image0)
            tell("features of the second photograph")
            extracted1 = matcher.extract(image1)
            tell("matching")
            matches = matcher.match(extracted0, extracted1, **cuts)
        else:
            tell("trying quarter turns, matching")
            matches = matcher(image0, image1, **cuts)
        sizes = _size(image0), _size(image1)
        resized = matcher.resized_size(*sizes[0]), matcher.resized_size(*sizes[1])
        fit = None
        if options.estimate is not None:
            tell("fitting the model")
            pixel = sizes[1][0] / resized[1][0]
            threshold = options.inlier_threshold or INLIER_THRESHOLD * pixel
            focals = (options.focal0, options.focal1)
            fit = fit_model(matches.points0, matches.points1, options.estimate, threshold, sizes, focals)
        return Matched(options.weights, matches, sizes, resized, fit, time.perf_counter() - started)

    def keypoints(self, upload: Upload, weights: str, resolution: int, tell: Tell) -> Keypoints:
        """Detect the keypoints of one photograph; raises as `match`."""
        tell("reading the photograph")
        image = upload.decode(self._limits)
        tell("detecting keypoints")
        points, scores = self._matcher(weights, resolution).detect(image)
        return Keypoints(points, scores, _size(image))

    def preview(self, upload: Upload) -> Preview:
        """Return a photograph small enough to be shown, as JPEG; raises as `match`."""
        image = upload.decode(self._limits)
        size = _size(image)
        if max(size) > PREVIEW_SIDE:
            image, _ = resize(image, network_size(*size, PREVIEW_SIDE, 1))
        return Preview(jpeg_bytes(image, PREVIEW_QUALITY), size)

    def _matcher(self, name: str, side: int, rotation: str = "none") -> Matcher:
        """Return the matcher of weights with options of this request; the network is shared."""
        matcher = copy(self._matchers[name])
        matcher.max_side, matcher.rotation = side, rotation
        return matcher


def fit_model(
    points0: FloatArray,
    points1: FloatArray,
    kind: Kind,
    threshold: float,
    sizes: tuple[Size, Size],
    focals: tuple[float | None, float | None],
) -> Fit:
    """Fit a model of two views (`s2ld.geometry.two_view.estimate`), with intrinsics by `guessed_intrinsics`.

    Args:
        points0: (M, 2) px of photograph 0.
        points1: (M, 2) px of photograph 1.
        kind: homography | fundamental | essential.
        threshold: error of an inlier, px of photograph 1.
        sizes: of the photographs.
        focals: px; None: `FOCAL` longer sides.

    Raises:
        S2LDError: too many matches, or PoseLib is missing for the essential matrix.
    """
    if len(points0) > MOST_POINTS:
        raise Refused(BAD_INPUT, f"{len(points0)} matches are more than {MOST_POINTS}; raise the threshold")
    K0, K1 = (guessed_intrinsics(size, focal) for size, focal in zip(sizes, focals, strict=True))
    return Fit(estimate(points0, points1, kind, threshold, K0, K1), threshold)


def guessed_intrinsics(size: Size, focal: float | None) -> FloatArray:
    """Return (3, 3) intrinsics, px, of a camera whose principal point is the centre of its photograph."""
    width, height = size
    focal = FOCAL * max(size) if focal is None else focal
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def _size(image: UInt8Image) -> Size:
    return image.shape[1], image.shape[0]
