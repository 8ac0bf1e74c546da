"""Pictures of matches: both images side by side and a line for each match."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2ld.data.images.reading import UInt8Image, write_image
from s2ld.files import printable
from s2ld.types import FloatArray

if TYPE_CHECKING:  # a panel can be made without it: it is drawn only where matplotlib is installed
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 500
"""Most lines drawn by default: more of them hide the images."""
_BOX = (640, 480)  # px: each image is drawn as large as fits in it
_GAP = 8  # px between the images
_HEAD = 34  # px above the images, for the title
_BAR = 92  # px at their right, for the colour bar
_DPI = 100
_QUALITY = 85  # of JPEG files


@dataclass(frozen=True)
class Panel:
    """One picture of a set of matches, coloured by a value of theirs."""

    points0: FloatArray
    """(M, 2) px of image 0, pixel centres at integers."""
    points1: FloatArray
    """(M, 2) px of image 1."""
    values: FloatArray
    """(M,) what the lines are coloured by; lines with larger values lie on top, NaN is not drawn."""
    title: str = ""
    """Drawn above; the number of lines is added to it where not all are drawn."""
    label: str = "confidence"
    """Name of the value, beside the colour bar."""
    limits: tuple[float, float] = (0.0, 1.0)
    """Values at the ends of the colour bar."""
    colours: str = "viridis"
    """Name of a matplotlib colour map."""
    ends: tuple[str, str] | None = None
    """Words at the ends of the colour bar instead of numbers."""


def draw_matches(
    image0: UInt8Image,
    image1: UInt8Image,
    points0: FloatArray,
    points1: FloatArray,
    values: FloatArray,
    path: str | Path | None = None,
    title: str = "",
    label: str = "confidence",
    limits: tuple[float, float] = (0.0, 1.0),
    max_lines: int = MAX_LINES,
) -> UInt8Image:
    """Draw one panel: see `draw_panels` and `Panel`."""
    panel = Panel(points0, points1, values, title, label, limits)
    return draw_panels(image0, image1, [panel], path, max_lines)


def draw_panels(
    image0: UInt8Image,
    image1: UInt8Image,
    panels: Sequence[Panel],
    path: str | Path | None = None,
    max_lines: int = MAX_LINES,
) -> UInt8Image:
    """Draw the panels below each other, each with both images, (H, W) grey or (H, W, 3) RGB of any size.

    Returns (H', W', 3) RGB, and writes it to `path` (.png, .jpg) if that is given.

    Raises:
        S2LDError: the picture cannot be written there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas, place0, place1 = _side_by_side(image0, image1)
    height, width = canvas.shape[:2]
    full = (width + _BAR, len(panels) * (height + _HEAD))
    figure = Figure(figsize=(full[0] / _DPI, full[1] / _DPI), dpi=_DPI, facecolor="white")
    surface: Any = FigureCanvasAgg(figure)  # untyped methods
    for i, panel in enumerate(panels):
        bottom = (len(panels) - 1 - i) * (height + _HEAD)
        axes = figure.add_axes((0.0, bottom / full[1], width / full[0], height / full[1]))
        axes.imshow(canvas, interpolation="nearest")
        axes.set(autoscale_on=False)  # points outside the images must not shrink them
        axes.set_axis_off()
        chosen = choose_lines(panel.values, max_lines)
        start, end = place0.to_canvas(panel.points0[chosen]), place1.to_canvas(panel.points1[chosen])
        _draw_lines(axes, start, end, panel, panel.values[chosen])
        axes.set_title(_title(panel, len(chosen)), fontsize=9.5, loc="left", pad=6, x=6 / width, parse_math=False)
        low, tall = bottom + 0.05 * height, 0.9 * height
        bar = figure.add_axes(((width + 12) / full[0], low / full[1], 14 / full[0], tall / full[1]))
        _draw_bar(figure, bar, panel)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # file names in scripts that the font lacks
        surface.draw()
    picture = np.asarray(surface.buffer_rgba())[..., :3].copy()
    if path is not None:
        write_image(picture, path, _QUALITY)
    return picture


def choose_lines(values: FloatArray, limit: int) -> NDArray[np.intp]:
    """Return at most `limit` indices in ascending order of their value, taken evenly by rank; NaN is left out."""
    order = np.argsort(values, kind="stable")
    order = order[np.isfinite(values[order])]
    if len(order) <= limit:
        return order
    return np.asarray(order[np.linspace(0, len(order) - 1, limit).round().astype(np.intp)])


@dataclass(frozen=True)
class _Place:
    """Where an image lies on the canvas."""

    left: int
    scale: tuple[float, float]  # canvas px per image px

    def to_canvas(self, points: FloatArray) -> FloatArray:
        """Return (P, 2) points in image px as px of the canvas, pixel edges aligned."""
        return np.asarray((points + 0.5) * np.array(self.scale) - 0.5 + np.array([self.left, 0]))


def _side_by_side(image0: UInt8Image, image1: UInt8Image) -> tuple[UInt8Image, _Place, _Place]:
    small0, small1 = _fit(image0), _fit(image1)
    left1 = small0.shape[1] + _GAP
    height = max(small0.shape[0], small1.shape[0])
    canvas = np.full((height, left1 + small1.shape[1], 3), 255, np.uint8)
    canvas[: small0.shape[0], : small0.shape[1]] = small0
    canvas[: small1.shape[0], left1:] = small1
    return canvas, _Place(0, _scale(image0, small0)), _Place(left1, _scale(image1, small1))


def _fit(image: UInt8Image) -> UInt8Image:
    height, width = image.shape[:2]
    factor = min(_BOX[0] / width, _BOX[1] / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return np.asarray(small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB), np.uint8)


def _scale(image: UInt8Image, small: UInt8Image) -> tuple[float, float]:
    return small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]


def _draw_lines(axes: Axes, start: FloatArray, end: FloatArray, panel: Panel, values: FloatArray) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    colours = colormaps[panel.colours](Normalize(*panel.limits, clip=True)(values))
    axes.add_collection(LineCollection(list(np.stack([start, end], 1)), colors=colours, linewidths=0.6, alpha=0.55))
    ends, both = np.concatenate([start, end]), np.concatenate([colours, colours])
    axes.scatter(ends[:, 0], ends[:, 1], s=6, c=both, linewidths=0, zorder=3)


def _draw_bar(figure: Figure, axes: Axes, panel: Panel) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(*panel.limits), colormaps[panel.colours]), cax=axes)
    if panel.label:
        bar.set_label(panel.label)
    if panel.ends is not None:
        bar.set_ticks(list(panel.limits), labels=list(panel.ends))


def _title(panel: Panel, drawn: int) -> str:
    total, title = len(panel.values), printable(panel.title)  # names of files are in it
    return title if drawn == total else f"{title} ({drawn} of {total} drawn)"
