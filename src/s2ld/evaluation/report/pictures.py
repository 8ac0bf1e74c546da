"""Pictures of evaluated pairs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from s2ld.data.images.reading import UInt8Image
from s2ld.data.sample import PairSample, ViewSample
from s2ld.errors import S2LDError
from s2ld.evaluation.match_errors import error_kind, errors_in_px
from s2ld.evaluation.predictions.cache import PairPrediction
from s2ld.viz.matches import Panel, draw_panels

BLANK = 150
"""Grey in the place of an image that is not there: all colours of lines show on it."""
WORST = 5.0
"""Error in px at the end of the colour bar."""


def draw_pair(
    prediction: PairPrediction, sample: PairSample | None, error: float, path: str | Path | None = None
) -> UInt8Image:
    """Draw the matches of a pair over its resized images, coloured by their error (`errors_in_px`).

    Args:
        prediction: what was matched; where neither a pose nor a plane is known, colours are confidences.
        sample: the images that it was matched on; None leaves their places blank.
        error: of the pair, for the title: degrees of the pose, or px of the corners; infinite for no estimate.
        path: where the picture is written too (.png, .jpg).

    Returns:
        (H, W, 3) RGB.

    Raises:
        S2LDError: the sample is of another pair or size; the picture cannot be written.
    """
    names = " - ".join(prediction.names)
    images = [np.full((height, width), BLANK, np.uint8) for width, height in prediction.sizes]
    if sample is not None:
        images = [(255 * view.image[0].numpy()).round().astype(np.uint8) for view in _views(sample, prediction)]
    kind = error_kind(prediction)
    title = f"{names}{'' if sample else ' (images not found)'}: {len(prediction.points0)} matches"
    points = (prediction.points0, prediction.points1)
    if kind is None:
        panel = Panel(*points, prediction.confidence, title)
    else:
        outcome = kind.pair_error.format(error) if math.isfinite(error) else "nothing estimated"
        values = errors_in_px(prediction, kind)
        panel = Panel(*points, values, f"{title}, {outcome}", None, kind.label, (0.0, WORST), "viridis_r")
    return draw_panels(images[0], images[1], [panel], path)


def _views(sample: PairSample, prediction: PairPrediction) -> tuple[ViewSample, ViewSample]:
    views = (sample.view0, sample.view1)
    names, found = (" - ".join(both) for both in (prediction.names, (view.name for view in views)))
    if found != names or tuple(map(_size, views)) != prediction.sizes:
        raise S2LDError(f"{names}: the data source now has {found} or another size here; run test.py again")
    return views


def _size(view: ViewSample) -> tuple[int, int]:
    height, width = view.image.shape[-2:]
    return int(width), int(height)
