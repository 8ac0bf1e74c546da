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

MAX_LINES = 200
"""Most lines drawn by default: more of them hide the images. Points are drawn of all matches."""
GOOD, BAD = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito (https://jfly.uni-koeln.de/color), which colour-blind people tell apart."""
_BOX = (640, 480)  # px: each image is drawn as large as fits in it ...
_LARGEST = 1200 / 640  # ... or in one that is up to so much larger, if an image is. What follows grows with it.
_GAP = 8  # px between the images
_HEAD = 34  # px above the images, for the title
_BAR = 92  # px at their right, for the colour bar
_DPI = 100
_FONT = 9.5  # points
_QUALITY = 85  # of JPEG files


@dataclass(frozen=True)
class Panel:
    """One picture of a set of matches, coloured by a value of theirs."""

    points0: FloatArray
    """(M, 2) px of image 0, pixel centres at integers."""
    points1: FloatArray
    """(M, 2) px of image 1."""
    values: FloatArray
    """(M,) what matches are coloured by; larger values lie on top, NaN is not drawn."""
    title: str = ""
    """Drawn above; the number of lines is added to it where not all are drawn."""
    classes: tuple[str, str] | None = None
    """What values of 0 and 1 mean, e.g. outliers and inliers: two colours, counts in the title and no colour bar."""
    label: str = "confidence"
    """Name of the value, beside the colour bar."""
    limits: tuple[float, float] = (0.0, 1.0)
    """Values at the ends of the colour bar."""
    colours: str = "viridis"
    """Name of a matplotlib colour map."""


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
    panel = Panel(points0, points1, values, title, None, label, limits)
    return draw_panels(image0, image1, [panel], path, max_lines)


def draw_panels(
    image0: UInt8Image,
    image1: UInt8Image,
    panels: Sequence[Panel],
    path: str | Path | None = None,
    max_lines: int = MAX_LINES,
) -> UInt8Image:
    """Draw the panels below each other, each with both images, (H, W) grey or (H, W, 3) RGB of any size.

    All matches are points, and `max_lines` of them, evenly by their value, lines too. Images are drawn with up to
    1,200 px a side.

    Returns (H', W', 3) RGB, and writes it to `path` (.png, .jpg) if that is given.

    Raises:
        S2LDError: the picture cannot be written there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = min(_LARGEST, max(1.0, max(*image0.shape[:2], *image1.shape[:2]) / _BOX[0]))
    head = round(_HEAD * size)
    canvas, place0, place1 = _side_by_side(image0, image1, size)
    height, width = canvas.shape[:2]
    bars = 0 if all(panel.classes for panel in panels) else round(_BAR * size)
    full = (width + bars, len(panels) * (height + head))
    figure = Figure(figsize=(full[0] / _DPI, full[1] / _DPI), dpi=_DPI, facecolor="white")
    surface: Any = FigureCanvasAgg(figure)  # untyped methods
    for i, panel in enumerate(panels):
        bottom = (len(panels) - 1 - i) * (height + head)
        axes = figure.add_axes((0.0, bottom / full[1], width / full[0], height / full[1]))
        axes.imshow(canvas, interpolation="nearest")
        axes.set(autoscale_on=False)  # points outside the images must not shrink them
        axes.set_axis_off()
        lines = _draw_matches(
            axes, place0.to_canvas(panel.points0), place1.to_canvas(panel.points1), panel, max_lines, size
        )
        _write_head(axes, panel, lines, size)
        if panel.classes is None:
            place = (width + 12 * size, bottom + 0.05 * height, 14 * size, 0.9 * height)
            whole = (full[0], full[1], full[0], full[1])
            _draw_bar(figure, figure.add_axes(tuple(np.divide(place, whole))), panel, size)
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


def _side_by_side(image0: UInt8Image, image1: UInt8Image, size: float) -> tuple[UInt8Image, _Place, _Place]:
    small0, small1 = _fit(image0, size), _fit(image1, size)
    left1 = small0.shape[1] + round(_GAP * size)
    height = max(small0.shape[0], small1.shape[0])
    canvas = np.full((height, left1 + small1.shape[1], 3), 255, np.uint8)
    canvas[: small0.shape[0], : small0.shape[1]] = small0
    canvas[: small1.shape[0], left1:] = small1
    return canvas, _Place(0, _scale(image0, small0)), _Place(left1, _scale(image1, small1))


def _fit(image: UInt8Image, scale: float) -> UInt8Image:
    height, width = image.shape[:2]
    factor = min(scale * _BOX[0] / width, scale * _BOX[1] / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return np.asarray(small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB), np.uint8)


def _scale(image: UInt8Image, small: UInt8Image) -> tuple[float, float]:
    return small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]


def _draw_matches(axes: Axes, start: FloatArray, end: FloatArray, panel: Panel, max_lines: int, size: float) -> int:
    """Draw points of all matches and some lines; return how many."""
    from matplotlib.collections import LineCollection

    order = choose_lines(panel.values, len(panel.values))
    chosen = choose_lines(panel.values, max_lines)
    lines = list(np.stack([start[chosen], end[chosen]], 1))
    axes.add_collection(
        LineCollection(lines, colors=_colours(panel, panel.values[chosen]), linewidths=0.5 * size + 0.1, alpha=0.5)
    )
    ends, colours = np.concatenate([start[order], end[order]]), _colours(panel, panel.values[order])
    axes.scatter(
        ends[:, 0], ends[:, 1], s=5 * size, c=np.concatenate([colours, colours]), linewidths=0, alpha=0.9, zorder=3
    )
    return len(chosen)


def _colours(panel: Panel, values: FloatArray) -> NDArray[np.float64]:
    """Return (M, 4) RGBA."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize, to_rgba

    if panel.classes is not None:
        return np.array([to_rgba(BAD), to_rgba(GOOD)])[(values > 0.5).astype(np.intp)]
    return np.asarray(colormaps[panel.colours](Normalize(*panel.limits, clip=True)(values)), np.float64)


def _write_head(axes: Axes, panel: Panel, lines: int, size: float) -> None:
    """Write the title and, behind it, how many matches are of each class, in the classes' colours."""
    texts = [(_title(panel, lines), "black")]
    if panel.classes is not None:
        total, good = int(np.isfinite(panel.values).sum()), int((panel.values > 0.5).sum())
        for name, count, colour in zip(panel.classes[::-1], (good, total - good), (GOOD, BAD), strict=True):
            texts.append((f"{count} {name} ({100 * count / max(total, 1):.0f} %)", colour))
    place: dict[str, Any] = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (6 * size, 7 * size)}
    for text, colour in texts:
        note = axes.annotate(
            text, **place, textcoords="offset pixels", color=colour, fontsize=_FONT * size, parse_math=False,
            annotation_clip=False,
        )  # fmt: skip
        place = {"xy": (1, 0), "xycoords": note, "xytext": (12 * size, 0), "va": "bottom"}


def _draw_bar(figure: Figure, axes: Axes, panel: Panel, size: float) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(*panel.limits), colormaps[panel.colours]), cax=axes)
    axes.tick_params(labelsize=_FONT * size)
    bar.set_label(panel.label, fontsize=_FONT * size)


def _title(panel: Panel, lines: int) -> str:
    title = printable(panel.title)  # names of files are in it
    return title if lines in (0, np.isfinite(panel.values).sum()) else f"{title} ({lines} lines drawn)"
