"""Errors of pose and depth as reconstructions have them, injected into training pairs for experiments."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.config import CN
from s2ld.data.sample import PairSample, PairSource, ViewSample, epoch_pairs_of

NODES = 8  # of the correlated depth error along the longer side: it turns its sign a few times over an image
CORRELATED_SHARE = 0.5  # of the variance of the depth error; the rest is independent a pixel
STREAM = 1  # third word of the generator's seed: sources and their mixture draw from (seed, index)

Array = NDArray[np.float64]


class NoisyPairs:
    """A source whose relative pose and depth maps are slightly wrong; images and intrinsics are as they were.

    The errors are a pure function of (seed, index): a pair that an endless source visits twice, at two indices, has
    other errors the second time. Unknown depth (0) stays unknown.

    Args:
        source: the clean pairs.
        config: the DATA node (NOISE).
        seed: of the errors.
    """

    def __init__(self, source: PairSource, config: CN, seed: int) -> None:
        self.source = source
        self.seed = seed
        noise = config.NOISE
        self._rotation, self._translation, self._depth = noise.ROTATION, noise.TRANSLATION, noise.DEPTH

    def __len__(self) -> int:
        return len(self.source)

    @property
    def epoch_pairs(self) -> int | None:
        """Those of the source."""
        return epoch_pairs_of(self.source)

    def __getitem__(self, index: int) -> PairSample:
        clean = self.source[index]
        rng = np.random.default_rng((self.seed, index, STREAM))
        return replace(
            clean,
            T_0to1=noisy_pose(clean.T_0to1, self._rotation, self._translation, rng),
            view0=self._view(clean.view0, rng),
            view1=self._view(clean.view1, rng),
        )

    def _view(self, view: ViewSample, rng: np.random.Generator) -> ViewSample:
        if view.depth is None:
            return view
        height, width = view.depth.shape
        factor = torch.from_numpy(depth_factor(height, width, self._depth, rng)).to(view.depth.dtype)
        return replace(view, depth=view.depth * factor)


def with_noise(source: PairSource, config: CN, seed: int) -> PairSource:
    """Return the source with the errors of the NOISE node of DATA node `config`; the source itself where all are 0."""
    noise = config.NOISE
    return NoisyPairs(source, config, seed) if max(noise.ROTATION, noise.TRANSLATION, noise.DEPTH) > 0 else source


def noisy_pose(T_0to1: Tensor, rotation: float, translation: float, rng: np.random.Generator) -> Tensor:
    """Return a pose (4, 4) whose errors, as `s2ld.geometry.pose.pose_error` measures them, are |N(0, sigma)| degrees.

    The rotation is turned about an axis of any direction. The direction of the translation is turned about an axis at
    right angles to it, and its length is kept; a zero translation stays zero.

    Args:
        T_0to1: (4, 4) true pose.
        rotation: sigma of the rotation's error, degrees.
        translation: sigma of the angle between the two directions of translation, degrees.
        rng: of the errors.
    """
    axes = rng.normal(size=(2, 3))
    angles = np.radians(rng.normal(size=2) * (rotation, translation))
    noisy = T_0to1.double().numpy().copy()
    noisy[:3, :3] = _turn(axes[0], angles[0]) @ noisy[:3, :3]
    noisy[:3, 3] = _turn(np.cross(axes[1], noisy[:3, 3]), angles[1]) @ noisy[:3, 3]
    return torch.from_numpy(noisy).to(T_0to1.dtype)


def depth_factor(height: int, width: int, sigma: float, rng: np.random.Generator) -> Array:
    """Return (height, width) positive factors ``exp(sigma n)`` of a depth map.

    n is normal of unit variance: half of the variance varies smoothly over the image, as the error of a bent surface
    does (its root mean square over the image is the same in all images), the other half is independent a pixel.

    Args:
        height, width: px.
        sigma: relative error of the depth.
        rng: of the errors.
    """
    step = max(height, width) / NODES
    nodes = rng.normal(size=(1 + round(height / step), 1 + round(width / step)))
    smooth = np.asarray(cv2.resize(nodes, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)
    smooth /= np.sqrt(np.mean(smooth**2))
    pixels = rng.normal(size=(height, width))
    n = np.sqrt(CORRELATED_SHARE) * smooth + np.sqrt(1 - CORRELATED_SHARE) * pixels
    return np.asarray(np.exp(sigma * n), np.float64)


def _turn(axis: Array, angle: float) -> Array:
    """(3, 3) rotation by `angle` radians about `axis` of any length; the identity about a zero axis."""
    length = float(np.linalg.norm(axis))
    return np.eye(3) if length == 0 else np.asarray(cv2.Rodrigues(axis / length * angle)[0], np.float64)
