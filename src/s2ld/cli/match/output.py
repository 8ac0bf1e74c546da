"""Matches as files: .npz for programs, .csv for tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2ld.files import whole_file
from s2ld.geometry.two_view import TwoView
from s2ld.types import Matches


def write_matches(stem: Path, matches: Matches, model: TwoView | None) -> None:
    """Write `stem`.npz and `stem`.csv.

    The .npz has `PER_MATCH` of `Matches` as float32 arrays and, where a model was estimated, `inliers` (M,) bool and
    the (3, 3) matrix under the model's name, NaN where none was found. The .csv has a line for each match.

    Raises:
        S2LDError: the files cannot be written.
    """
    columns: dict[str, NDArray[Any]] = {
        "x0": matches.points0[:, 0],
        "y0": matches.points0[:, 1],
        "x1": matches.points1[:, 0],
        "y1": matches.points1[:, 1],
        "confidence": matches.confidence,
        "score": matches.score,
    }
    formats = ["%.3f"] * 4 + ["%.5f"] * 2
    arrays: dict[str, Any] = {**matches.arrays()}
    if model is not None:
        columns["inlier"] = model.inliers
        formats.append("%d")
        arrays |= model.arrays()
    table = np.stack(list(columns.values()), 1) if len(matches) else np.zeros((0, len(columns)))
    npz, csv = (stem.parent / f"{stem.name}{suffix}" for suffix in (".npz", ".csv"))
    with whole_file(npz) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    with whole_file(csv) as part:
        np.savetxt(part, table, fmt=formats, delimiter=",", header=",".join(columns), comments="")
