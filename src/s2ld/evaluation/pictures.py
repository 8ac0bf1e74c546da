"""Pictures of evaluated pairs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from s2ld.data.images import UInt8Image
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.evaluation.cache import PairPrediction
from s2ld.evaluation.evaluate import threshold_name
from s2ld.evaluation.metrics import PRECISION_THRESHOLDS, epipolar_distances, posed_matches
from s2ld.viz.matches import Panel, draw_panels

UNIT = 1e-4
"""Of the colour bar, beside which longer numbers have no room: squared distance in normalised coordinates."""


def draw_pair(
    prediction: PairPrediction, sample: PairSample, pose_error: float, path: str | Path | None = None
) -> UInt8Image:
    """Draw the matches of a pair over its resized images, coloured by their epipolar error.

    Args:
        prediction: what was matched.
        sample: the images that it was matched on.
        pose_error: degrees, for the title; infinite without a pose.
        path: where the picture is written too (.png, .jpg).

    Returns:
        (H, W, 3) RGB.

    Raises:
        S2LDError: the sample is of another pair or size; the picture cannot be written.
    """
    views = (sample.view0, sample.view1)
    names = " - ".join(prediction.names)
    found = " - ".join(view.name for view in views)
    if found != names or tuple(map(_size, views)) != prediction.sizes:
        raise S2LDError(f"{names}: the data source now has {found} or another size here; run test.py again")
    images = [(255 * view.image[0].numpy()).round().astype(np.uint8) for view in views]
    errors = epipolar_distances(posed_matches(prediction, "edge", "resized"), prediction.T_0to1)
    outcome = f"pose error {pose_error:.2f} degrees" if math.isfinite(pose_error) else "no pose"
    title = f"{names}: {len(errors)} matches, {outcome}"
    limits, label = (0.0, PRECISION_THRESHOLDS[-1] / UNIT), f"squared epipolar distance, {threshold_name(UNIT)}"
    panel = Panel(prediction.points0, prediction.points1, errors / UNIT, title, label, limits, "RdYlGn_r")
    return draw_panels(images[0], images[1], [panel], path)


def _size(view: ViewSample) -> tuple[int, int]:
    height, width = view.image.shape[-2:]
    return int(width), int(height)
