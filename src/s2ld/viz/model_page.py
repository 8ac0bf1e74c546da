"""A sparse model as one HTML file, to be turned in a browser without a network."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2ld.files import whole_file
from s2ld.viz.reconstruction import ColouredModel, cameras_in_world, upright_axes

MOST_POINTS = 500_000
"""12 characters each: 6 MB. Of more, those that the most images see are kept."""
KEPT = 0.999
"""Of the points on each axis: a point at a great distance would leave no digits to the others."""
STEPS = 2**16 - 1
"""In which each axis is divided."""
FRAMED = 0.95
"""Of the points: what is shown at first, and the cameras, unless they are far away."""


def write_model_page(model: ColouredModel, title: str, path: Path) -> None:
    """Write the page, below 10 MB: points in their colours, cameras as pyramids whose size can be set.

    It begins with a view from behind the cameras and above them. Points are rounded to 1/65,535 of the extent.

    Raises:
        S2LDError: the file cannot be written.
    """
    axes = upright_axes(model.poses)
    kept = _kept(model)
    points = model.points[kept] @ axes.T
    low = points.min(0) if len(points) else np.zeros(3)
    extent = (points.max(0) - low).clip(1e-9) if len(points) else np.ones(3)
    rounded = np.rint((points - low) / extent * STEPS).astype("<u2")
    data = rounded.tobytes() + model.colours[kept].tobytes()
    about = _about(model, axes, points) | {"points": len(points), "low": low.tolist(), "extent": extent.tolist()}
    text = (files("s2ld.viz") / "model_page.html").read_text(encoding="utf-8")
    fields = {"TITLE": escape(title), "ABOUT": _json(about), "DATA": b64encode(data).decode()}
    for name, value in fields.items():
        text = text.replace(f"@{name}@", value)
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _kept(model: ColouredModel) -> NDArray[np.int64]:
    """Return the rows of the points that are drawn."""
    if not len(model.points):
        return np.zeros(0, np.int64)
    low, high = np.quantile(model.points, [(1 - KEPT) / 2, (1 + KEPT) / 2], axis=0)
    margin = high - low
    near = ((model.points >= low - margin) & (model.points <= high + margin)).all(1)
    rows = np.flatnonzero(near)
    return np.sort(rows[np.argsort(-model.seen[rows], kind="stable")[:MOST_POINTS]])


def _about(model: ColouredModel, axes: NDArray[np.float64], points: NDArray[np.float64]) -> dict[str, object]:
    """Return the cameras, and where the eye is at first: the world's y axis is up, z towards the eye at yaw 0."""
    apex, corners = (values @ axes.T for values in cameras_in_world(model))
    cameras = [
        {"name": name, "points": int(count), "at": _short(at), "frame": [_short(corner - at) for corner in four]}
        for name, count, at, four in zip(model.names, model.observed, apex, corners, strict=True)
    ]
    shown = points if len(points) else apex
    target = np.median(shown, axis=0)
    around, cameras_around = (np.linalg.norm(places - target, axis=1) for places in (shown, apex))
    reach = max(float(np.quantile(around, FRAMED)), 1e-6)
    reach = min(max(reach, float(cameras_around.max())), 3 * reach)
    size = float(np.clip(400 / max(len(points), 1) ** 0.5, 1.5, 5))
    view = {"target": target.tolist(), "distance": 2 * reach, "yaw": 0.5, "pitch": 0.35}
    return {"cameras": cameras, "size": size, **view}


def _short(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _json(content: Mapping[str, object]) -> str:
    """Return JSON that ends no script element, whatever the names of photographs."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
