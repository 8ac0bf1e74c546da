"""Matches that another program has written to files (`record_files`), as a matcher beside the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2ld.errors import S2LDError
from s2ld.evaluation.matchers.interface import MatchedPair
from s2ld.evaluation.predictions.record_files import HlocFiles, NpzFolder, PairGroups, RecordFiles
from s2ld.geometry.camera import PixelFrame, image_to_resized
from s2ld.log import logger
from s2ld.types import PairBatch, View

PointsIn = Literal["image", "resized"]
"""Px that recorded points count: of the photographs as given, or of the images as the data source resizes them."""
Missing = Literal["error", "none"]
"""What a pair without a record is: a mistake, or a pair without a match."""
FAR_OUTSIDE = 0.1
"""Of an image's longer side: points farther outside of it were recorded in other px."""
FORMS: Mapping[str, tuple[int, Callable[..., RecordFiles]]] = {
    "npz": (1, NpzFolder),
    "h5": (1, PairGroups),
    "hloc": (2, HlocFiles),
}
"""Name on the command line to the number of paths, and what opens them."""


class RecordedMatches:
    """Matches from files; called with a batch of one pair, whose names say which.

    Args:
        name: of its row in tables.
        records: where they lie.
        points_in: which px they count.
        missing: what a pair without a record is.
        frame: how image px become resized px: the inverse of how the evaluation takes them back.
    """

    def __init__(
        self, name: str, records: RecordFiles, points_in: PointsIn, missing: Missing, frame: PixelFrame
    ) -> None:
        self.name, self._records, self._points_in, self._missing, self._frame = name, records, points_in, missing, frame
        self.weights = f"matches from {name}"
        self.digest = _digest(records.files)
        self.settings = f"points in {points_in} px" + (", no record: no match" if missing == "none" else "")
        self.model = f"{self.settings}, {frame}"

    def check(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Look up the records of all pairs before any is used; with missing "none", print how many there are not.

        Raises:
            S2LDError: some are missing, or one would serve two pairs.
        """
        places: dict[str, tuple[str, str]] = {}
        missing = []
        for pair in dict.fromkeys(pairs):
            place = self._records.find(*pair)
            if place is None:
                missing.append(pair)
            elif place in places:
                both = " and ".join(" - ".join(names) for names in (places[place], pair))
                raise S2LDError(f"{self.name}: {place} would serve {both}; name records by their folders too")
            else:
                places[place] = pair
        if missing:
            text = f"{self.name}: no record of {len(missing)} of {len(pairs)} pairs, the first {' - '.join(missing[0])}"
            if self._missing == "error":
                raise S2LDError(f"{text}; add them, or count them as pairs without a match by --missing none")
            logger.warning("{}: they count as pairs without a match", text)

    def __call__(self, batch: PairBatch) -> MatchedPair:
        """Return the recorded matches of a batch of one pair, in resized px; `check` has seen that pair.

        Raises:
            S2LDError: the record is not of the documented form, or of other px.
        """
        names = batch.names[0]
        place = self._records.find(*names)
        if place is None:
            none = torch.zeros(0, 2)
            return MatchedPair(none, none, none[:, 0], none[:, 0], none, none)
        record, origin = self._records.read(place, *names), f"{self.name}, {place}"
        points0, keypoints0 = (self._resized(p, batch.view0, origin) for p in (record.points0, record.keypoints0))
        points1, keypoints1 = (self._resized(p, batch.view1, origin) for p in (record.points1, record.keypoints1))
        confidence = torch.from_numpy(record.confidence).float()
        return MatchedPair(points0, points1, confidence, torch.ones_like(confidence), keypoints0, keypoints1)

    def _resized(self, recorded: NDArray[np.float64], view: View, origin: str) -> Tensor:
        points = torch.from_numpy(recorded)
        if self._points_in == "image":
            points = image_to_resized(points, view.scale[0].double().cpu(), self._frame)
        height, width = view.images.image.shape[-2:]
        outside = torch.maximum(-points, points - torch.tensor([width, height])).amax(-1)
        if (outside > FAR_OUTSIDE * max(width, height)).any():
            x, y = points[outside.argmax()].tolist()
            raise S2LDError(
                f"{origin}: a point at ({x:.0f}, {y:.0f}) is far outside of its image of {width} x {height} px, "
                f"resized; give the px that it was recorded in by --points-in, not {self._points_in}"
            )
        return points.float()


def open_recorded(form: str, path: str, points_in: PointsIn, missing: Missing, frame: PixelFrame) -> RecordedMatches:
    """Open matches in files.

    Args:
        form: of `FORMS`.
        path: of the folder or file; of hloc the features and the matches, with a comma between.
        points_in: which px they count.
        missing: what a pair without a record is.
        frame: the evaluation's pixel frame.

    Raises:
        S2LDError: a file is missing or of another kind.
    """
    paths = [Path(part) for part in path.split(",")]
    number, build = FORMS[form]
    if len(paths) != number:
        raise S2LDError(f"{form}={path}: give {'FEATURES.h5,MATCHES.h5' if number == 2 else 'one path'}")
    return RecordedMatches(paths[-1].resolve().stem, build(*paths), points_in, missing, frame)


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
