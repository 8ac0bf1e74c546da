"""A matcher from what a user writes on the command line."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch

from s2ld.errors import S2LDError
from s2ld.evaluation.matchers.interface import PairMatcher
from s2ld.evaluation.matchers.kornia_matchers import KORNIA, KorniaMatcher
from s2ld.evaluation.matchers.other_matchers import OTHERS
from s2ld.evaluation.matchers.recorded import FORMS, Missing, PointsIn, RecordedMatches, open_recorded
from s2ld.geometry.camera import PixelFrame

NAMES = (*OTHERS, *KORNIA, *FORMS)
"""What `build_matcher` knows."""


def build_matcher(
    text: str, device: torch.device, frame: PixelFrame, points_in: PointsIn | None = None, missing: Missing = "error"
) -> PairMatcher | RecordedMatches:
    """Build the matcher of a text NAME or NAME=PATH[,PATH].

    Args:
        text: name of `NAMES`; the paths are weights (kornia-...) or files of matches.
        device: where a network runs.
        frame: the evaluation's pixel frame, for matches from files.
        points_in: which px the points in files count; nobody can guess it, so that None is an error there.
        missing: what a pair without a record in the files is.

    Raises:
        S2LDError: unknown name, or what the matcher says of its files.
    """
    name, _, path = text.partition("=")
    if name in OTHERS and not path:
        return OTHERS[name](device)
    if name in KORNIA:
        return KorniaMatcher(name, [Path(part) for part in path.split(",") if part], device)
    if name in FORMS:
        if points_in is None:
            raise S2LDError(
                f"--matcher {text}: say which px its points count by --points-in image (of the photographs) or "
                "--points-in resized (of the images as the data source resizes them)"
            )
        return open_recorded(name, path, points_in, missing, frame)
    near = difflib.get_close_matches(name, NAMES, 1, 0)
    reason = f"{name} takes no path" if name in OTHERS else f"there is no such matcher; is it {near[0]}?"
    raise S2LDError(f"--matcher {text}: {reason} (NAME or NAME=PATH, of {', '.join(NAMES)})")
