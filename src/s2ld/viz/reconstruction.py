"""A picture of a sparse model from three sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from s2ld.files import whole_file

Floats = NDArray[np.float64]
SHOWN = 0.98  # of the points on each axis: far ones would make the rest small
MARGIN = 0.08  # of the extent on each side
SIZED = 20_000  # points squared that all points of a panel take together, about
FRUSTUM = 0.05  # length of a camera, of the extent of what is shown
SIDES = {
    "front": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "right side": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "top": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}
"""Rows: what is to the right, upwards and towards the eye; of x right, y up, z against the cameras' direction."""


@dataclass(frozen=True)
class ColouredModel:
    """What is drawn of a sparse model; unit of length: the model's own."""

    points: Floats
    """(P, 3) in the world."""
    colours: NDArray[np.uint8]
    """(P, 3) RGB."""
    poses: Floats
    """(n, 4, 4) world to camera."""
    corners: Floats
    """(n, 4, 2) of the images at distance 1, around each of them, in the cameras' x and y."""
    names: Sequence[str]
    """(n) of the images."""
    seen: NDArray[np.int64]
    """(P,) images that see each point."""
    observed: NDArray[np.int64]
    """(n,) points that each image sees."""


def draw_model(model: ColouredModel, title: str, path: Path) -> None:
    """Draw points in their colours and cameras as red pyramids, from the front, from the right and from above.

    Up is where the cameras' upper sides point in the mean, front is where they look to.

    Raises:
        S2LDError: the file cannot be written.
    """
    axes = upright_axes(model.poses)
    points = model.points @ axes.T
    apex, corners = (values @ axes.T for values in cameras_in_world(model))
    low, high = _extent(points, apex)
    middle, reach = (low + high) / 2, float((high - low).max()) * (0.5 + MARGIN)
    corners = apex[:, None] + FRUSTUM * reach * (corners - apex[:, None])
    figure = Figure(figsize=(15, 5.3), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, (name, side) in zip(figure.subplots(1, 3), SIDES.items(), strict=True):
        seen, centre = points @ np.asarray(side, float).T, np.asarray(side, float) @ middle
        order = np.argsort(seen[:, 2])  # the nearest last
        size = float(np.clip(SIZED / max(len(points), 1), 1.0, 8.0))
        panel.scatter(seen[order, 0], seen[order, 1], c=model.colours[order] / 255, s=size, linewidths=0, zorder=2)
        lines = _pyramids(apex @ np.asarray(side, float).T, corners @ np.asarray(side, float).T)
        panel.add_collection(LineCollection(lines, colors="red", linewidths=0.5, zorder=1))  # never before the points
        panel.set(xlim=(centre[0] - reach, centre[0] + reach), ylim=(centre[1] - reach, centre[1] + reach))
        panel.set(aspect="equal", xticks=[], yticks=[])
        panel.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10, parse_math=False)
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=110)


def upright_axes(poses: Floats) -> Floats:
    """Return rows x right, y up and z against the mean direction of view of cameras (n, 4, 4), in the world, (3, 3)."""
    up = -poses[:, 1, :3].sum(0)  # a camera's y axis points down
    up = up / np.linalg.norm(up) if np.linalg.norm(up) > 1e-9 else np.array([0.0, 1.0, 0.0])
    ahead = poses[:, 2, :3]
    ahead = ahead - (ahead @ up)[:, None] * up
    front = ahead.sum(0)
    if np.linalg.norm(front) < 0.1 * len(poses):  # around a thing, or straight down: as the first camera sees it
        front = poses[0, 2, :3] - (poses[0, 2, :3] @ up) * up
    if np.linalg.norm(front) < 1e-9:
        front = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    z = -front / np.linalg.norm(front)
    return np.stack([np.cross(up, z), up, z])


def cameras_in_world(model: ColouredModel) -> tuple[Floats, Floats]:
    """Return the cameras' centres (n, 3) and the corners (n, 4, 3) of their images at distance 1, in the world."""
    rotation, translation = model.poses[:, :3, :3], model.poses[:, :3, 3]
    corners = np.concatenate([model.corners, np.ones((*model.corners.shape[:2], 1))], 2)
    back = rotation.transpose(0, 2, 1)
    return -(back @ translation[:, :, None])[:, :, 0], (corners - translation[:, None]) @ rotation


def _extent(points: Floats, centres: Floats) -> tuple[Floats, Floats]:
    """Return the lowest and highest corner (3,) of what is shown: all cameras and most points."""
    both = [(1 - SHOWN) / 2, (1 + SHOWN) / 2]
    low, high = np.quantile(points, both, axis=0) if len(points) else (centres.min(0), centres.max(0))
    return np.minimum(low, centres.min(0)), np.maximum(high, centres.max(0))


def _pyramids(apex: Floats, corners: Floats) -> list[Floats]:
    """Return the lines (2 or 5, 2) of cameras as seen: an edge to each corner, and the image's frame."""
    edges = [np.stack([a, corner])[:, :2] for a, four in zip(apex, corners, strict=True) for corner in four]
    return edges + [four[[0, 1, 2, 3, 0], :2] for four in corners]
