"""What was found, as JSON and as .npz."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from s2ld.types import FloatArray
from s2ld.web.service import Fit, Keypoints, Matched

JSON, LINES, NPZ = "application/json", "application/x-ndjson", "application/x-npz"
"""Types of answers: an object; an object a line, progress first; numpy's arrays."""
_ALSO = {"*/*": JSON, "application/*": JSON, "application/octet-stream": NPZ, "application/zip": NPZ}
_DIGITS = 3  # of pixels; confidence has two more


def wanted_type(accept: str) -> str | None:
    """Return the first of the types of an Accept header that there is; JSON for an empty one, None for no such type."""
    for part in accept.split(","):
        name = part.partition(";")[0].strip().lower()
        if name in (JSON, LINES, NPZ) or name in _ALSO:
            return _ALSO.get(name, name)
    return None if accept.strip() else JSON


def matched_json(found: Matched) -> dict[str, Any]:
    """Return a matched pair for JSON; px of the photographs as sent, pixel centres at integers."""
    matches = found.matches
    return {
        "weights": found.weights,
        "size0": found.sizes[0],
        "size1": found.sizes[1],
        "resized0": found.resized[0],
        "resized1": found.resized[1],
        "seconds": round(found.seconds, 3),
        "points0": _numbers(matches.points0),
        "points1": _numbers(matches.points1),
        "confidence": _numbers(matches.confidence, _DIGITS + 2),
        "score": _numbers(matches.score, _DIGITS + 2),
        "model": None if found.fit is None else fit_json(found.fit),
    }


def fit_json(fit: Fit) -> dict[str, Any]:
    """Return a model for JSON; its matrix is None where none was found."""
    model, pose = fit.model, fit.model.pose
    return {
        "kind": model.kind,
        "threshold": fit.threshold,
        "matrix": None if model.matrix is None else model.matrix.tolist(),
        "inliers": model.inliers.tolist(),
        "share": float(model.inliers.mean()) if len(model.inliers) else 0.0,
        "rotation": None if pose is None else pose.R.tolist(),
        "translation": None if pose is None else pose.t.tolist(),
    }


def keypoints_json(found: Keypoints) -> dict[str, Any]:
    """Return keypoints for JSON."""
    return {"size": found.size, "points": _numbers(found.points), "scores": _numbers(found.scores, _DIGITS + 2)}


def matched_npz(found: Matched) -> bytes:
    """Return an .npz as `s2ld match` writes it."""
    arrays: dict[str, Any] = {**found.matches.arrays()}
    if found.fit is not None:
        arrays |= found.fit.model.arrays()
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _numbers(values: FloatArray, digits: int = _DIGITS) -> list[Any]:
    return list(np.round(values.astype(np.float64), digits).tolist())
