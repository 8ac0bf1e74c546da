"""The fields of a request: one table that they are read by, checked by, and told by in the OpenAPI document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2ld.data.images.reading import MULTIPLE
from s2ld.errors import one_line
from s2ld.geometry.two_view import KINDS, Kind
from s2ld.matcher_options import MAX_SIDE, ROTATIONS
from s2ld.web.limits import BAD_INPUT, MOST_POINTS, Limits, Refused

FOCAL = 1.2
"""Default focal length in longer sides of the photograph, as COLMAP guesses it; the principal point is the centre."""
INLIER_THRESHOLD = 2.0
"""Default error of an inlier, px of the resized images."""


@dataclass(frozen=True)
class Field:
    """A number or a word of a request."""

    name: str
    kind: type[int] | type[float] | type[str]
    what: str
    default: Any = None
    """None: what the description says."""
    least: float | None = None
    most: float | None = None
    above: bool = False
    """Whether `least` itself is left out."""
    choices: Sequence[str] = ()

    def read(self, value: Any) -> Any:
        """Return the value of a text or of a JSON value; the default of None and of an empty text.

        Raises:
            Refused: another type, out of range, or no choice.
        """
        if value is None or value == "":
            return self.default
        try:
            if isinstance(value, bool):
                raise ValueError
            number = self.kind(value)
        except (TypeError, ValueError, OverflowError):
            raise self._refused(value) from None
        if isinstance(number, str):
            inside = number in self.choices
        else:
            low = -math.inf if self.least is None else self.least
            high = math.inf if self.most is None else self.most
            inside = math.isfinite(number) and (low < number if self.above else low <= number) and number <= high
        if not inside:
            raise self._refused(value)
        return number

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema."""
        names = {int: "integer", float: "number", str: "string"}
        schema: dict[str, Any] = {"type": names[self.kind], "description": self.what}
        values = {"default": self.default, "exclusiveMinimum" if self.above else "minimum": self.least}
        values |= {"maximum": self.most, "enum": list(self.choices) or None}
        return schema | {key: value for key, value in values.items() if value is not None}

    def _refused(self, value: Any) -> Refused:
        if self.choices:
            range_ = f"one of {', '.join(self.choices)}"
        else:
            kind = "a whole number" if self.kind is int else "a number"
            low = "" if self.least is None else f" {'above' if self.above else 'from'} {self.least:g}"
            range_ = f"{kind}{low}{'' if self.most is None else f' to {self.most:g}'}"
        return Refused(BAD_INPUT, f"{self.name} must be {range_}, not {one_line(value)}")


@dataclass(frozen=True)
class MatchOptions:
    """What a pair is matched with."""

    weights: str
    """Name."""
    threshold: float | None
    """Confidence that a match must exceed; None: that of the weights."""
    top_k: int | None
    """Most matches; None: all."""
    resolution: int
    """Longer side of the images as the network sees them, resized px."""
    rotation: str
    """none | auto."""
    estimate: Kind | None
    """Model that is fitted; None: none."""
    inlier_threshold: float | None
    """px of photograph 1; None: `INLIER_THRESHOLD` resized px."""
    focal0: float | None
    """Focal length of photograph 0, px; None: `FOCAL` longer sides."""
    focal1: float | None
    """Of photograph 1."""


def match_fields(weights: Sequence[str], limits: Limits) -> tuple[Field, ...]:
    """Return the fields of `MatchOptions`, of a service that has weights of these names."""
    return (
        Field("weights", str, "name of the weights", weights[0], choices=weights),
        Field(
            "threshold", float, "confidence that a match must exceed; default: that of the weights",
            least=0, most=0.999,
        ),
        Field("top_k", int, "most matches, the most confident ones; default: all", least=1),
        Field(
            "resolution", int, "longer side of the images as the network sees them, px",
            min(MAX_SIDE, limits.side), MULTIPLE, limits.side,
        ),
        Field("rotation", str, "auto: quarter turns of image 1 are tried first", "none", choices=ROTATIONS),
        Field("estimate", str, "model of two views that is fitted to the matches; default: none", choices=KINDS),
        Field(
            "inlier_threshold", float,
            "error of an inlier, px of image 1 as sent; default: what 2 px are at the resolution", least=0, above=True,
        ),
        *focal_fields(),
    )  # fmt: skip


def keypoint_fields(weights: Sequence[str], limits: Limits) -> tuple[Field, ...]:
    """Return the fields of a request for the keypoints of one photograph."""
    return tuple(field for field in match_fields(weights, limits) if field.name in ("weights", "resolution"))


def focal_fields() -> tuple[Field, ...]:
    """Return the fields of the focal lengths."""
    what = f"focal length of image {{}}, px, for essential matrices; default: {FOCAL:g} longer sides"
    return tuple(Field(f"focal{side}", float, what.format(side), least=0, above=True) for side in (0, 1))


def estimate_fields() -> tuple[Field, ...]:
    """Return the fields, beside points and sizes, of a request for a model of points that are known."""
    return (
        Field("kind", str, "model of two views", "homography", choices=KINDS),
        Field("threshold", float, "error of an inlier, px of image 1", INLIER_THRESHOLD, 0, above=True),
        *focal_fields(),
    )


def read_fields(fields: Sequence[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every field.

    Raises:
        Refused: a value is out of range, or there is no such field.
    """
    names = [field.name for field in fields]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise Refused(BAD_INPUT, f"there is no field {one_line(unknown[0])!r}; there are {', '.join(names)}")
    return {field.name: field.read(given.get(field.name)) for field in fields}


def points_schema(what: str) -> dict[str, Any]:
    """Return the JSON schema of (M, 2) points."""
    point = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return {"type": "array", "items": point, "maxItems": MOST_POINTS, "description": what}
