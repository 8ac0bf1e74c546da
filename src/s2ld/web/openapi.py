"""The OpenAPI document of the interface, made of the tables that requests are checked by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s2ld import __version__
from s2ld.web.answers import JSON, LINES, NPZ
from s2ld.web.fields import Field, estimate_fields, points_schema
from s2ld.web.limits import BUSY, MOST_POINTS, Limits

Schema = dict[str, Any]
_MULTIPART = "multipart/form-data"
_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
_SIZE: Schema = {
    "type": "array",
    "items": {"type": "integer"},
    "minItems": 2,
    "maxItems": 2,
    "description": "[width, height], px, upright",
}
_MATRIX: Schema = {"type": ["array", "null"], "items": _NUMBERS}


def document(match: Sequence[Field], keypoints: Sequence[Field], limits: Limits) -> Schema:
    """Return the document.

    Args:
        match: fields of a pair.
        keypoints: fields of one photograph.
        limits: which it tells.
    """
    paths = {
        "/match": _post(
            "Match two photographs",
            "Points are in px of the photographs as sent, upright, pixel centres at integers. Accept chooses the "
            f"answer: {JSON}; {NPZ}, the arrays that `s2ld match` writes; or {LINES}, an object a line: `waiting` "
            "(requests that come first), `step`, at last `result` or `error`.",
            {_MULTIPART: _form({"image0": _file("first photograph"), "image1": _file("second photograph")}, match)},
            {JSON: _ref("Matches"), NPZ: _file("arrays"), LINES: {"type": "string"}},
        ),
        "/keypoints": _post(
            "Detect the keypoints of a photograph",
            "One for each 8 x 8 px of the resized image, by falling score.",
            {_MULTIPART: _form({"image": _file("photograph")}, keypoints)},
            {JSON: _ref("Keypoints")},
        ),
        "/estimate": _post(
            "Fit a model of two views to matches",
            "For matches that are known already, e.g. those of /match above another threshold.",
            {JSON: _ref("Points")},
            {JSON: _ref("Model")},
        ),
        "/preview": _post(
            "A photograph as JPEG",
            "Upright and small enough to be shown; X-Width and X-Height tell its own size.",
            {_MULTIPART: _form({"image": _file("photograph")}, ())},
            {"image/jpeg": _file("picture")},
        ),
    }
    info = {"title": "S2LD", "version": __version__, "description": _bounds(limits)}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": _schemas()}}


def _bounds(limits: Limits) -> str:
    return (
        f"Matches, keypoints and models of two photographs. A file may have {limits.megabytes:g} MB and "
        f"{limits.megapixels:g} megapixels; its type is told by its content. {limits.requests} requests may be here at "
        f"once and are answered in the order in which they came; more are refused with {BUSY}. Nothing that is sent is "
        "kept."
    )


def _post(summary: str, what: str, takes: dict[str, Schema], gives: dict[str, Schema]) -> Schema:
    def content(types: dict[str, Schema]) -> Schema:
        return {name: {"schema": schema} for name, schema in types.items()}

    reasons = {"408": "too slow", "413": "too large", "415": "another type", "422": "bad input", str(BUSY): "too many"}
    responses = {"200": {"description": "done", "content": content(gives)}}
    responses |= {
        status: {"description": f"{reason}; one line", "content": content({JSON: _ref("Error")})}
        for status, reason in reasons.items()
    }
    body = {"required": True, "content": content(takes)}
    return {"post": {"summary": summary, "description": what, "requestBody": body, "responses": responses}}


def _form(files: dict[str, Schema], fields: Sequence[Field]) -> Schema:
    properties = files | {field.name: field.schema() for field in fields}
    return {"type": "object", "required": list(files), "properties": properties}


def _file(what: str) -> Schema:
    return {"type": "string", "format": "binary", "description": what}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _schemas() -> dict[str, Schema]:
    points = {f"points{side}": points_schema(f"(M, 2) px of image {side}") for side in (0, 1)}
    sizes: dict[str, Schema] = {f"size{side}": _SIZE for side in (0, 1)}
    resized: dict[str, Schema] = {f"resized{side}": _SIZE for side in (0, 1)}
    model: dict[str, Schema] = {
        "kind": {"type": "string"},
        "threshold": {"type": "number", "description": "error of an inlier, px of image 1"},
        "matrix": {**_MATRIX, "description": "(3, 3); x1 ~ H x0, or x1' F x0 = 0; null: none was found"},
        "inliers": {"type": "array", "items": {"type": "boolean"}, "description": "(M,)"},
        "share": {"type": "number", "description": "of inliers, in [0, 1]"},
        "rotation": {**_MATRIX, "description": "(3, 3) of the second camera; null unless essential"},
        "translation": {"type": ["array", "null"], "items": {"type": "number"}, "description": "(3,) direction"},
    }
    matches = {"weights": {"type": "string"}, **sizes, **resized, "seconds": {"type": "number"}, **points}
    matches |= {"confidence": _NUMBERS, "score": _NUMBERS, "model": {"anyOf": [_ref("Model"), {"type": "null"}]}}
    asked = _object(points | sizes)
    asked["properties"] |= {field.name: field.schema() for field in estimate_fields()}
    asked["description"] = f"at most {MOST_POINTS} matches"
    keypoints: dict[str, Schema] = {"size": _SIZE, "points": points_schema("(P, 2) px"), "scores": _NUMBERS}
    del keypoints["points"]["maxItems"]
    return {
        "Matches": _object(matches),
        "Model": _object(model),
        "Points": asked,
        "Keypoints": _object(keypoints),
        "Error": _object({"error": {"type": "string", "description": "one line: what is wrong, and the remedy"}}),
    }
